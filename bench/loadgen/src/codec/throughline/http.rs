//! SSE (or a binary stream) with pushes beside it, and long-polling.
use super::super::http::{chunk, find, http_full, http_head};
use super::super::{Cfg, Codec, Ev, Res, Resume};
use super::{Core, Encoding};
use std::io::Write as _;
use std::time::Instant;

const BINARY: &str = "application/vnd.throughline";

fn request(c: &Cfg, accept: &str, encoding: Encoding, body: &[u8], out: &mut Vec<u8>) {
    let kind = if encoding == Encoding::Json { "text/plain" } else { BINARY };
    let _ = write!(
        out,
        "POST {} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        c.path,
        c.host,
        body.len()
    );
    out.extend_from_slice(body);
}

/// One stream down, pushes up on a second connection.
pub(in super::super) struct Stream {
    c: Cfg,
    core: Core,
    head: bool,
    /// An event, or a frame, that is not complete.
    partial: Vec<u8>,
    side: Vec<u8>,
    pushing: bool,
    /// The `ping` that proves the path is to be sent.
    prove: bool,
}

impl Stream {
    pub(in super::super) fn new(c: Cfg, encoding: Encoding) -> Self {
        let core = Core::new(&c, encoding);
        Stream { core, c, head: false, partial: vec![], side: vec![], pushing: false, prove: false }
    }
    fn accept(&self) -> &'static str {
        if self.core.encoding == Encoding::Json {
            "text/event-stream"
        } else {
            BINARY
        }
    }
    /// Whole events, or whole frames: how much of it was used.
    fn pieces(&mut self, b: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if self.core.encoding == Encoding::Binary {
            while let Some(n) = self.core.binary(&b[i..], sink)? {
                i += n;
            }
            return Ok(i);
        }
        while let Some(end) = find(&b[i..], b"\n\n") {
            for line in b[i..i + end].split(|c| *c == b'\n') {
                if let Some(frame) = line.strip_prefix(b"data:") {
                    self.core.json(frame.strip_prefix(b" ").unwrap_or(frame), sink)?;
                }
            }
            i += end + 2;
        }
        Ok(i)
    }
    fn body(&mut self, b: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<()> {
        if self.partial.is_empty() {
            let n = self.pieces(b, sink)?;
            self.partial.extend_from_slice(&b[n..]);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(b);
            let n = self.pieces(&whole, sink)?;
            whole.drain(..n);
            self.partial = whole;
        }
        Ok(())
    }
}

impl Codec for Stream {
    fn start(&mut self, out: &mut Vec<u8>) {
        let batch = self.core.greeting(&self.c, "sse");
        request(&self.c, self.accept(), self.core.encoding, &batch, out)
    }
    fn feed(&mut self, d: &[u8], _out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if !self.head {
            let Some((h, n)) = http_head(d)? else { return Ok(0) };
            if h.status != 200 || !h.chunked {
                return Err(format!("stream: status {} {}", h.status, String::from_utf8_lossy(&d[n..])));
            }
            (self.head, self.prove, i) = (true, true, n);
        }
        while let Some((r, n)) = chunk(&d[i..])? {
            if r.is_empty() {
                return Err("the stream ended".into());
            }
            self.body(&d[i + r.start..i + r.end], sink)?;
            i += n;
        }
        Ok(i)
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("streams only receive here");
    }
    fn seal(&mut self, _out: &mut Vec<u8>) {
        let wanted = self.prove || !self.core.pending.is_empty() || self.core.is_owed();
        if self.pushing || !self.core.welcomed || !wanted {
            return;
        }
        let mut batch = vec![];
        let address = format!("{{{}}}", self.core.address());
        self.core.control(0x18, "push", &address, &mut batch);
        if self.prove {
            self.prove = false;
            self.core.ping(self.core.attachment, &mut batch);
        }
        self.core.drain(&mut batch);
        let accept = if self.core.encoding == Encoding::Json { "application/x-ndjson" } else { BINARY };
        request(&self.c, accept, self.core.encoding, &batch, &mut self.side);
        self.pushing = true;
    }
    fn side(&mut self) -> Option<&mut Vec<u8>> {
        Some(&mut self.side)
    }
    fn feed_side(&mut self, d: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        while let Some((h, body, n)) = http_full(&d[i..])? {
            if h.status != 200 {
                return Err(format!("push: status {} {}", h.status, String::from_utf8_lossy(&body)));
            }
            self.core.batch(&body, sink)?;
            self.pushing = false;
            i += n;
        }
        Ok(i)
    }
    fn due(&self) -> Option<Instant> {
        // While a push is under way its answer is waited for.
        self.core.due.filter(|_| !self.pushing)
    }
    fn tick(&mut self) {
        self.core.tick()
    }
    fn promises_all(&self) -> bool {
        true
    }
    fn resume(&self) -> Option<Resume> {
        self.core.resume()
    }
}

/// Polls, each of which acknowledges what came before.
pub(in super::super) struct Polling {
    c: Cfg,
    core: Core,
    proved: bool,
    batch: Vec<u8>,
}

impl Polling {
    pub(in super::super) fn new(c: Cfg, encoding: Encoding) -> Self {
        Polling { core: Core::new(&c, encoding), c, proved: false, batch: vec![] }
    }
    fn accept(&self) -> &'static str {
        if self.core.encoding == Encoding::Json {
            "application/x-ndjson"
        } else {
            BINARY
        }
    }
    fn poll(&mut self, out: &mut Vec<u8>) {
        let hold = if self.proved { 25_000 } else { 0 };
        self.proved = true;
        let received = self.core.tell();
        let poll = format!("{{{},\"received\":{received},\"hold_ms\":{hold}}}", self.core.address());
        self.batch.clear();
        self.core.control(0x17, "poll", &poll, &mut self.batch);
        request(&self.c, self.accept(), self.core.encoding, &self.batch, out);
    }
}

impl Codec for Polling {
    fn start(&mut self, out: &mut Vec<u8>) {
        let batch = self.core.greeting(&self.c, "long-polling");
        request(&self.c, self.accept(), self.core.encoding, &batch, out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        while let Some((h, body, n)) = http_full(&d[i..])? {
            if h.status != 200 {
                return Err(format!("poll: status {} {}", h.status, String::from_utf8_lossy(&body)));
            }
            self.core.batch(&body, sink)?;
            self.poll(out);
            i += n;
        }
        Ok(i)
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("polling clients only receive here");
    }
    fn promises_all(&self) -> bool {
        true
    }
    fn resume(&self) -> Option<Resume> {
        self.core.resume()
    }
}
