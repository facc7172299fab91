//! The example `notifications`, whatever keeps them.

use throughline::{CloseCode, Hub, Rooms};

use crate::journey::nobody_is_served;
use crate::notifications::{Fate, Notification, connect, next, server, tell};
use crate::support::{Served, within};

/// Tells, and waits until the one who told has gone.
async fn says(served: &Served, hub: &Hub, text: &str, expected: Fate) {
    let before = hub.sessions();
    let socket = connect(&served.url(), "ada").await.unwrap();
    let fate = within(40, "it is told", tell(socket, "bob", text)).await.unwrap();
    assert_eq!(fate, expected, "{text}");
    let gone = async {
        while hub.sessions() > before {
            tokio::task::yield_now().await;
        }
    };
    within(20, "she goes", gone).await;
}

async fn hears(rooms: &mut Rooms, text: &str) {
    let notification = within(40, text, next(rooms)).await.unwrap();
    assert_eq!(notification, Notification { from: "ada".to_owned(), text: text.to_owned() });
}

pub(crate) async fn notifications_wait_for_who_is_away(hub: Hub) {
    let served = Served::new(&server(hub.clone()).unwrap()).await;
    says(&served, &hub, "one", Fate::Kept).await;
    says(&served, &hub, "two", Fate::Kept).await;
    let mut bob = Rooms::over(connect(&served.url(), "bob").await.unwrap());
    hears(&mut bob, "one").await;
    hears(&mut bob, "two").await;
    says(&served, &hub, "three", Fate::Sent).await;
    hears(&mut bob, "three").await;
    bob.close(CloseCode::Normal, "");
    nobody_is_served(&hub).await;
    says(&served, &hub, "four", Fate::Kept).await;
    let mut bob = Rooms::over(connect(&served.url(), "bob").await.unwrap());
    hears(&mut bob, "four").await;
}
