//! One client: a codec on a TCP connection, or on two.
use crate::codec::{self, Codec, Ev, Res, Resume, Role};
use crate::run::G;
use std::cell::{Cell, RefCell};
use std::future::{poll_fn, Future};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Sleep;

thread_local! { static BUF: RefCell<Vec<u8>> = RefCell::new(vec![0u8; 256 * 1024]); }

pub struct Conn {
    pub codec: Box<dyn Codec>,
    pub out: Vec<u8>,
    s: TcpStream,
    inb: Vec<u8>,
    /// How much of `out` was written: a flush may be dropped in the middle.
    written: usize,
    side: Option<TcpStream>,
    side_in: Vec<u8>,
    side_answers: usize,
    addr: SocketAddr,
    seq: usize,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Whether clients that leave say so.
    parts: Rc<Cell<bool>>,
}

impl Drop for Conn {
    /// One that has nothing else to say has room for its last word.
    fn drop(&mut self) {
        if self.parts.get() && self.out.is_empty() {
            self.codec.part();
            self.codec.seal(&mut self.out);
            let _ = self.s.try_write(&self.out);
        }
    }
}

async fn connect(addr: SocketAddr, seq: usize) -> Res<TcpStream> {
    let sk = TcpSocket::new_v4().map_err(|e| e.to_string())?;
    // spread over source addresses so that ephemeral ports do not run out
    let src = SocketAddr::from(([127, 0, 0, 10 + (seq % 8) as u8], 0));
    unsafe {
        // choose the port at connect(), per destination: bind() alone would scan a table full of TIME_WAIT entries
        use std::os::fd::AsRawFd;
        let on: libc::c_int = 1;
        libc::setsockopt(
            sk.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            &on as *const _ as *const _,
            4,
        );
    }
    sk.bind(src).map_err(|e| format!("bind: {e}"))?;
    let s = sk.connect(addr).await.map_err(|e| format!("connect: {e}"))?;
    let _ = s.set_nodelay(true);
    Ok(s)
}

/// One read, and what `feed` makes of it and of what was left before.
fn poll_feed(
    s: &mut TcpStream,
    kept: &mut Vec<u8>,
    cx: &mut Context<'_>,
    mut feed: impl FnMut(&[u8]) -> Res<usize>,
) -> Poll<Res<()>> {
    BUF.with(|b| {
        let b = &mut *b.borrow_mut();
        let mut rb = ReadBuf::new(b);
        if let Err(e) = ready!(Pin::new(s).poll_read(cx, &mut rb)) {
            return Poll::Ready(Err(format!("read: {e}")));
        }
        let d = rb.filled();
        if d.is_empty() {
            return Poll::Ready(Err("closed by server".to_string()));
        }
        Poll::Ready(if kept.is_empty() {
            feed(d).map(|n| kept.extend_from_slice(&d[n..]))
        } else {
            kept.extend_from_slice(d);
            feed(kept).map(|n| {
                kept.drain(..n);
            })
        })
    })
}

async fn write_all(s: &mut TcpStream, out: &[u8], written: &mut usize) -> Res<()> {
    while *written < out.len() {
        *written += poll_fn(|cx| Pin::new(&mut *s).poll_write(cx, &out[*written..]))
            .await
            .map_err(|e| format!("write: {e}"))?;
    }
    Ok(())
}

impl Conn {
    pub async fn open(
        g: &G,
        role: Role,
        seq: usize,
        resume: Option<Resume>,
        sink: &mut dyn FnMut(Ev),
    ) -> Res<Conn> {
        Self::open_with(g, role, seq, resume, None, sink).await
    }

    /// The same, with a message right behind the handshake's first word.
    pub async fn open_with(
        g: &G,
        role: Role,
        seq: usize,
        resume: Option<Resume>,
        event: Option<Vec<u8>>,
        sink: &mut dyn FnMut(Ev),
    ) -> Res<Conn> {
        let proto = if role == Role::Pub { &g.pub_proto } else { &g.proto };
        let s = connect(g.addr, seq).await?;
        let mut c = Conn {
            codec: codec::make(proto, g.cfg(role, seq, resume, event)),
            out: vec![],
            s,
            inb: vec![],
            written: 0,
            side: None,
            side_in: vec![],
            side_answers: 0,
            addr: g.addr,
            seq,
            sleep: None,
            parts: g.parts.clone(),
        };
        c.codec.start(&mut c.out);
        c.flush().await?;
        // pollers that have no handshake, and POST publishers, are open at once
        let mut open = matches!(proto.as_str(), "post" | "nchan-poll");
        while !open {
            c.recv(&mut |e| match e {
                Ev::Open => open = true,
                e => sink(e),
            })
            .await?;
        }
        Ok(c)
    }

    /// Waits for one read, or until something is due; feeds the codec, and writes whatever it answered.
    pub async fn recv(&mut self, sink: &mut dyn FnMut(Ev)) -> Res<()> {
        poll_fn(|cx| self.poll_recv(cx, sink)).await?;
        if self.inb.is_empty() && self.inb.capacity() > 4096 {
            self.inb = vec![];
        }
        self.flush().await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(Ev)) -> Poll<Res<()>> {
        let (codec, out) = (&mut self.codec, &mut self.out);
        if let Poll::Ready(r) = poll_feed(&mut self.s, &mut self.inb, cx, |d| codec.feed(d, out, sink)) {
            return Poll::Ready(r);
        }
        if let Some(side) = &mut self.side {
            if let Poll::Ready(r) = poll_feed(side, &mut self.side_in, cx, |d| codec.feed_side(d, sink)) {
                self.side_answers += 1;
                // what proved the path is over; what is used again stays open
                if self.side_answers == 1 {
                    self.side = None;
                }
                return Poll::Ready(r);
            }
        }
        let Some(due) = codec.due() else { return Poll::Pending };
        let (at, sleep) =
            self.sleep.get_or_insert_with(|| (due, Box::pin(tokio::time::sleep_until(due.into()))));
        if *at != due {
            *at = due;
            sleep.as_mut().reset(due.into());
        }
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        self.codec.tick();
        Poll::Ready(Ok(()))
    }

    pub async fn flush(&mut self) -> Res<()> {
        self.codec.seal(&mut self.out);
        if !self.out.is_empty() {
            write_all(&mut self.s, &self.out, &mut self.written).await?;
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > 64 * 1024 {
                self.out = vec![];
            }
        }
        let Some(out) = self.codec.side().filter(|out| !out.is_empty()) else { return Ok(()) };
        let out = std::mem::take(out);
        let mut side = match self.side.take() {
            Some(side) => side,
            None => connect(self.addr, self.seq).await?,
        };
        write_all(&mut side, &out, &mut 0).await?;
        self.side = Some(side);
        Ok(())
    }
}
