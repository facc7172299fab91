//! throughline, over each of its transports and in both encodings: what a client owes the protocol
//! (`docs/PROTOCOL.md` of the library), with hot paths by hand so that the generator stays cheap.
//!
//! A client here numbers its messages, tells its receipt with what it sends, at half the window, after 50 ms or 2 s,
//! answers pings, and refuses any message whose number is not the next one. It does not replay: what it sent is
//! always acknowledged before a workload drops it, and it fails where that does not hold.
mod frames;
mod http;
mod websocket;

pub(super) use http::{Polling, Stream};
pub(super) use websocket::WebSocket;

use super::{Cfg, Ev, Res, Resume};
use std::time::{Duration, Instant};

/// How long a receipt may wait for company: usually, and while it is about little.
const RECEIPT_DELAY: Duration = Duration::from_millis(50);
const LIGHT_RECEIPT_DELAY: Duration = Duration::from_secs(2);
/// The window told in `hello`, and half of it: from there on a receipt goes at once.
const WINDOW: (u64, u64) = (256, 1 << 20);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Binary,
}

/// One end of a session: numbers, receipts, and the frames that wait to be sent.
struct Core {
    encoding: Encoding,
    id: String,
    key: String,
    epoch: String,
    attachment: u64,
    /// Own messages: sent, and acknowledged by the server.
    sent: u64,
    acked: u64,
    /// The server's messages: received, and what the server was told of.
    received: u64,
    told: u64,
    untold_bytes: u64,
    due: Option<Instant>,
    /// It is about more than a little.
    heavy: bool,
    /// The receipt goes now.
    owed: bool,
    /// Requests answered so far: all that `send_ack` sends are requests, answered in order.
    answered: u64,
    welcomed: bool,
    resuming: bool,
    /// Frames that wait for the next write.
    pending: Vec<u8>,
}

impl Core {
    fn new(c: &Cfg, encoding: Encoding) -> Core {
        let mut core = Core {
            encoding,
            id: String::new(),
            key: String::new(),
            epoch: String::new(),
            attachment: 1,
            sent: 0,
            acked: 0,
            received: 0,
            told: 0,
            untold_bytes: 0,
            due: None,
            heavy: false,
            owed: false,
            answered: 0,
            welcomed: false,
            resuming: false,
            pending: vec![],
        };
        let held: Vec<&str> = c.resume.as_ref().map(|r| r.session.split(' ').collect()).unwrap_or_default();
        if let [id, key, epoch, attachment, sent, acked] = held[..] {
            let n = |s: &str| s.parse().unwrap_or(0);
            (core.id, core.key, core.epoch) = (id.into(), key.into(), epoch.into());
            (core.attachment, core.sent, core.acked) = (n(attachment) + 1, n(sent), n(acked));
            core.received = c.resume.as_ref().map_or(0, |r| n(&r.offset));
            core.told = core.received;
            core.resuming = true;
        } else {
            let bytes = random();
            (core.id, core.key) = (base64url(&bytes[..16]), base64url(&bytes[16..]));
        }
        core
    }

    fn hello(&self, transport: &str) -> String {
        let epoch = if self.resuming { format!("\"epoch\":\"{}\",", self.epoch) } else { String::new() };
        format!(
            "{{\"version\":1,\"session\":\"{}\",\"key\":\"{}\",{epoch}\"attachment\":{},\"transport\":\"{transport}\",\"received\":{},\"window\":{{\"messages\":{},\"bytes\":{}}}}}",
            self.id, self.key, self.attachment, self.received, WINDOW.0, WINDOW.1
        )
    }

    /// `hello`, and right behind it the message that a workload may want there.
    fn greeting(&mut self, c: &Cfg, transport: &str) -> Vec<u8> {
        let mut batch = vec![];
        let hello = self.hello(transport);
        self.control(0x10, "hello", &hello, &mut batch);
        if let Some(event) = &c.event {
            self.message(event, false);
        }
        self.drain(&mut batch);
        batch
    }

    /// The one place where a received number is judged: the next one, or the run has failed.
    #[inline]
    fn take(&mut self, seq: u64, size: usize) -> Res<()> {
        if seq != self.received + 1 {
            return Err(format!("message {seq} came after {}", self.received));
        }
        if self.received == self.told {
            // Up to a quarter shorter, by the id: many sessions hear the same thing at once.
            let earlier = u32::from(self.id.as_bytes().first().map_or(0, |first| first % 64));
            self.due = Some(Instant::now() + LIGHT_RECEIPT_DELAY - LIGHT_RECEIPT_DELAY / 256 * earlier);
        }
        self.received = seq;
        self.untold_bytes += size as u64;
        if !self.heavy && (seq - self.told >= WINDOW.0 / 16 || self.untold_bytes >= WINDOW.1 / 64) {
            self.heavy = true;
            self.due = self.due.min(Some(Instant::now() + RECEIPT_DELAY));
        }
        self.owed |= seq - self.told >= WINDOW.0 / 2 || self.untold_bytes >= WINDOW.1 / 2;
        Ok(())
    }

    #[inline]
    fn take_answer(&mut self, to: u64) -> Res<()> {
        if to != self.answered + 1 {
            return Err(format!("an answer to {to} came after that to {}", self.answered));
        }
        self.answered = to;
        Ok(())
    }

    fn take_receipt(&mut self, received: u64) -> Res<()> {
        if received > self.sent || received < self.acked {
            return Err(format!("receipt {received}, of {} sent and {} acknowledged", self.sent, self.acked));
        }
        self.acked = received;
        Ok(())
    }

    fn take_welcome(&mut self, json: &str) -> Res<()> {
        let epoch = text(json, "epoch").ok_or("welcome without epoch")?;
        let resumed = json.contains("\"resumed\":true");
        if resumed != self.resuming || (self.resuming && epoch != self.epoch) {
            return Err(format!("the session was not resumed: {json}"));
        }
        self.epoch = epoch.into();
        let received = number(json, "received").ok_or("welcome without received")?;
        let early = if self.resuming { 0 } else { self.sent };
        if received + early < self.sent {
            return Err(format!("{} messages sent, {received} received before the drop", self.sent));
        }
        self.acked = received;
        self.welcomed = true;
        Ok(())
    }

    /// Whether a receipt must be written now.
    fn is_owed(&self) -> bool {
        self.welcomed && self.owed && self.received > self.told
    }

    fn tick(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.owed = true;
        }
    }

    /// Counts the receipt as told.
    fn tell(&mut self) -> u64 {
        (self.told, self.untold_bytes, self.due) = (self.received, 0, None);
        (self.owed, self.heavy) = (false, false);
        self.received
    }

    /// All that waits, the receipt in front if the server does not know it.
    fn drain(&mut self, batch: &mut Vec<u8>) {
        if self.welcomed && self.received > self.told {
            let received = self.tell();
            self.receipt(received, batch);
        }
        if !self.pending.is_empty() {
            frames::join(self.encoding, batch);
            batch.extend_from_slice(&self.pending);
            self.pending.clear();
        }
    }

    fn resume(&self) -> Option<Resume> {
        let session = format!(
            "{} {} {} {} {} {}",
            self.id, self.key, self.epoch, self.attachment, self.sent, self.acked
        );
        Some(Resume { session, offset: self.received.to_string() })
    }

    /// What every `poll` and `push` says of itself.
    fn address(&self) -> String {
        format!(
            "\"session\":\"{}\",\"key\":\"{}\",\"epoch\":\"{}\",\"attachment\":{}",
            self.id, self.key, self.epoch, self.attachment
        )
    }
}

/// The text of a member; the protocol's own texts need no escapes.
fn text<'a>(json: &'a str, member: &str) -> Option<&'a str> {
    let at = json.find(&format!("\"{member}\":\""))? + member.len() + 4;
    json[at..].split('"').next()
}

fn number(json: &str, member: &str) -> Option<u64> {
    let at = json.find(&format!("\"{member}\":"))? + member.len() + 3;
    let digits = json[at..].bytes().take_while(u8::is_ascii_digit).count();
    json[at..at + digits].parse().ok()
}

/// 48 bytes of the kernel's.
fn random() -> [u8; 48] {
    use std::io::Read;
    let mut bytes = [0; 48];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.expect("/dev/urandom");
    bytes
}

/// Base64url without padding (RFC 4648, section 5).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let v = chunk.iter().enumerate().fold(0u32, |v, (i, b)| v | (*b as u32) << (16 - 8 * i));
        for i in 0..=chunk.len() {
            text.push(ALPHABET[(v >> (18 - 6 * i)) as usize & 63] as char);
        }
    }
    text
}

/// Passes a message of the server's on: `send_ack` counts answers, all else messages.
fn deliver(body: &[u8], answer: bool, sink: &mut dyn FnMut(Ev)) {
    sink(if answer { Ev::Ack } else { Ev::Msg(body) })
}
