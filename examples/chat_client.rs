//! A chat in the terminal, to watch a session outlive its transports.
//!
//! `cargo run --example chat_client -- http://127.0.0.1:3000/live [--transport websocket|sse|long-polling]
//! [--encoding json|binary] [--name NAME]`
//!
//! Each line is sent to the room. `/transport KIND` moves the session, `/drop` cuts its transport as a dead network
//! would, `/state` says what carries it, `/quit` or the end of the input closes it in order.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::Instant;

use serde::Deserialize;
use throughline::frame::{Body, CloseCode, Encoding, TransportKind};
use throughline::socket::RecvError;
use throughline::{Client, Socket, State};
use tokio::sync::mpsc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: chat_client URL [--transport websocket|sse|long-polling] \
                     [--encoding json|binary] [--name NAME]";

struct Options {
    url: String,
    transport: Option<TransportKind>,
    encoding: Encoding,
    name: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let url = args.next().filter(|url| !url.starts_with('-')).ok_or(USAGE)?;
        let name = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
        let mut options = Self { url, transport: None, encoding: Encoding::Json, name };
        while let Some(option) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match (option.as_str(), value.as_str()) {
                ("--transport", word) => options.transport = Some(word.parse()?),
                ("--encoding", "json") => options.encoding = Encoding::Json,
                ("--encoding", "binary") => options.encoding = Encoding::Binary,
                ("--name", _) => options.name = value,
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

/// What the chat's server sends.
#[derive(Deserialize)]
struct Line {
    from: String,
    text: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut client = Client::builder(options.url.as_str()).encoding(options.encoding);
    if let Some(first) = options.transport {
        let others = TransportKind::ALL.into_iter().filter(|kind| *kind != first);
        client = client.transports([first].into_iter().chain(others));
    }
    let mut socket = client.start()?;
    if let Some(first) = options.transport {
        // What is asked for by name stays first, whatever the server would rather have.
        socket.move_to(first);
    }
    let mut watch = socket.watch();
    report(&watch.state());
    let mut input = Some(lines());
    loop {
        tokio::select! {
            state = watch.changed() => if !matches!(state, State::Closed { .. }) {
                report(&state);
            },
            received = socket.recv() => match received {
                Ok(message) => show(&message.body),
                Err(RecvError::Lost(ended)) => {
                    let unknown = ended.undelivered.len();
                    println!("* the server lost the session ({}); {unknown} messages of unknown fate", ended.close);
                }
                // The state says how: all that came before the end has been shown.
                Err(_) => {
                    report(&socket.state());
                    return finish(&socket);
                }
            },
            line = next(&mut input) => match line {
                Some(line) => obey(&socket, &options.name, line.trim()).await?,
                None => {
                    input = None;
                    socket.close(CloseCode::Normal, "");
                }
            },
        }
    }
}

/// Whether the session ended as it was meant to.
fn finish(socket: &Socket) -> Result<(), BoxError> {
    match socket.state() {
        State::Closed { close } if close.code == CloseCode::Normal => Ok(()),
        State::Closed { close } => Err(close.to_string().into()),
        state => Err(format!("not closed: {state:?}").into()),
    }
}

/// Does what a line says.
async fn obey(socket: &Socket, name: &str, line: &str) -> Result<(), BoxError> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("", _) => {}
        ("/quit", _) => socket.close(CloseCode::Normal, ""),
        ("/drop", _) => socket.cut(),
        ("/state", _) => report(&socket.state()),
        ("/transport", kind) => match kind.trim().parse() {
            Ok(kind) => socket.move_to(kind),
            Err(error) => println!("* {error}"),
        },
        (word, _) if word.starts_with('/') => println!("* no such command: {word}"),
        _ => {
            let body = Body::json(&serde_json::json!({ "from": name, "text": line }))?;
            if let Err(error) = socket.send(body).await {
                println!("* not sent: {error}");
            }
        }
    }
    Ok(())
}

fn show(body: &Body) {
    match body.to::<Line>() {
        Ok(Line { from, text }) => println!("{from}: {text}"),
        // Not this example's server, but what it says may be of interest.
        Err(_) => println!("{body}"),
    }
}

fn report(state: &State) {
    match state {
        State::Connecting => println!("* connecting"),
        State::Connected { transport } => println!("* connected via {transport}"),
        State::Reconnecting { reason, retry_at: Some(at) } => {
            let wait = at.saturating_duration_since(Instant::now());
            println!("* reconnecting ({reason}), next try in {:.1} s", wait.as_secs_f64());
        }
        State::Reconnecting { reason, retry_at: None } => println!("* reconnecting ({reason})"),
        State::Closed { close } => println!("* closed ({close})"),
        state => println!("* {state:?}"),
    }
}

/// The next line; waits for ever once the input has ended.
async fn next(input: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match input {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

/// The lines of the standard input, read by a thread of their own: such a read cannot be given up.
fn lines() -> mpsc::Receiver<String> {
    let (tell, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
