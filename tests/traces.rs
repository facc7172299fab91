//! What is told to a subscriber of `tracing`, and that nothing is where there is none.
//!
//! In a process of its own: while there is one subscriber only, `tracing` asks the thread that comes first whether anybody
//! listens, for all threads and for good; here each thread has a subscriber.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they expect by panicking")]

#[expect(dead_code, reason = "it serves other tests too")]
#[path = "client/host.rs"]
mod host;
#[path = "support/serving.rs"]
mod serving;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use throughline::frame::TransportKind;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use host::{Host, client, echo, text, watchdog};

type Fields = BTreeMap<&'static str, String>;

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

#[derive(Default)]
struct Told {
    /// Each span and how often it is held.
    spans: Vec<(Fields, usize)>,
    inside: Vec<u64>,
    /// Each with the span that it was told in.
    events: Vec<(Fields, Option<u64>)>,
}

/// Keeps what this crate tells, down to a level.
#[derive(Clone)]
struct Listener {
    told: Arc<Mutex<Told>>,
    down_to: Level,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("throughline") && *metadata.level() <= self.down_to
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::from([("name", span.metadata().name().to_owned())]);
        span.record(&mut Reader(&mut fields));
        let mut told = self.told.lock().unwrap();
        told.spans.push((fields, 1));
        Id::from_u64(told.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        let mut told = self.told.lock().unwrap();
        let inside = told.inside.last().copied();
        told.events.push((fields, inside));
    }

    fn enter(&self, span: &Id) {
        self.told.lock().unwrap().inside.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.told.lock().unwrap().inside.pop(), Some(span.into_u64()));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.told.lock().unwrap().spans[span.into_u64() as usize - 1].1 += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let held = &mut self.told.lock().unwrap().spans[span.into_u64() as usize - 1].1;
        *held -= 1;
        *held == 0
    }
}

/// A session that moves from a WebSocket to long-polling, as it is told down to a level; and its id.
async fn told(down_to: Level) -> (Told, String) {
    let listener = Listener { told: Arc::default(), down_to };
    let told = Arc::clone(&listener.told);
    // Of this thread, which is the only one of this test's runtime.
    let listening = tracing::subscriber::set_default(listener);
    let server = echo();
    let host = Host::serve(server.clone()).await;
    let mut socket = watchdog(client(host.addr()).connect()).await.unwrap();
    let id = socket.id().to_string();
    socket.move_to(TransportKind::LongPolling);
    host::until(&socket, &throughline::State::Connected { transport: TransportKind::LongPolling }).await;
    socket.send("hello").await.unwrap();
    assert_eq!(text(&mut socket).await, "hello");
    drop(socket);
    watchdog(server.shutdown("enough", std::time::Duration::from_secs(20))).await;
    drop(host);
    drop(listening);
    (std::mem::take(&mut *told.lock().unwrap()), id)
}

#[tokio::test]
async fn each_attachment_has_a_span_at_either_end_and_events_name_their_session() {
    let (told, id) = told(Level::TRACE).await;
    let spans: BTreeSet<_> = told
        .spans
        .iter()
        .map(|(fields, _)| {
            assert_eq!((fields["name"].as_str(), &fields["session"]), ("attachment", &id));
            ["role", "transport", "attachment"].map(|field| fields[field].as_str())
        })
        .collect();
    let expected = ["client", "server"].map(|role| [[role, "websocket", "1"], [role, "long-polling", "2"]]);
    assert_eq!(spans, expected.into_iter().flatten().collect());
    let attached =
        |(fields, _): &&(Fields, Option<u64>)| fields.get("message").is_some_and(|m| m == "attached");
    assert!(told.events.iter().filter(attached).count() >= 4);
    for (fields, inside) in &told.events {
        let of_process = fields["message"] == "shutting down";
        assert!(of_process || fields.get("session") == Some(&id) || inside.is_some(), "{fields:?}");
    }
}

#[tokio::test]
async fn nothing_is_told_to_who_is_not_interested() {
    let (told, _) = told(Level::WARN).await;
    assert!(told.spans.is_empty() && told.events.is_empty(), "{:?}", told.events);
}
