//! Raw TCP: fixed-size echoes, newline-framed publications.

use super::{Cfg, Codec, Ev, Res, Role};

pub(super) struct Tcp {
    pub(super) c: Cfg,
    pub(super) open: bool,
}
impl Codec for Tcp {
    fn start(&mut self, out: &mut Vec<u8>) {
        out.push(match self.c.role {
            Role::Echo => b'E',
            Role::Sub => b'S',
            Role::Pub => b'P',
        });
    }
    fn feed(&mut self, mut d: &[u8], _out: &mut Vec<u8>, sink: &mut dyn FnMut(Ev)) -> Res<usize> {
        let total = d.len();
        if !self.open && !d.is_empty() {
            self.open = true;
            d = &d[1..];
            sink(Ev::Open);
        }
        while d.len() >= self.c.size {
            sink(Ev::Msg(&d[..self.c.size]));
            d = &d[self.c.size..];
        }
        Ok(total - d.len())
    }
    fn send(&mut self, p: &[u8], out: &mut Vec<u8>) {
        // same length, last byte a newline: the publisher role is newline-framed
        out.extend_from_slice(&p[..p.len() - 1]);
        out.push(b'\n');
    }
}
