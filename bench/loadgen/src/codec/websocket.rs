//! RFC 6455 frames, and plain messages in them.

use super::http::find;
use super::{Cfg, Codec, Ev, Res};
use std::fmt::Write as _;

pub(super) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(super) fn ws_frame(op: u8, p: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | op);
    let n = p.len();
    if n < 126 {
        out.push(0x80 | n as u8);
    } else if n < 65536 {
        out.push(0x80 | 126);
        out.extend_from_slice(&(n as u16).to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(n as u64).to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    let s = out.len();
    out.extend_from_slice(p);
    let m8 = u64::from_ne_bytes([MASK[0], MASK[1], MASK[2], MASK[3], MASK[0], MASK[1], MASK[2], MASK[3]]);
    let body = &mut out[s..];
    let mut it = body.chunks_exact_mut(8);
    for ch in &mut it {
        let v = u64::from_ne_bytes(ch.try_into().unwrap()) ^ m8;
        ch.copy_from_slice(&v.to_ne_bytes());
    }
    for (i, b) in it.into_remainder().iter_mut().enumerate() {
        *b ^= MASK[i & 3];
    }
}

pub(super) fn ws_request(c: &Cfg, path: &str, out: &mut Vec<u8>) {
    ws_request_for(c, path, "", out)
}

/// The same, with more headers.
pub(super) fn ws_request_for(c: &Cfg, path: &str, headers: &str, out: &mut Vec<u8>) {
    let mut s = String::new();
    let _ = write!(
        s,
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
        path, c.host, headers
    );
    out.extend_from_slice(s.as_bytes());
}

/// The upgrade response: Some(consumed) once complete.
pub(super) fn ws_response(d: &[u8]) -> Res<Option<usize>> {
    match find(d, b"\r\n\r\n") {
        None => Ok(None),
        Some(p) => {
            if d.starts_with(b"HTTP/1.1 101") {
                Ok(Some(p + 4))
            } else {
                Err(format!("upgrade refused: {}", String::from_utf8_lossy(&d[..p.min(200)])))
            }
        }
    }
}

/// Parses server frames; calls f(payload, out) for each whole message; answers pings. Returns consumed.
pub(super) fn ws_frames(
    d: &[u8],
    out: &mut Vec<u8>,
    f: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> Res<()>,
) -> Res<usize> {
    parse(d, out, &mut |op, fin, p, out| match op {
        1 | 2 if fin => f(p, out),
        _ => Err(format!("frame {op:#x} not handled")),
    })
}

/// The same, for servers that fragment: what came of an unfinished message is kept in `fragments`.
pub(super) fn ws_messages(
    d: &[u8],
    out: &mut Vec<u8>,
    fragments: &mut Vec<u8>,
    f: &mut dyn FnMut(&[u8]) -> Res<()>,
) -> Res<usize> {
    parse(d, out, &mut |_, fin, p, _| {
        if fin && fragments.is_empty() {
            return f(p);
        }
        fragments.extend_from_slice(p);
        if fin {
            f(&std::mem::take(fragments))?;
        }
        Ok(())
    })
}

type OnFrame<'a> = dyn FnMut(u8, bool, &[u8], &mut Vec<u8>) -> Res<()> + 'a;

fn parse(d: &[u8], out: &mut Vec<u8>, f: &mut OnFrame) -> Res<usize> {
    let mut i = 0;
    loop {
        let r = &d[i..];
        if r.len() < 2 {
            break;
        }
        let (op, mut n, mut h) = (r[0] & 15, (r[1] & 127) as usize, 2);
        if n == 126 {
            if r.len() < 4 {
                break;
            }
            n = u16::from_be_bytes([r[2], r[3]]) as usize;
            h = 4;
        } else if n == 127 {
            if r.len() < 10 {
                break;
            }
            n = u64::from_be_bytes(r[2..10].try_into().unwrap()) as usize;
            h = 10;
        }
        if r.len() < h + n {
            break;
        }
        let p = &r[h..h + n];
        match op {
            9 => ws_frame(10, p, out),
            10 => {}
            8 => return Err(format!("server closed: {}", String::from_utf8_lossy(p))),
            _ => f(op, r[0] & 0x80 != 0, p, out)?,
        }
        i += h + n;
    }
    Ok(i)
}

pub(super) struct Ws {
    c: Cfg,
    open: bool,
    op: u8,
}
impl Ws {
    pub(super) fn new(c: Cfg) -> Self {
        let op = if c.binary { 2 } else { 1 };
        Ws { c, open: false, op }
    }
}
impl Codec for Ws {
    fn start(&mut self, out: &mut Vec<u8>) {
        ws_request(&self.c, &self.c.path, out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        if !self.open {
            match ws_response(d)? {
                None => return Ok(0),
                Some(n) => i = n,
            }
            self.open = true;
            sink(Ev::Open);
        }
        Ok(i + ws_frames(&d[i..], out, &mut |p, _| {
            sink(Ev::Msg(p));
            Ok(())
        })?)
    }
    fn send(&mut self, p: &[u8], out: &mut Vec<u8>) {
        ws_frame(self.op, p, out)
    }
}
