//! One connection through the network: what passes on it, how fast, and when it is cut.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::head::{Head, MAX_HEAD};
use super::script::Script;
use super::{Direction, Rule};

/// How much is read at once, and how much of what nobody asked for yet is kept.
const PIECE: usize = 16 << 10;

/// How often a throttled connection passes something.
const TICK: Duration = Duration::from_millis(20);

/// The halves of a byte stream.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// One end of a connection, and what was read of it and has not passed yet.
pub(super) struct Side {
    pub(super) read: Reader,
    pub(super) write: Writer,
    pub(super) buffer: Vec<u8>,
}

/// Reads a head at the beginning of bytes, and how long it is.
type Parse = fn(&[u8]) -> io::Result<Option<(Head, usize)>>;

impl Side {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        // Latency is for the rules to make.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        Self { read: Box::new(read), write: Box::new(write), buffer: Vec::new() }
    }

    pub(super) fn in_memory(stream: DuplexStream) -> Self {
        let (read, write) = split(stream);
        Self { read: Box::new(read), write: Box::new(write), buffer: Vec::new() }
    }

    /// Reads a head; `None` when the other end is done.
    pub(super) async fn head(&mut self, parse: Parse) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(Some(head));
            }
            if self.buffer.len() >= MAX_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a head without an end"));
            }
            if fill(&mut self.read, &mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Reads a piece behind what is there. Cancel safe.
pub(super) async fn fill(read: &mut Reader, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.reserve(PIECE);
    read.read_buf(buffer).await
}

/// Waits until the other end is gone. What it says meanwhile is kept, within a bound.
pub(super) async fn gone(read: &mut Reader, buffer: &mut Vec<u8>) {
    loop {
        if buffer.len() >= MAX_HEAD {
            return std::future::pending().await;
        }
        if !matches!(fill(read, buffer).await, Ok(1..)) {
            return;
        }
    }
}

/// What the network knows of a connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) script: Arc<Script>,
    opened: Instant,
    active: Mutex<Instant>,
    passed: [AtomicU64; 2],
    dead: AtomicBool,
    /// Whether a response is awaited or under way.
    pub(super) busy: watch::Sender<bool>,
}

impl Link {
    pub(super) fn new(script: Arc<Script>) -> Self {
        let now = Instant::now();
        let passed = Default::default();
        let (active, dead) = (Mutex::new(now), AtomicBool::new(false));
        Self { script, opened: now, active, passed, dead, busy: watch::Sender::new(false) }
    }

    /// Passes bytes on, as the rules have it. An error is the end of the connection.
    pub(super) async fn pass(&self, direction: Direction, bytes: &[u8], to: &mut Writer) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let delay = |rule| if let Rule::Delay(delay) = rule { Some(delay) } else { None };
        if let Some(delay) = self.script.act(delay) {
            sleep(delay).await;
        }
        let rate = |rule| {
            if let Rule::Throttle { bytes_per_second } = rule { Some(bytes_per_second.max(1)) } else { None }
        };
        let Some(rate) = self.script.act(rate) else { return self.write(direction, bytes, to).await };
        // What a tick lets through, and how long that is exactly: slow rates pass one byte at a time.
        let piece = (rate / 50).max(1);
        let pause = Duration::from_nanos(piece.saturating_mul(1_000_000_000) / rate).max(TICK / 2);
        for piece in bytes.chunks(usize::try_from(piece).unwrap_or(usize::MAX)) {
            self.write(direction, piece, to).await?;
            sleep(pause).await;
        }
        Ok(())
    }

    /// Whether it was idle for so long that it is dead.
    fn is_dead(&self) -> bool {
        let idle = self.active.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let dead = |rule| matches!(rule, Rule::DropIdle(limit) if idle >= limit).then_some(());
        self.dead.load(Relaxed)
            || self.script.act(dead).is_some_and(|()| {
                self.dead.store(true, Relaxed);
                true
            })
    }

    async fn write(&self, direction: Direction, bytes: &[u8], to: &mut Writer) -> io::Result<()> {
        if self.is_dead() {
            return Ok(());
        }
        let count = bytes.len() as u64;
        let before = self.passed[direction as usize].fetch_add(count, Relaxed);
        let limit = |rule| match rule {
            Rule::CutAfterBytes { direction: way, bytes } if way == direction => Some((bytes.max(1), rule)),
            _ => None,
        };
        // Each is an occasion only when it is reached.
        let reached = self
            .script
            .all(limit)
            .into_iter()
            .filter(|(bytes, _)| before < *bytes && *bytes <= before + count);
        let cut = reached.min_by_key(|(bytes, _)| *bytes).filter(|(_, rule)| self.script.acts(*rule));
        let room = cut.map_or(bytes.len(), |(at, _)| usize::try_from(at - before).unwrap_or(bytes.len()));
        to.write_all(bytes.get(..room).unwrap_or(bytes)).await?;
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if cut.is_some() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Whether it is too old for another exchange.
    pub(super) fn is_old(&self) -> bool {
        let old = |rule| matches!(rule, Rule::CloseOld(age) if self.opened.elapsed() >= age).then_some(());
        self.script.act(old).is_some()
    }

    /// When a rule is due that acts by time.
    fn due(&self, rule: Rule) -> Option<Instant> {
        let active = || *self.active.lock().unwrap_or_else(PoisonError::into_inner);
        match rule {
            Rule::CutAfter(age) => self.opened.checked_add(age),
            Rule::CloseOld(age) if !*self.busy.borrow() => self.opened.checked_add(age),
            Rule::CloseIdle(idle) => active().checked_add(idle),
            _ => None,
        }
    }

    /// Returns when it is time to end the connection.
    pub(super) async fn doomed(&self) {
        let (mut changes, mut cuts) = (self.script.changes.subscribe(), self.script.cuts.subscribe());
        let mut busy = self.busy.subscribe();
        // Rules whose time came and that did not act on this connection.
        let mut spared = Vec::new();
        loop {
            changes.borrow_and_update();
            busy.borrow_and_update();
            let due = self
                .script
                .all(|rule| if spared.contains(&rule) { None } else { Some((self.due(rule)?, rule)) });
            let next = due.into_iter().min_by_key(|(at, _)| *at);
            let wait = async {
                match next {
                    Some((at, _)) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                _ = changes.changed() => continue,
                _ = busy.changed() => continue,
                _ = cuts.changed() => return,
            }
            let Some((_, rule)) = next else { continue };
            // Something may have passed, or an exchange begun, meanwhile.
            if self.due(rule).is_some_and(|due| due <= Instant::now()) {
                if self.script.acts(rule) {
                    return;
                }
                spared.push(rule);
            }
        }
    }
}
