//! Server-Sent Events, and publishing by POST.

use super::http::{chunk, find, get, http_full, http_head, post};
use super::{Cfg, Codec, Ev, Res, Resume};

pub(super) struct Sse {
    c: Cfg,
    head: bool,
    chunked: bool,
    ev: Vec<u8>,
    last_id: String,
}
impl Sse {
    pub(super) fn new(c: Cfg) -> Self {
        Sse { c, head: false, chunked: false, ev: vec![], last_id: String::new() }
    }
    fn body(&mut self, b: &[u8], sink: &mut dyn FnMut(Ev)) {
        // fast path: whole events in one piece
        let owned;
        let b = if self.ev.is_empty() {
            b
        } else {
            self.ev.extend_from_slice(b);
            owned = std::mem::take(&mut self.ev);
            &owned[..]
        };
        let mut i = 0;
        while let Some(e) = find(&b[i..], b"\n\n") {
            for l in b[i..i + e].split(|c| *c == b'\n') {
                if let Some(v) = l.strip_prefix(b"data:") {
                    let v = v.strip_prefix(b" ").unwrap_or(v);
                    // a payload may come as a JSON string
                    sink(Ev::Msg(v.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(v)));
                } else if let Some(v) = l.strip_prefix(b"id:") {
                    self.last_id.clear();
                    self.last_id.push_str(std::str::from_utf8(v).unwrap_or("").trim());
                }
            }
            i += e + 2;
        }
        if i < b.len() {
            self.ev = b[i..].to_vec();
        }
    }
}
impl Codec for Sse {
    fn start(&mut self, out: &mut Vec<u8>) {
        let extra = match &self.c.resume {
            Some(r) if !r.offset.is_empty() => {
                format!("Accept: text/event-stream\r\nLast-Event-ID: {}\r\n", r.offset)
            }
            _ => "Accept: text/event-stream\r\n".into(),
        };
        get(&self.c, &self.c.path.clone(), &extra, out)
    }
    fn feed(&mut self, d: &[u8], _out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if !self.head {
            let Some((h, n)) = http_head(d)? else { return Ok(0) };
            if h.status != 200 {
                return Err(format!("sse: status {}", h.status));
            }
            self.head = true;
            self.chunked = h.chunked;
            i = n;
            sink(Ev::Open);
        }
        if !self.chunked {
            let b = d[i..].to_vec();
            self.body(&b, sink);
            return Ok(d.len());
        }
        while let Some((r, n)) = chunk(&d[i..])? {
            if r.is_empty() {
                return Err("sse: stream ended".into());
            }
            self.body(&d[i + r.start..i + r.end], sink);
            i += n;
        }
        Ok(i)
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("sse only receives");
    }
    fn resume(&self) -> Option<Resume> {
        Some(Resume { session: String::new(), offset: self.last_id.clone() })
    }
}

/// Publishes by POST on a keep-alive connection.
pub(super) struct Post {
    c: Cfg,
}
impl Post {
    pub(super) fn new(c: Cfg) -> Self {
        Post { c }
    }
}
impl Codec for Post {
    fn start(&mut self, out: &mut Vec<u8>) {
        // a HEAD-like probe would differ per server; publish nothing and open at once via an empty options request
        let _ = out;
    }
    fn feed(&mut self, d: &[u8], _out: &mut Vec<u8>, _sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        while let Some((h, _b, n)) = http_full(&d[i..])? {
            if h.status / 100 != 2 {
                return Err(format!("post: status {}", h.status));
            }
            i += n;
        }
        Ok(i)
    }
    fn send(&mut self, p: &[u8], out: &mut Vec<u8>) {
        post(&self.c, &self.c.path, p, out)
    }
}
