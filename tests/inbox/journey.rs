//! What an inbox keeps, from the hub that keeps it to the client that receives it.

use std::time::Duration;

use throughline::client::rooms::Event;
use throughline::frame::{Body, TransportKind};
use throughline::hub::{Delivery, Hub, Inbox, InboxBounds};
use throughline::{CloseCode, Principal, Rooms};

use crate::stage::Stage;
use crate::support::within;

/// Those of the inboxes that are given to these journeys.
pub(crate) const BOUNDS: InboxBounds =
    InboxBounds { messages: 40, bytes: 1 << 20, total_bytes: 1 << 20, age: Duration::from_secs(3_600) };

fn ada() -> Principal {
    Principal::new("ada")
}

/// What was kept, next.
pub(crate) async fn kept(rooms: &mut Rooms) -> Body {
    match within(40, "what was kept", rooms.recv()).await.unwrap() {
        Event::Kept(body) => body,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn nobody_is_served(hub: &Hub) {
    let look = async {
        while hub.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(20, "all have gone", look).await;
}

pub(crate) async fn once_and_in_order(inbox: impl Inbox) {
    let stage = Stage::new(Hub::builder().inbox(inbox).build()).await;
    for number in 0..40_u8 {
        assert_eq!(stage.hub.deliver(&ada(), vec![b'$', number]).await.unwrap(), Delivery::Kept);
    }
    assert!(stage.hub.deliver(&ada(), "one too many").await.is_err());
    assert_eq!(stage.hub.deliver(&Principal::new("bob"), "for bob").await.unwrap(), Delivery::Kept);
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    for number in 0..40_u8 {
        if number == 5 {
            stage.wire.cut();
        }
        assert_eq!(kept(&mut rooms).await, Body::from(vec![b'$', number]));
    }
    assert_eq!(stage.hub.deliver(&ada(), "now").await.unwrap(), Delivery::Sent(1));
    assert!(
        matches!(rooms.recv().await.unwrap(), Event::Message(message) if message.body == Body::from("now"))
    );
    // Another session of hers finds nothing left, and what is kept for others is theirs.
    rooms.close(CloseCode::Normal, "");
    nobody_is_served(&stage.hub).await;
    assert_eq!(stage.hub.deliver(&ada(), "later").await.unwrap(), Delivery::Kept);
    let mut rooms = stage.connect("ada", TransportKind::ALL).await;
    assert_eq!(kept(&mut rooms).await, Body::from("later"));
    let mut bob = stage.connect("bob", TransportKind::ALL).await;
    assert_eq!(kept(&mut bob).await, Body::from("for bob"));
}

pub(crate) async fn from_session_to_session(inbox: impl Inbox) {
    let stage = Stage::new(Hub::builder().inbox(inbox).build()).await;
    for number in 0..3_u8 {
        stage.hub.deliver(&ada(), vec![number]).await.unwrap();
    }
    // It is ended while some are on their way or still wait.
    let mut first = stage.connect("ada", [TransportKind::WebSocket]).await;
    assert_eq!(kept(&mut first).await, Body::from(vec![0]));
    stage.server().close(first.id(), CloseCode::Normal, "enough");
    while let Ok(event) = within(20, "it ends", first.recv()).await {
        assert!(matches!(event, Event::Kept(_)), "{event:?}");
    }
    nobody_is_served(&stage.hub).await;
    assert_eq!(stage.hub.deliver(&ada(), vec![3]).await.unwrap(), Delivery::Kept);
    let mut second = stage.connect("ada", TransportKind::ALL).await;
    // What the first has received may come again only if its receipt was lost; nothing is left out.
    let mut last = kept(&mut second).await.as_bytes()[0];
    while last < 3 {
        let next = kept(&mut second).await.as_bytes()[0];
        assert_eq!(next, last + 1);
        last = next;
    }
}

/// Few messages, each told by a socket that drops no repeats.
pub(crate) async fn few_by_hand(inbox: impl Inbox) {
    const COUNT: u64 = 4;
    let stage = Stage::new(Hub::builder().inbox(inbox).build()).await;
    for number in 0..COUNT {
        stage.hub.deliver(&ada(), Body::json(&number).unwrap()).await.unwrap();
    }
    let client = crate::stage::client(&stage.wire, "ada", TransportKind::ALL);
    let mut socket = within(10, "connects", client.connect()).await.unwrap();
    for number in 0..COUNT {
        let message = within(40, "what was kept", socket.recv()).await.unwrap();
        let kept: serde_json::Value = message.body.to().unwrap();
        assert_eq!((&kept["$"], kept["body"].as_u64()), (&"kept".into(), Some(number)));
    }
    // All that is sent comes before this.
    assert_eq!(stage.hub.to_principal(&ada(), "last").unwrap(), 1);
    assert_eq!(within(10, "the last", socket.recv()).await.unwrap().body, Body::from("last"));
}
