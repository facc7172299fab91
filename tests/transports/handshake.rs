//! Who is there: tokens, and what is said before anybody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use throughline::frame::Json;
use throughline::server::{Attempt, Denied, Grant};
use throughline::{CloseCode, ConnectError, Freshness};

use crate::pair::{House, Lane, Pair, Setup, recv_all, send_all, small, until};
use crate::support::{Wire, within};

/// Takes tokens that begin with a name and `/ok`; `/soon` runs out in a moment: a quarter of it is left
/// for the fresh one, on a busy machine too.
async fn judge(token: Option<String>) -> Result<Grant, Denied> {
    let token = token.ok_or(Denied::Unauthorized("no token".into()))?;
    match token.split_once('/') {
        Some((name, "ok")) => Ok(Grant::to(name)),
        Some((name, "soon")) => Ok(Grant::to(name).expires_in(Duration::from_millis(1500))),
        _ => Err(Denied::Unauthorized("not with this".into())),
    }
}

async fn house(setup: &Setup) -> House {
    let authenticator =
        |attempt: &Attempt<'_>| judge(attempt.auth().and_then(|auth| auth.to::<String>().ok()));
    House::new(setup.server.clone().authenticator(authenticator)).await
}

pub(crate) async fn a_token_names_the_principal(lane: Lane) {
    let setup = Setup::new(lane);
    let mut house = house(&setup).await;
    let wire = Wire::to(house.served.address).await;
    let client = setup.client(wire.url()).token(|_| async { Ok(Json::of("alice/ok")?) });
    let client = within(10, "connect", client.connect()).await.unwrap();
    let server = house.socket().await;
    assert_eq!(server.principal().map(|principal| principal.as_str()), Some("alice"));
    let mut pair = Pair { client, server, wire, house };
    pair.talk(0, 5).await;
    pair.wire.cut();
    pair.talk(5, 5).await;
    pair.end().await;
}

pub(crate) async fn a_wrong_token_is_refused(lane: Lane) {
    let setup = Setup::new(lane);
    let house = house(&setup).await;
    for token in [Some("alice/wrong"), None] {
        let mut client = setup.client(house.served.url());
        if let Some(token) = token {
            client = client.token(move |_| async move { Ok(Json::of(token)?) });
        }
        let refused = within(10, "an answer", client.connect()).await.unwrap_err();
        assert!(
            matches!(&refused, ConnectError::Refused(close) if close.code == CloseCode::Unauthorized),
            "{refused:?}"
        );
    }
    assert_eq!((house.runs(), house.server.sessions()), (0, 0));
}

pub(crate) async fn a_token_that_runs_out_is_replaced(lane: Lane) {
    let setup = Setup::new(lane);
    let mut house = house(&setup).await;
    let wire = Wire::to(house.served.address).await;
    let fresh = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&fresh);
    let client = setup.client(wire.url()).token(move |freshness| {
        let fresh = freshness == Freshness::Fresh;
        asked.fetch_add(u64::from(fresh), SeqCst);
        async move { Ok(Json::of(if fresh { "alice/ok" } else { "alice/soon" })?) }
    });
    let client = within(10, "connect", client.connect()).await.unwrap();
    let server = house.socket().await;
    let mut pair = Pair { client, server, wire, house };
    let mut number = 0;
    // All the while messages pass, and none is lost when the token runs out.
    while fresh.load(SeqCst) == 0 {
        pair.talk(number, 5).await;
        number += 5;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pair.talk(number, 20).await;
    assert_eq!(fresh.load(SeqCst), 1);
    pair.end().await;
}

pub(crate) async fn messages_may_be_sent_before_the_connection(lane: Lane) {
    let setup = Setup::new(lane);
    let mut house = House::new(setup.server.clone()).await;
    let wire = Wire::to(house.served.address).await;
    wire.refuse(true);
    let client = setup.client(wire.url()).start().unwrap();
    send_all(&client.sender(), (0..200).map(small)).await;
    wire.refuse(false);
    let mut server = house.socket().await;
    within(10, "all arrive", recv_all("server", &mut server, (0..200).map(small))).await;
    until("the client knows", || matches!(client.state(), throughline::State::Connected { .. })).await;
    let mut pair = Pair { client, server, wire, house };
    pair.talk(0, 5).await;
    pair.end().await;
}
