//! What goes through a box: numbered messages both ways, in bursts with silences between, and answers that tell the order
//! of arrival.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use throughline::client::Builder;
use throughline::socket::RecvError;
use throughline::{Body, ConnectError, Hub, Sender, Server, Socket, State, TransportKind};
use tokio::time::{sleep, timeout};

/// How many messages go each way in a burst, how many bursts there are, and how long it is silent between them: longer
/// than the idle limits of the boxes.
const BURST: u64 = 100;
const BURSTS: u64 = 3;
const SILENCE: Duration = Duration::from_secs(4);

/// How long a whole conversation may take.
const PATIENCE: Duration = Duration::from_secs(75);

/// A message: its number, in answers when it came, and some weight.
#[derive(Debug, Serialize, Deserialize)]
struct Numbered {
    n: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    i: Option<u64>,
    #[serde(default)]
    pad: String,
}

fn numbered(n: u64, i: Option<u64>) -> Body {
    // A burst is more than a body of 64 KiB takes, and a message never is.
    let weight = if n % 20 == 7 { 40_000 } else { 1_000 };
    Body::json(&Numbered { n, i, pad: "x".repeat(weight) }).unwrap()
}

/// How heavy what a client sends is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Usual,
    /// Messages larger than a body of 64 KiB takes.
    Heavy,
}

async fn send(sender: Sender, load: Load) {
    if load == Load::Heavy {
        let heavy = Numbered { n: 0, i: None, pad: "x".repeat(100_000) };
        // Whoever reads hears how that ends.
        let _ = sender.send(Body::json(&heavy).unwrap()).await;
    }
    for burst in 0..BURSTS {
        if burst > 0 {
            sleep(SILENCE).await;
        }
        for n in burst * BURST..(burst + 1) * BURST {
            if sender.send(numbered(n, None)).await.is_err() {
                return;
            }
        }
    }
}

/// A server that sends as its clients do, and answers what they send.
pub(crate) fn server() -> Server {
    let handler = async |mut socket: Socket, _: Hub| {
        let sending = tokio::spawn(send(socket.sender(), Load::Usual));
        let mut arrived = 0;
        while let Ok(message) = socket.recv().await {
            let n = message.body.to::<Numbered>().unwrap().n;
            if socket.send(numbered(n, Some(arrived))).await.is_err() {
                break;
            }
            arrived += 1;
        }
        sending.abort();
    };
    Server::builder().serve(handler).unwrap()
}

/// What came of a conversation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All came, once and in order, both ways.
    Passed { open: Duration, first: Duration, whole: Duration, carried_by: Vec<TransportKind> },
    /// One typed error, and when it came.
    Failed { error: String, after: Duration },
    /// What must not be.
    Broken(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { open, first, whole, carried_by } => {
                let kinds: Vec<_> = carried_by.iter().map(|kind| kind.as_str()).collect();
                write!(
                    f,
                    "works: open after {open:.1?}, first message {first:.1?}, all in {whole:.1?}, by {}",
                    kinds.join(", ")
                )
            }
            Self::Failed { error, after } => write!(f, "error after {after:.1?}: {error}"),
            Self::Broken(what) => write!(f, "BROKEN: {what}"),
        }
    }
}

/// The whole conversation of one client.
pub(crate) async fn converse(builder: Builder, load: Load) -> Outcome {
    let begun = Instant::now();
    let mut carried_by = Vec::new();
    match timeout(PATIENCE, talk(builder, load, begun, &mut carried_by)).await {
        Ok(Ok((open, first))) => Outcome::Passed { open, first, whole: begun.elapsed(), carried_by },
        Ok(Err(outcome)) => outcome,
        Err(_) => Outcome::Broken(format!("it hangs; carried by {carried_by:?}")),
    }
}

async fn talk(
    builder: Builder,
    load: Load,
    begun: Instant,
    carried_by: &mut Vec<TransportKind>,
) -> Result<(Duration, Duration), Outcome> {
    let failed = |error: String| Outcome::Failed { error, after: begun.elapsed() };
    let mut socket = builder.connect().await.map_err(|error: ConnectError| failed(error.to_string()))?;
    let (open, mut first) = (begun.elapsed(), None);
    let sending = tokio::spawn(send(socket.sender(), load));
    let (mut downs, mut ups, mut watch) = (0, 0, socket.watch());
    if let State::Connected { transport } = watch.state() {
        carried_by.push(transport);
    }
    while downs < BURST * BURSTS || ups < BURST * BURSTS {
        let message = tokio::select! {
            message = socket.recv() => message,
            state = watch.changed() => {
                if let State::Connected { transport } = state {
                    carried_by.push(transport);
                }
                continue;
            }
        };
        let message = match message {
            Ok(message) => message.body.to::<Numbered>().unwrap(),
            Err(RecvError::Lost(ended) | RecvError::Ended(ended)) => {
                return Err(failed(ended.close.to_string()));
            }
            Err(error) => return Err(Outcome::Broken(error.to_string())),
        };
        first.get_or_insert_with(|| begun.elapsed());
        match message.i {
            Some(i) if (message.n, i) == (ups, ups) => ups += 1,
            None if message.n == downs => downs += 1,
            i => {
                let what = format!("{} {i:?} came, after {downs} downs and {ups} ups", message.n);
                return Err(Outcome::Broken(what));
            }
        }
    }
    sending.await.unwrap();
    socket.close(throughline::CloseCode::Normal, "enough");
    Ok((open, first.unwrap_or_default()))
}
