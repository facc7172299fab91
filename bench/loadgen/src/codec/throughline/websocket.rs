//! The WebSocket: one message is one batch, in either direction.
use super::super::websocket::{ws_frame, ws_messages, ws_request_for, ws_response};
use super::super::{Cfg, Codec, Ev, Res, Resume};
use super::{Core, Encoding};
use std::time::Instant;

pub(in super::super) struct WebSocket {
    c: Cfg,
    core: Core,
    up: bool,
    /// What came of a fragmented message.
    fragments: Vec<u8>,
    batch: Vec<u8>,
}

impl WebSocket {
    pub(in super::super) fn new(c: Cfg, encoding: Encoding) -> Self {
        WebSocket { core: Core::new(&c, encoding), c, up: false, fragments: vec![], batch: vec![] }
    }
    fn op(&self) -> u8 {
        if self.core.encoding == Encoding::Json {
            1
        } else {
            2
        }
    }
}

impl Codec for WebSocket {
    fn start(&mut self, out: &mut Vec<u8>) {
        ws_request_for(&self.c, &self.c.path, "Sec-WebSocket-Protocol: throughline.v1\r\n", out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if !self.up {
            match ws_response(d)? {
                None => return Ok(0),
                Some(n) => i = n,
            }
            self.up = true;
            let batch = self.core.greeting(&self.c, "websocket");
            ws_frame(self.op(), &batch, out);
        }
        let core = &mut self.core;
        Ok(i + ws_messages(&d[i..], out, &mut self.fragments, &mut |p| core.batch(p, sink))?)
    }
    fn send(&mut self, p: &[u8], _out: &mut Vec<u8>) {
        self.core.message(p, false)
    }
    fn send_ack(&mut self, p: &[u8], _out: &mut Vec<u8>) {
        self.core.message(p, true)
    }
    fn part(&mut self) {
        let mut out = std::mem::take(&mut self.core.pending);
        match self.core.encoding {
            Encoding::Json => self.core.control(0x16, "close", "\"normal\",\"\"", &mut out),
            Encoding::Binary => self.core.control(0x16, "close", "[\"normal\",\"\"]", &mut out),
        }
        self.core.pending = out;
    }
    fn seal(&mut self, out: &mut Vec<u8>) {
        if self.core.welcomed && (!self.core.pending.is_empty() || self.core.is_owed()) {
            self.batch.clear();
            self.core.drain(&mut self.batch);
            ws_frame(self.op(), &self.batch, out);
            if self.batch.capacity() > 64 * 1024 {
                self.batch = vec![];
            }
        }
    }
    fn due(&self) -> Option<Instant> {
        self.core.due
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
