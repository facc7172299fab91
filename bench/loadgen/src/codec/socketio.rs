//! Socket.IO v4 over WebSocket and over HTTP long-polling.

use super::http::{find, get, http_full, post};
use super::websocket::{ws_frame, ws_frames, ws_request, ws_response};
use super::{Cfg, Codec, Ev, Res, Resume, Role};

/// The Socket.IO packets inside Engine.IO messages, whatever carries those.
pub(super) struct SioCore {
    role: Role,
    next_id: u64,
    resume: Option<Resume>,
    event: Option<Vec<u8>>,
    session: String,
    offset: String,
}
impl SioCore {
    pub(super) fn new(c: &Cfg) -> Self {
        SioCore {
            role: c.role,
            next_id: 1,
            resume: c.resume.clone(),
            event: c.event.clone(),
            session: String::new(),
            offset: String::new(),
        }
    }
    /// Servers put every connection into the room at once, except those that say otherwise. (A "sub" event
    /// right after CONNECT would be the alternative, but socketioxide can drop such an early event: it
    /// answers CONNECT before its connect handler has run.)
    fn query(&self) -> &'static str {
        if self.role == Role::Sub {
            ""
        } else {
            "&nosub=1"
        }
    }
    fn connect(&self) -> String {
        match &self.resume {
            Some(r) if !r.session.is_empty() => {
                format!("40{{\"pid\":\"{}\",\"offset\":\"{}\"}}", r.session, r.offset)
            }
            _ => "40".into(),
        }
    }
    /// One Engine.IO packet; anything to send is pushed on `reply`.
    fn packet(&mut self, p: &[u8], reply: &mut Vec<String>, sink: &mut dyn FnMut(Ev)) -> Res<()> {
        if p.starts_with(b"42[") {
            // 42["event","payload"(,"offset")]
            let Some(a) = find(&p[..p.len().min(32)], b"\",\"") else { return Ok(()) };
            let b = &p[a + 3..];
            let e = b.iter().position(|c| *c == b'"').unwrap_or(b.len());
            if b.len() > e + 4 && b[e + 1] == b',' {
                let o = &b[e + 3..b.len() - 2];
                self.offset.clear();
                self.offset.push_str(std::str::from_utf8(o).unwrap_or(""));
            }
            sink(Ev::Msg(&b[..e]));
            return Ok(());
        }
        match p.first() {
            Some(b'0') => reply.push(self.connect()),
            Some(b'2') => {
                let mut s = String::from("3");
                s.push_str(std::str::from_utf8(&p[1..]).unwrap_or(""));
                reply.push(s)
            }
            Some(b'4') => match p.get(1) {
                Some(b'0') => {
                    if let Some(x) = find(p, b"\"pid\":\"") {
                        let t = &p[x + 7..];
                        let e = t.iter().position(|c| *c == b'"').unwrap_or(0);
                        self.session = String::from_utf8_lossy(&t[..e]).into();
                    }
                    // before CONNECT is answered no event is allowed
                    if let Some(event) = self.event.take() {
                        reply.push(format!("42[\"echo\",\"{}\"]", String::from_utf8_lossy(&event)));
                    }
                    sink(Ev::Open);
                }
                Some(b'3') => sink(Ev::Ack),
                Some(b'4') => return Err(format!("connect error {}", String::from_utf8_lossy(p))),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
    fn event(&mut self, p: &[u8], s: &mut Vec<u8>) {
        s.extend_from_slice(if self.role == Role::Pub { b"42[\"pub\",\"" } else { b"42[\"echo\",\"" });
        s.extend_from_slice(p);
        s.extend_from_slice(b"\"]");
    }
    fn ack(&mut self, p: &[u8], s: &mut Vec<u8>) {
        let _ = std::io::Write::write_fmt(s, format_args!("42{}[\"ack\",\"", self.next_id));
        self.next_id += 1;
        s.extend_from_slice(p);
        s.extend_from_slice(b"\"]");
    }
    fn token(&self) -> Option<Resume> {
        Some(Resume { session: self.session.clone(), offset: self.offset.clone() })
    }
}

pub(super) struct Sio {
    c: Cfg,
    up: bool,
    core: SioCore,
    tmp: Vec<u8>,
}
impl Sio {
    pub(super) fn new(c: Cfg) -> Self {
        Sio { core: SioCore::new(&c), c, up: false, tmp: vec![] }
    }
}
impl Codec for Sio {
    fn start(&mut self, out: &mut Vec<u8>) {
        ws_request(&self.c, &format!("/socket.io/?EIO=4&transport=websocket{}", self.core.query()), out)
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
        let core = &mut self.core;
        let mut reply = vec![];
        let n = ws_frames(&d[i..], out, &mut |p, out| {
            core.packet(p, &mut reply, sink)?;
            for r in reply.drain(..) {
                ws_frame(1, r.as_bytes(), out);
            }
            Ok(())
        })?;
        Ok(i + n)
    }
    fn send(&mut self, p: &[u8], out: &mut Vec<u8>) {
        self.tmp.clear();
        self.core.event(p, &mut self.tmp);
        ws_frame(1, &self.tmp, out)
    }
    fn send_ack(&mut self, p: &[u8], out: &mut Vec<u8>) {
        self.tmp.clear();
        self.core.ack(p, &mut self.tmp);
        ws_frame(1, &self.tmp, out)
    }
    fn resume(&self) -> Option<Resume> {
        self.core.token()
    }
}

/// GETs and POSTs strictly alternate on the one connection: replies are posted before the next poll.
pub(super) struct SioPoll {
    c: Cfg,
    core: SioCore,
    sid: String,
    queue: Vec<String>,
    in_post: bool,
}
impl SioPoll {
    pub(super) fn new(c: Cfg) -> Self {
        SioPoll { core: SioCore::new(&c), c, sid: String::new(), queue: vec![], in_post: false }
    }
    fn path(&self) -> String {
        if self.sid.is_empty() {
            format!("/socket.io/?EIO=4&transport=polling{}", self.core.query())
        } else {
            format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
        }
    }
    fn next(&mut self, out: &mut Vec<u8>) {
        if self.queue.is_empty() {
            self.in_post = false;
            get(&self.c, &self.path(), "", out)
        } else {
            self.in_post = true;
            let b = self.queue.join("\x1e");
            self.queue.clear();
            post(&self.c, &self.path(), b.as_bytes(), out)
        }
    }
}
impl Codec for SioPoll {
    fn start(&mut self, out: &mut Vec<u8>) {
        get(&self.c, &self.path(), "", out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        while let Some((h, body, n)) = http_full(&d[i..])? {
            if h.status != 200 {
                return Err(format!("poll: status {} {}", h.status, String::from_utf8_lossy(&body)));
            }
            if !self.in_post {
                for p in body.split(|b| *b == 0x1e) {
                    if p.first() == Some(&b'0') && self.sid.is_empty() {
                        let x = find(p, b"\"sid\":\"").ok_or("no sid")?;
                        let t = &p[x + 7..];
                        let e = t.iter().position(|c| *c == b'"').ok_or("no sid")?;
                        self.sid = String::from_utf8_lossy(&t[..e]).into();
                    }
                    self.core.packet(p, &mut self.queue, sink)?;
                }
            }
            i += n;
            self.next(out);
        }
        Ok(i)
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("polling clients only receive here");
    }
    fn resume(&self) -> Option<Resume> {
        self.core.token()
    }
}
