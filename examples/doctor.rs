//! What to run when it does not work from the office.
//!
//! ```text
//! doctor serve ADDR N SECS
//! doctor call URL TRANSPORT N SECS [--report] [--proxy URL] [--ca FILE]
//! ```
//!
//! TRANSPORT is `auto`, `websocket`, `sse` or `long-polling`. Each end sends N numbered messages, `{"n":0}` and on,
//! spread over SECS with a silence of 6 s in the middle; the server answers each with `{"n":…,"i":…}`, where `i` counts
//! arrivals from 0. The caller prints a JSON object per line:
//!
//! ```text
//! {"ev":"open","transport":"sse"}    the session is usable, or usable again
//! {"ev":"down","n":0}                a message of the server's
//! {"ev":"up","n":0,"i":0}            an answer of the server's: message n was the i-th to arrive
//! {"ev":"error","code":"…"}          at most once: why it is over
//! {"ev":"end"}                       nothing comes behind this
//! ```
//!
//! `--proxy` and `--ca` name a proxy's URL and a file of further roots; they need the features `proxy` and `tls`. Without
//! `--proxy` the environment counts (`HTTPS_PROXY` and its like).
//!
//! With `--report` it tries each transport by itself first, and tells people instead: what was tried, how it went and how
//! long it took, what was settled on and why, and what an administrator could change. All of that is what
//! [`Socket::transport_history`] says, which any application can show. It exits with 0 when every message came through.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use throughline::client::{Builder, MemoryVerdicts};
use throughline::socket::{Passage, RecvError};
use throughline::{Body, Client, CloseCode, ConnectError, Hub, Sender, Server, Socket, State, TransportKind};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

#[path = "support/listening.rs"]
mod listening;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: doctor serve ADDR N SECS\n       \
                     doctor call URL auto|websocket|sse|long-polling N SECS [--report] [--proxy URL] [--ca FILE]";

/// The silence in the middle: longer than the short idle limits of boxes on the way.
const SILENCE: Duration = Duration::from_secs(6);

/// How long the first connection may take, and how long nothing may come later, beside the pauses between messages.
const CONNECT_WITHIN: Duration = Duration::from_millis(8500);
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a transport that is tried by itself may take.
const TRIAL: Duration = Duration::from_secs(5);

/// What goes over the wire, and in answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Numbered {
    n: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    i: Option<u64>,
}

/// What the caller prints.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "ev", rename_all = "lowercase")]
enum Line {
    Open { transport: TransportKind },
    Down { n: u64 },
    Up { n: u64, i: u64 },
    Error { code: String },
    End,
}

/// What became of a call, and what its socket told of its transports.
struct Course {
    ended: Result<(), Failure>,
    history: Vec<Passage>,
}

/// Why a call is over before its time: a word for programs, a sentence for people.
struct Failure {
    code: String,
    reason: String,
}

impl Failure {
    fn new(code: impl Into<String>, reason: impl ToString) -> Self {
        Self { code: code.into(), reason: reason.to_string() }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match &error {
            ConnectError::InvalidUrl { .. } => "invalid_url",
            ConnectError::Invalid { .. } => "invalid_setup",
            ConnectError::NeedsTls => "tls_unsupported",
            ConnectError::NoTls(_) => "no_tls",
            ConnectError::ProxyAuthentication { .. } => "proxy_auth_required",
            ConnectError::Untrusted { .. } => "certificate_untrusted",
            ConnectError::Unreachable { .. } => "unreachable",
            ConnectError::Refused(close) => close.code.as_str(),
            _ => "internal_error",
        };
        Self::new(code, &error)
    }
}

/// How much is sent, and when.
#[derive(Clone, Copy)]
struct Dose {
    count: u64,
    spread: Duration,
}

impl Dose {
    /// How long nothing may come: the longest pause between two messages, and what it takes to find another way.
    fn patience(self) -> Duration {
        PATIENCE + SILENCE + self.spread.mul_f64(1.0 / self.count.max(1) as f64)
    }

    /// Sends the numbered messages, each in its time.
    async fn send(self, sender: &Sender) {
        let begun = Instant::now();
        let busy = self.spread.saturating_sub(SILENCE);
        for n in 0..self.count {
            let silence = if n > 0 && n >= self.count / 2 { SILENCE } else { Duration::ZERO };
            sleep_until(begun + busy.mul_f64(n as f64 / self.count as f64) + silence).await;
            let Ok(body) = Body::json(&Numbered { n, i: None }) else { return };
            if sender.send(body).await.is_err() {
                return;
            }
        }
    }
}

/// The server's end of a session.
async fn examine(mut socket: Socket, dose: Dose) {
    let sender = socket.sender();
    let answering = async {
        let mut i = 0;
        while let Ok(message) = socket.recv().await {
            let Ok(Numbered { n, .. }) = message.body.to() else { continue };
            let Ok(body) = Body::json(&Numbered { n, i: Some(i) }) else { return };
            i += 1;
            if socket.send(body).await.is_err() {
                return;
            }
        }
    };
    let sending = async {
        dose.send(&sender).await;
        std::future::pending().await
    };
    tokio::select! {
        () = answering => {}
        () = sending => {}
    }
}

async fn serve(address: &str, dose: Dose) -> Result<(), BoxError> {
    let live = Server::builder().serve(move |socket: Socket, _: Hub| examine(socket, dose))?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    loop {
        let stream = listening::accept(&listener).await;
        let service = live.service();
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // Whoever goes away is no matter of the doctor's.
            let _ = connection.with_upgrades().await;
        });
    }
}

/// What the command line asks of a caller.
struct Call {
    url: String,
    transports: Vec<TransportKind>,
    dose: Dose,
    report: bool,
    proxy: Option<String>,
    ca: Option<String>,
}

/// The client is built without what an option needs.
#[cfg(not(all(feature = "proxy", feature = "tls")))]
fn left_out(feature: &str) -> Failure {
    let reason = format!("this doctor is built without it: cargo run --features {feature} --example doctor");
    Failure::new(format!("{feature}_unsupported"), reason)
}

#[cfg(feature = "proxy")]
fn through(builder: Builder, proxy: &str) -> Result<Builder, Failure> {
    Ok(builder.proxy(proxy))
}

#[cfg(not(feature = "proxy"))]
fn through(_: Builder, _: &str) -> Result<Builder, Failure> {
    Err(left_out("proxy"))
}

#[cfg(feature = "tls")]
fn trusting(builder: Builder, file: &str) -> Result<Builder, Failure> {
    Ok(builder.ca_file(file))
}

#[cfg(not(feature = "tls"))]
fn trusting(_: Builder, _: &str) -> Result<Builder, Failure> {
    Err(left_out("tls"))
}

impl Call {
    fn parse(args: &[String]) -> Result<Self, BoxError> {
        let (mut given, mut report, mut proxy, mut ca) = (Vec::new(), false, None, None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--report" => report = true,
                "--proxy" => proxy = Some(args.next().ok_or(USAGE)?.clone()),
                "--ca" => ca = Some(args.next().ok_or(USAGE)?.clone()),
                option if option.starts_with("--") => return Err(USAGE.into()),
                value => given.push(value),
            }
        }
        let [url, transport, count, seconds] = given[..] else { return Err(USAGE.into()) };
        let transports = match transport {
            "auto" => TransportKind::ALL.to_vec(),
            kind => vec![kind.parse()?],
        };
        Ok(Self { url: url.to_owned(), transports, dose: dose(count, seconds)?, report, proxy, ca })
    }

    fn start(&self, transports: &[TransportKind]) -> Result<Socket, Failure> {
        // What one call finds out is kept from the next: each is to see for itself.
        let verdicts = Arc::new(MemoryVerdicts::new());
        let mut builder =
            Client::builder(self.url.as_str()).transports(transports.to_vec()).verdicts(verdicts);
        if let Some(proxy) = &self.proxy {
            builder = through(builder, proxy)?;
        }
        if let Some(file) = &self.ca {
            builder = trusting(builder, file)?;
        }
        Ok(builder.start()?)
    }

    /// The whole conversation; each event goes to `tell`.
    async fn talk(&self, tell: impl FnMut(Line)) -> Course {
        match self.start(&self.transports) {
            Ok(mut socket) => {
                let ended = self.talk_on(&mut socket, tell).await;
                let history = socket.transport_history();
                if ended.is_ok() {
                    socket.close(CloseCode::Normal, "all came through");
                    // The server may be out of reach by now; what matters has come.
                    let _ = timeout(TRIAL, socket.closed()).await;
                }
                Course { ended, history }
            }
            Err(failure) => Course { ended: Err(failure), history: Vec::new() },
        }
    }

    async fn talk_on(&self, socket: &mut Socket, mut tell: impl FnMut(Line)) -> Result<(), Failure> {
        let (transport, sender) = (opened(socket, CONNECT_WITHIN).await?, socket.sender());
        tell(Line::Open { transport });
        let dose = self.dose;
        let _sending = tokio::spawn(async move { dose.send(&sender).await });
        let mut watch = socket.watch();
        watch.state();
        let (mut downs, mut ups) = (BTreeSet::new(), BTreeSet::new());
        let mut patience = Instant::now() + dose.patience();
        while downs.len() as u64 + (ups.len() as u64) < 2 * dose.count {
            let received = tokio::select! {
                biased;
                state = watch.changed() => {
                    if let State::Connected { transport } = state {
                        tell(Line::Open { transport });
                    }
                    continue;
                }
                received = timeout_at(patience, socket.recv()) => received,
            };
            patience = Instant::now() + dose.patience();
            let message = match received {
                Ok(Ok(message)) => message,
                Ok(Err(RecvError::Lost(ended) | RecvError::Ended(ended))) => {
                    return Err(Failure::new(ended.close.code.as_str(), &ended.close));
                }
                Ok(Err(error)) => return Err(Failure::new("internal_error", error)),
                Err(_) => return Err(Failure::new("timed_out", "nothing came any more")),
            };
            match message.body.to() {
                Ok(Numbered { n, i: Some(i) }) => {
                    tell(Line::Up { n, i });
                    ups.insert(n);
                }
                Ok(Numbered { n, i: None }) => {
                    tell(Line::Down { n });
                    downs.insert(n);
                }
                Err(error) => return Err(Failure::new("protocol_error", error)),
            }
        }
        Ok(())
    }

    /// One transport by itself: how long a message and its answer take.
    async fn try_one(&self, kind: TransportKind) -> (Result<Duration, Failure>, Vec<Passage>) {
        let mut socket = match self.start(&[kind]) {
            Ok(socket) => socket,
            Err(failure) => return (Err(failure), Vec::new()),
        };
        let echoing = async {
            opened(&socket, TRIAL).await?;
            let sent = Instant::now();
            let body =
                Body::json(&Numbered { n: 0, i: None }).map_err(|e| Failure::new("internal_error", e))?;
            socket.send(body).await.map_err(|error| Failure::new("lost", error))?;
            let echoed = async {
                loop {
                    let message = socket.recv().await.map_err(|error| Failure::new("lost", error))?;
                    if message.body.to().is_ok_and(|Numbered { i, .. }| i.is_some()) {
                        return Ok::<_, Failure>(sent.elapsed());
                    }
                }
            };
            let late = |_| Failure::new("timed_out", "it opened, and a message was not answered in time");
            timeout(TRIAL, echoed).await.map_err(late)?
        };
        let echo = echoing.await;
        (echo, socket.transport_history())
    }

    async fn report(&self) -> bool {
        println!("{}\n\nEach transport by itself:", self.url);
        let mut works = Vec::new();
        for &kind in &self.transports {
            match self.try_one(kind).await {
                (Ok(echo), history) => {
                    println!("  {kind} works: a message and its answer took {} ms", echo.as_millis());
                    show(&history);
                    works.push(kind);
                }
                (Err(failure), history) => {
                    println!("  {kind} does not: {}", failure.reason);
                    show(&history);
                }
            }
        }
        let (mut downs, mut ups) = (0_u64, 0_u64);
        let course = self.talk(|line| match line {
            Line::Down { .. } => downs += 1,
            Line::Up { .. } => ups += 1,
            Line::Open { .. } | Line::Error { .. } | Line::End => {}
        });
        let Course { ended, history } = course.await;
        println!("\nA session that may use any of them:");
        show(&history);
        println!(
            "  {downs} of {count} messages came down, {ups} of {count} were answered",
            count = self.dose.count
        );
        if let Err(failure) = &ended {
            println!("  it ended early: {} ({})", failure.reason, failure.code);
        }
        println!("\n{}", settled(&self.transports, &history));
        println!("{}", advice(&self.transports, &works, &history));
        ended.is_ok()
    }
}

fn show(history: &[Passage]) {
    history.iter().for_each(|passage| println!("    {passage}"));
}

/// What carried the session in the end, and why not what ranks above it.
fn settled(ranked: &[TransportKind], history: &[Passage]) -> String {
    let Some(carrier) = history.last().filter(|last| last.ended.is_none()) else {
        return "Nothing carried the session in the end.".to_owned();
    };
    let kind = carrier.transport;
    let better = ranked.iter().take_while(|other| **other != kind);
    let reasons = better.map(|better| {
        let ended = history.iter().rev().filter(|passage| passage.transport == *better);
        let reason =
            ended.filter_map(|passage| passage.ended.as_ref()).map(|ended| ended.text.to_string()).next();
        format!("{better}: {}", reason.unwrap_or_else(|| "it was not needed".to_owned()))
    });
    let reasons: Vec<_> = reasons.collect();
    match reasons.is_empty() {
        true => format!("Settled on {kind}, the best there is."),
        false => format!("Settled on {kind}. Why not {}.", reasons.join("; nor ")),
    }
}

/// What an administrator could change.
fn advice(tried: &[TransportKind], works: &[TransportKind], history: &[Passage]) -> &'static str {
    use TransportKind::{LongPolling, Sse, WebSocket};
    let fails = |kind| tried.contains(&kind) && !works.contains(&kind);
    let cut = |passage: &Passage| {
        let ended = passage.ended.as_ref().filter(|_| passage.attachment.is_some());
        ended.is_some_and(|ended| matches!(&*ended.code, "ended" | "silent"))
    };
    if works.is_empty() {
        "Nothing gets through. Is the address right, does the server run, does the network want a login or a proxy?"
    } else if fails(LongPolling) {
        "Plain POST requests fail where others pass: look for a filter of methods, or of bodies, on the way."
    } else if fails(WebSocket) && fails(Sse) {
        "Only long-polling passes. A proxy drops `Upgrade` and holds responses back: forward the headers Upgrade and \
         Connection (nginx: proxy_http_version 1.1, proxy_set_header), and turn response buffering off for this URL."
    } else if fails(WebSocket) {
        "WebSockets are stopped: whoever runs the proxy can forward the headers Upgrade and Connection for this URL."
    } else if fails(Sse) {
        "Streams are held back: turn response buffering (and compression) off for this URL."
    } else if history.iter().any(cut) {
        "All works, but connections are cut: look for idle and total time limits under half a minute on the way."
    } else {
        "All works. There is nothing to change."
    }
}

/// Waits until a transport carries the session; says why none does otherwise.
async fn opened(socket: &Socket, within: Duration) -> Result<TransportKind, Failure> {
    let mut watch = socket.watch();
    let mut last: Arc<str> = "nothing answered".into();
    let opening = async {
        let mut state = watch.state();
        loop {
            match state {
                State::Connected { transport } => return Ok(transport),
                State::Closed { close } => return Err(Failure::new(close.code.as_str(), &close)),
                State::Reconnecting { reason, .. } => last = reason,
                _ => {}
            }
            state = watch.changed().await;
        }
    };
    match timeout(within, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(Failure::new("unreachable", last)),
    }
}

/// Prints a line at once, for whoever reads along.
fn print(line: &Line) {
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more.
    let _ = serde_json::to_writer(&mut out, line).map(|()| writeln!(out).and_then(|()| out.flush()));
}

fn dose(count: &str, seconds: &str) -> Result<Dose, BoxError> {
    Ok(Dose { count: count.parse()?, spread: Duration::try_from_secs_f64(seconds.parse()?)? })
}

async fn run(args: &[String]) -> Result<bool, BoxError> {
    match args {
        [what, address, count, seconds] if what == "serve" => {
            serve(address, dose(count, seconds)?).await.map(|()| true)
        }
        [what, call @ ..] if what == "call" => {
            let call = Call::parse(call)?;
            if call.report {
                return Ok(call.report().await);
            }
            let Course { ended, .. } = call.talk(|line| print(&line)).await;
            if let Err(failure) = &ended {
                print(&Line::Error { code: failure.code.clone() });
            }
            print(&Line::End);
            Ok(ended.is_ok())
        }
        _ => Err(USAGE.into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
