//! nchan long-polling.

use super::http::{get, http_full};
use super::{Cfg, Codec, Ev, Res, Resume};

pub(super) struct NchanPoll {
    c: Cfg,
    lm: String,
    etag: String,
}
impl NchanPoll {
    pub(super) fn new(c: Cfg) -> Self {
        let r = c.resume.clone().unwrap_or_default();
        NchanPoll { c, lm: r.session, etag: r.offset }
    }
    fn poll(&self, out: &mut Vec<u8>) {
        let extra = if self.lm.is_empty() {
            String::new()
        } else {
            format!("If-Modified-Since: {}\r\nIf-None-Match: {}\r\n", self.lm, self.etag)
        };
        get(&self.c, &self.c.path, &extra, out)
    }
}
impl Codec for NchanPoll {
    fn start(&mut self, out: &mut Vec<u8>) {
        self.poll(out)
    }
    fn feed(&mut self, d: &[u8], out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let mut i = 0;
        while let Some((h, b, n)) = http_full(&d[i..])? {
            if h.status == 200 {
                sink(Ev::Msg(&b));
            } else if h.status != 304 && h.status != 408 {
                return Err(format!("nchan: status {}", h.status));
            }
            if let Some(x) = h.last_modified {
                self.lm = x;
            }
            if let Some(x) = h.etag {
                self.etag = x;
            }
            i += n;
            self.poll(out);
        }
        Ok(i)
    }
    fn send(&mut self, _p: &[u8], _out: &mut Vec<u8>) {
        panic!("poller only receives");
    }
    fn resume(&self) -> Option<Resume> {
        Some(Resume { session: self.lm.clone(), offset: self.etag.clone() })
    }
}
