//! SockJS: XHR streaming, XHR polling, WebSocket.

use super::http::{chunk, http_full, http_head, post};
use super::websocket::{ws_frame, ws_frames, ws_request, ws_response};
use super::{Cfg, Codec, Ev, Res, Role};

pub(super) fn sockjs_session(c: &Cfg) -> String {
    format!("/sockjs/{:03}/s{}x{}", c.seq % 1000, std::process::id(), c.seq)
}

/// The frames: o, h, a["...",...], c[...]
pub(super) fn sockjs_frame(p: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<()> {
    match p.first() {
        Some(b'o') => sink(Ev::Open),
        Some(b'a') => {
            let mut r = &p[1..];
            // payloads here never contain quotes or backslashes
            while let Some(s) = r.iter().position(|c| *c == b'"') {
                let t = &r[s + 1..];
                let Some(e) = t.iter().position(|c| *c == b'"') else { break };
                sink(Ev::Msg(&t[..e]));
                r = &t[e + 1..];
            }
        }
        Some(b'c') => return Err(format!("sockjs close {}", String::from_utf8_lossy(p))),
        _ => {}
    }
    Ok(())
}

pub(super) struct SockJsXhr {
    path: String,
    c: Cfg,
    head: bool,
    line: Vec<u8>,
}
impl SockJsXhr {
    pub(super) fn new(c: Cfg) -> Self {
        SockJsXhr { path: sockjs_session(&c) + "/xhr_streaming", c, head: false, line: vec![] }
    }
}
impl Codec for SockJsXhr {
    fn start(&mut self, out: &mut Vec<u8>) {
        post(&self.c, &self.path, b"", out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        loop {
            if !self.head {
                let Some((h, n)) = http_head(&d[i..])? else { return Ok(i) };
                if h.status != 200 || !h.chunked {
                    return Err(format!("sockjs: status {}", h.status));
                }
                self.head = true;
                i += n;
            }
            let Some((r, n)) = chunk(&d[i..])? else { return Ok(i) };
            if r.is_empty() {
                // response_limit reached: ask again
                self.head = false;
                post(&self.c, &self.path, b"", out);
                i += n;
                continue;
            }
            let b = &d[i + r.start..i + r.end];
            for l in b.split_inclusive(|c| *c == b'\n') {
                if l.ends_with(b"\n") && self.line.is_empty() {
                    sockjs_frame(&l[..l.len() - 1], sink)?;
                } else {
                    self.line.extend_from_slice(l);
                    if l.ends_with(b"\n") {
                        let mut x = std::mem::take(&mut self.line);
                        x.pop();
                        sockjs_frame(&x, sink)?;
                    }
                }
            }
            i += n;
        }
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("xhr only receives here");
    }
}

pub(super) struct SockJsPoll {
    path: String,
    c: Cfg,
}
impl SockJsPoll {
    pub(super) fn new(c: Cfg) -> Self {
        SockJsPoll { path: sockjs_session(&c) + "/xhr", c }
    }
}
impl Codec for SockJsPoll {
    fn start(&mut self, out: &mut Vec<u8>) {
        post(&self.c, &self.path, b"", out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        while let Some((h, b, n)) = http_full(&d[i..])? {
            if h.status != 200 {
                return Err(format!("sockjs: status {}", h.status));
            }
            sockjs_frame(&b, sink)?;
            i += n;
            post(&self.c, &self.path, b"", out);
        }
        Ok(i)
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("xhr only receives here");
    }
}

pub(super) struct SockJsWs {
    c: Cfg,
    up: bool,
    tmp: Vec<u8>,
}
impl SockJsWs {
    pub(super) fn new(c: Cfg) -> Self {
        SockJsWs { c, up: false, tmp: vec![] }
    }
}
impl Codec for SockJsWs {
    fn start(&mut self, out: &mut Vec<u8>) {
        ws_request(&self.c, &(sockjs_session(&self.c) + "/websocket"), out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if !self.up {
            match ws_response(d)? {
                None => return Ok(0),
                Some(n) => i = n,
            }
            self.up = true;
        }
        Ok(i + ws_frames(&d[i..], out, &mut |p, _| sockjs_frame(p, sink))?)
    }
    fn send(&mut self, p: &[u8], out: &mut Vec<u8>) {
        self.tmp.clear();
        self.tmp.extend_from_slice(b"[\"");
        if self.c.role == Role::Pub {
            self.tmp.push(b'!');
        }
        self.tmp.extend_from_slice(p);
        self.tmp.extend_from_slice(b"\"]");
        ws_frame(1, &self.tmp, out)
    }
}
