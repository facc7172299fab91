//! W2 and W5: one publisher, many subscribers.
use crate::codec::{Ev, Role};
use crate::conn::Conn;
use crate::run::{all_open, hex16, report, snap, unhex16, Order, G};
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

pub fn subscriber(g: &Rc<G>, i: usize) -> tokio::task::JoinHandle<()> {
    let g = g.clone();
    tokio::task::spawn_local(async move {
        let p = g.sem.acquire().await.unwrap();
        let c = Conn::open(&g, Role::Sub, i, None, &mut |_| {}).await;
        drop(p);
        let mut c = match c {
            Ok(c) => c,
            Err(e) => return g.fail("open", &e),
        };
        g.open(c.codec.promises_all());
        let mut order = Order::default();
        loop {
            let mut k = 0;
            let r = c
                .recv(&mut |e| {
                    if let Ev::Msg(m) = e {
                        k += 1;
                        order.see(&g, m);
                        if g.measuring.get() {
                            if let Some(t) = unhex16(m) {
                                g.hist.borrow_mut().record(g.now_ns().saturating_sub(t)).ok();
                            }
                        }
                    }
                })
                .await;
            if k > 0 {
                let before = g.total.get();
                g.total.set(before + k);
                if g.measuring.get() {
                    g.count.set(g.count.get() + k);
                }
                let n = g.n as u64;
                if before / n != (before + k) / n {
                    g.progress.notify_waiters();
                }
            }
            if let Err(e) = r {
                return g.fail("subscriber", &e);
            }
        }
    })
}

pub struct Publisher {
    c: Conn,
    payload: Vec<u8>,
    pub sent: u64,
}

impl Publisher {
    pub async fn open(g: &Rc<G>) -> Publisher {
        match Conn::open(g, Role::Pub, g.n, None, &mut |_| {}).await {
            Ok(c) => Publisher { c, payload: vec![b'x'; g.size], sent: 0 },
            Err(e) => {
                println!("{{\"error\":\"publisher: {}\"}}", e.replace(['"', '\n', '\r'], " "));
                std::process::exit(2)
            }
        }
    }
    /// Publishes the time, and the number of the publication.
    pub async fn publish(&mut self, g: &G) {
        self.sent += 1;
        hex16(g.now_ns(), &mut self.payload);
        hex16(self.sent, &mut self.payload[16..]);
        self.c.codec.send(&self.payload, &mut self.c.out);
        if let Err(e) = self.c.flush().await {
            g.fail("publish", &e);
        }
    }
    /// The size of what is published from now on.
    pub fn set_size(&mut self, bytes: usize) {
        self.payload = vec![b'x'; bytes];
    }
    /// Takes in whatever the server answered, without waiting.
    pub async fn drain(&mut self) {
        let mut none = |_: Ev| {};
        let mut f = std::pin::pin!(self.c.recv(&mut none));
        std::future::poll_fn(|cx| {
            let _ = Future::poll(f.as_mut(), cx);
            Poll::Ready(())
        })
        .await
    }
}

pub async fn fan_out(g: Rc<G>) {
    for i in 0..g.n {
        subscriber(&g, i);
    }
    all_open(&g).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut p = Publisher::open(&g).await;
    let start = Instant::now();
    let (mut a, mut warm) = (None, true);
    let end = start + Duration::from_secs_f64(g.warm + g.dur);
    let mut next = start;
    let mut sent_measured = 0u64;
    while Instant::now() < end {
        if warm && start.elapsed().as_secs_f64() >= g.warm {
            warm = false;
            a = Some(snap(&g));
            g.measuring.set(true);
        }
        if g.rate > 0.0 {
            tokio::time::sleep_until(next.into()).await;
            next += Duration::from_secs_f64(1.0 / g.rate);
            p.publish(&g).await;
            if !warm {
                sent_measured += 1;
            }
        } else {
            let n = g.n as u64;
            let mut did = false;
            while p.sent < g.total.get() / n + g.window as u64 {
                p.publish(&g).await;
                did = true;
                if !warm {
                    sent_measured += 1;
                }
            }
            if !did {
                let _ = tokio::time::timeout(Duration::from_millis(50), g.progress.notified()).await;
            }
        }
        p.drain().await;
        if g.errors.get() > 0 {
            break;
        }
    }
    g.measuring.set(false);
    let b = snap(&g);
    // settle, then count what never arrived
    let want = p.sent * g.n as u64;
    for _ in 0..40 {
        if g.total.get() >= want {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lost = want.saturating_sub(g.total.get());
    if g.promises_all.get() && lost > 0 {
        g.fail("fan-out", &format!("{lost} deliveries never came"));
    }
    let extra = format!(",\"published\":{sent_measured},\"lost\":{lost}");
    report(&g, "bcast", &a.unwrap_or_else(|| snap(&g)), &b, &extra);
}
