//! Frames in both encodings.
use super::super::{Ev, Res};
use super::{deliver, Core, Encoding};
use std::io::Write as _;

/// What stands between two frames of a batch.
pub(super) fn join(encoding: Encoding, batch: &mut Vec<u8>) {
    if encoding == Encoding::Json && !batch.is_empty() {
        batch.push(b'\n');
    }
}

fn varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn varint_len(v: u64) -> usize {
    (70 - (v | 1).leading_zeros() as usize) / 7
}

/// Takes a varint from the front.
#[inline]
fn take_varint(d: &mut &[u8]) -> Option<u64> {
    let mut v = 0;
    for (i, b) in d.iter().enumerate().take(9) {
        v |= ((b & 0x7f) as u64) << (7 * i);
        if b & 0x80 == 0 {
            *d = &d[i + 1..];
            return Some(v);
        }
    }
    None
}

/// Takes digits from the front.
#[inline]
fn take_digits(d: &mut &[u8]) -> Option<u64> {
    let n = d.iter().take_while(|b| b.is_ascii_digit()).count();
    let v = d[..n].iter().fold(0, |v, b| v * 10 + (b - b'0') as u64);
    *d = &d[n..];
    (n > 0).then_some(v)
}

impl Core {
    /// A control frame whose payload is JSON.
    pub(super) fn control(&self, tag: u8, name: &str, json: &str, out: &mut Vec<u8>) {
        join(self.encoding, out);
        match self.encoding {
            Encoding::Json => {
                let _ = write!(out, "[\"{name}\",{json}]");
            }
            Encoding::Binary => {
                varint(json.len() as u64 + 1, out);
                out.push(tag);
                out.extend_from_slice(json.as_bytes());
            }
        }
    }

    /// A control frame with a number: `ack`, `ping`, `pong`.
    fn numbered(&self, tag: u8, name: &str, v: u64, out: &mut Vec<u8>) {
        join(self.encoding, out);
        match self.encoding {
            Encoding::Json => {
                let _ = write!(out, "[\"{name}\",{v}]");
            }
            Encoding::Binary => {
                varint(varint_len(v) as u64 + 1, out);
                out.push(tag);
                varint(v, out);
            }
        }
    }

    pub(super) fn receipt(&self, received: u64, out: &mut Vec<u8>) {
        self.numbered(0x08, "ack", received, out)
    }

    pub(super) fn ping(&self, number: u64, out: &mut Vec<u8>) {
        self.numbered(0x09, "ping", number, out)
    }

    /// Puts a message, or a request, behind what waits.
    pub(super) fn message(&mut self, payload: &[u8], request: bool) {
        self.sent += 1;
        let out = &mut self.pending;
        match self.encoding {
            Encoding::Json => {
                join(Encoding::Json, out);
                let tag = if request { "req" } else { "msg" };
                let _ = write!(out, "[\"{tag}\",{},\"", self.sent);
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\"]");
            }
            Encoding::Binary => {
                varint((1 + varint_len(self.sent) + payload.len()) as u64, out);
                out.push(if request { 0x04 } else { 0x02 });
                varint(self.sent, out);
                out.extend_from_slice(payload);
            }
        }
    }

    fn pong(&mut self, number: Option<u64>) {
        let mut out = std::mem::take(&mut self.pending);
        match number {
            Some(v) => self.numbered(0x0a, "pong", v, &mut out),
            None if self.encoding == Encoding::Binary => out.extend_from_slice(&[1, 0x0a]),
            None => {
                join(Encoding::Json, &mut out);
                out.extend_from_slice(b"[\"pong\"]");
            }
        }
        self.pending = out;
    }

    /// All frames of a batch.
    pub(super) fn batch(&mut self, batch: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<()> {
        match self.encoding {
            Encoding::Binary => {
                let mut rest = batch;
                while !rest.is_empty() {
                    let n = self.binary(rest, sink)?.ok_or("a frame that ends early")?;
                    rest = &rest[n..];
                }
            }
            Encoding::Json => {
                for line in batch.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                    self.json(line, sink)?;
                }
            }
        }
        Ok(())
    }

    /// One binary frame from the front: how long it was, or `None` when it is not complete.
    pub(super) fn binary(&mut self, data: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<Option<usize>> {
        let mut d = data;
        let Some(n) = take_varint(&mut d) else { return Ok(None) };
        let head = data.len() - d.len();
        let Some(mut d) = d.get(..n as usize) else { return Ok(None) };
        let bad = || format!("malformed frame of type {:#x}", data[head]);
        let tag = *d.first().ok_or("an empty frame")?;
        d = &d[1..];
        match tag {
            0x01..=0x07 => {
                let seq = take_varint(&mut d).ok_or_else(bad)?;
                let answer = tag >= 0x05;
                if answer {
                    let to = take_varint(&mut d).ok_or_else(bad)?;
                    self.take_answer(to)?;
                }
                self.take(seq, d.len())?;
                // JSON texts here never contain escapes
                let body = if tag & 1 == 1 {
                    d.strip_prefix(b"\"").and_then(|d| d.strip_suffix(b"\"")).unwrap_or(d)
                } else {
                    d
                };
                deliver(body, answer, sink);
            }
            0x08 => {
                let received = take_varint(&mut d).ok_or_else(bad)?;
                self.take_receipt(received)?;
            }
            0x09 => {
                let number = take_varint(&mut d);
                self.pong(number);
            }
            0x0a => {}
            0x11 => {
                self.take_welcome(&String::from_utf8_lossy(d))?;
                sink(Ev::Open);
            }
            0x16 => return Err(format!("closed: {}", String::from_utf8_lossy(d))),
            _ => return Err(bad()),
        }
        Ok(Some(head + n as usize))
    }

    /// One JSON frame.
    pub(super) fn json(&mut self, line: &[u8], sink: &mut dyn FnMut(Ev)) -> Res<()> {
        let bad = || format!("malformed frame {}", String::from_utf8_lossy(&line[..line.len().min(80)]));
        if line.starts_with(b"[\"msg\",") || line.starts_with(b"[\"res\",") {
            let answer = line[2] == b'r';
            let mut d = &line[7..];
            let seq = take_digits(&mut d).ok_or_else(bad)?;
            if answer {
                d = d.strip_prefix(b",").ok_or_else(bad)?;
                let to = take_digits(&mut d).ok_or_else(bad)?;
                self.take_answer(to)?;
            }
            // bodies here are JSON strings without escapes
            let body = d.strip_prefix(b",\"").and_then(|d| d.strip_suffix(b"\"]")).ok_or_else(bad)?;
            self.take(seq, body.len() + 2)?;
            deliver(body, answer, sink);
        } else if let Some(mut d) = line.strip_prefix(b"[\"ack\",") {
            let received = take_digits(&mut d).ok_or_else(bad)?;
            self.take_receipt(received)?;
        } else if let Some(d) = line.strip_prefix(b"[\"ping\"") {
            let mut d = d.strip_prefix(b",").unwrap_or(b"");
            let number = take_digits(&mut d);
            self.pong(number);
        } else if line.starts_with(b"[\"welcome\",") {
            self.take_welcome(&String::from_utf8_lossy(line))?;
            sink(Ev::Open);
        } else if !line.starts_with(b"[\"pong\"") {
            return Err(format!("closed or unknown: {}", String::from_utf8_lossy(line)));
        }
        Ok(())
    }
}
