//! centrifuge, JSON protocol v1.

use super::http::find;
use super::websocket::{ws_frame, ws_frames, ws_request, ws_response};
use super::{Cfg, Codec, Ev, Res, Resume, Role};

pub(super) struct Centrifuge {
    c: Cfg,
    up: bool,
    open: bool,
    id: u64,
    epoch: String,
    offset: u64,
    tmp: Vec<u8>,
}
impl Centrifuge {
    pub(super) fn new(c: Cfg) -> Self {
        Centrifuge { c, up: false, open: false, id: 10, epoch: String::new(), offset: 0, tmp: vec![] }
    }
    fn subscribe(&self) -> String {
        match &self.c.resume {
            Some(r) if !r.session.is_empty() => format!(
                "{{\"id\":2,\"method\":1,\"params\":{{\"channel\":\"room\",\"recover\":true,\"epoch\":\"{}\",\"offset\":{}}}}}",
                r.session, r.offset
            ),
            _ => "{\"id\":2,\"method\":1,\"params\":{\"channel\":\"room\"}}".into(),
        }
    }
    fn reply(&mut self, p: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<()> {
        if find(&p[..p.len().min(32)], b"\"error\"").is_some() {
            return Err(String::from_utf8_lossy(p).into());
        }
        if !self.open {
            let sub = self.c.role == Role::Sub;
            if sub && p.starts_with(b"{\"id\":1,") {
                ws_frame(1, self.subscribe().as_bytes(), out);
                return Ok(());
            }
            if sub {
                // the publications to catch up on come first, so that the stream position ends up last
                let s = String::from_utf8_lossy(p).into_owned();
                if let Some(e) = s.split("\"epoch\":\"").nth(1).and_then(|x| x.split('"').next()) {
                    self.epoch = e.into();
                }
                for d in s.split("\"data\":\"").skip(1) {
                    sink(Ev::Msg(d.split('"').next().unwrap_or("").as_bytes()));
                }
                for o in s.split("\"offset\":").skip(1) {
                    let n: u64 =
                        o.bytes().take_while(u8::is_ascii_digit).fold(0, |a, b| a * 10 + (b - b'0') as u64);
                    self.offset = self.offset.max(n);
                }
            }
            self.open = true;
            sink(Ev::Open);
            return Ok(());
        }
        let Some(a) = find(p, b"\"data\":\"") else { return Ok(()) };
        let t = &p[a + 8..];
        let e = t.iter().position(|c| *c == b'"').unwrap_or(t.len());
        if p.starts_with(b"{\"id\"") {
            sink(Ev::Ack);
            sink(Ev::Msg(&t[..e]));
        } else {
            if let Some(o) = find(p, b"\"offset\":") {
                self.offset = p[o + 9..]
                    .iter()
                    .take_while(|c| c.is_ascii_digit())
                    .fold(0, |a, b| a * 10 + (b - b'0') as u64);
            }
            sink(Ev::Msg(&t[..e]));
        }
        Ok(())
    }
}
impl Codec for Centrifuge {
    fn start(&mut self, out: &mut Vec<u8>) {
        ws_request(&self.c, "/connection/websocket", out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if !self.up {
            match ws_response(d)? {
                None => return Ok(0),
                Some(n) => i = n,
            }
            self.up = true;
            ws_frame(1, b"{\"id\":1,\"params\":{}}", out);
        }
        Ok(i + ws_frames(&d[i..], out, &mut |p, out| {
            for l in p.split(|c| *c == b'\n') {
                if !l.is_empty() {
                    self.reply(l, out, sink)?;
                }
            }
            Ok(())
        })?)
    }
    fn send(&mut self, p: &[u8], out: &mut Vec<u8>) {
        self.id += 1;
        self.tmp.clear();
        let (m, ch) = if self.c.role == Role::Pub { (3, "\"channel\":\"room\",") } else { (9, "") };
        let _ = std::io::Write::write_fmt(
            &mut self.tmp,
            format_args!("{{\"id\":{},\"method\":{},\"params\":{{{}\"data\":\"", self.id, m, ch),
        );
        self.tmp.extend_from_slice(p);
        self.tmp.extend_from_slice(b"\"}}");
        ws_frame(1, &self.tmp, out)
    }
    fn send_ack(&mut self, p: &[u8], out: &mut Vec<u8>) {
        self.send(p, out)
    }
    fn resume(&self) -> Option<Resume> {
        Some(Resume { session: self.epoch.clone(), offset: self.offset.to_string() })
    }
}
