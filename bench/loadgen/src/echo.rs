//! W1 and W4: closed loops of echoes, or of acknowledged messages.
use crate::codec::{Ev, Role};
use crate::conn::Conn;
use crate::run::{all_open, hex16, report, snap, unhex16, G};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One client: as many messages as were answered, in one write.
async fn client(g: Rc<G>, i: usize, ack: bool, mut go: watch::Receiver<bool>) {
    let p = g.sem.acquire().await.unwrap();
    let c = Conn::open(&g, Role::Echo, i, None, &mut |_| {}).await;
    drop(p);
    let mut c = match c {
        Ok(c) => c,
        Err(e) => return g.fail("open", &e),
    };
    g.open(c.codec.promises_all());
    let _ = go.changed().await;
    let mut payload = vec![b'x'; g.size];
    // each message bears its number, by which its echo is known
    let (mut number, mut echoed) = (0u64, 0u64);
    let mut sent: VecDeque<Instant> = VecDeque::with_capacity(g.window);
    let mut k = g.window;
    loop {
        let now = Instant::now();
        for _ in 0..k {
            number += 1;
            hex16(number, &mut payload);
            if ack {
                c.codec.send_ack(&payload, &mut c.out);
            } else {
                c.codec.send(&payload, &mut c.out);
            }
            sent.push_back(now);
        }
        if let Err(e) = c.flush().await {
            return g.fail("echo", &e);
        }
        k = 0;
        while k == 0 {
            let mut bad = false;
            let r = c
                .recv(&mut |e| match e {
                    Ev::Msg(m) if !ack => {
                        echoed += 1;
                        bad |= m.len() != g.size;
                        if unhex16(m) != Some(echoed) {
                            g.disorder.set(g.disorder.get() + 1);
                        }
                        k += 1
                    }
                    Ev::Ack if ack => k += 1,
                    _ => {}
                })
                .await;
            if let Err(e) = r {
                return g.fail("echo", &e);
            }
            if bad {
                return g.fail("echo", "wrong length came back");
            }
        }
        let now = Instant::now();
        let m = g.measuring.get();
        let mut h = g.hist.borrow_mut();
        for _ in 0..k {
            let t = sent.pop_front().expect("more answers than messages");
            if m {
                h.record((now - t).as_nanos() as u64).ok();
            }
        }
        if m {
            g.count.set(g.count.get() + k as u64);
        }
    }
}

/// One that is connected and says nothing but what its protocol owes.
async fn bystander(g: Rc<G>, i: usize) {
    let p = g.sem.acquire().await.unwrap();
    let c = Conn::open(&g, Role::Echo, i, None, &mut |_| {}).await;
    drop(p);
    let mut c = match c {
        Ok(c) => c,
        Err(e) => return g.fail("open", &e),
    };
    g.open(c.codec.promises_all());
    while c.recv(&mut |_| {}).await.is_ok() {}
}

pub async fn echo(g: Rc<G>, ack: bool, bystanders: usize) {
    for i in 0..bystanders {
        tokio::task::spawn_local(bystander(g.clone(), g.n + i));
    }
    while g.opened.get() < bystanders && g.errors.get() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    g.opened.set(0);
    let (go, _) = watch::channel(false);
    for i in 0..g.n {
        tokio::task::spawn_local(client(g.clone(), i, ack, go.subscribe()));
    }
    all_open(&g).await;
    go.send_replace(true);
    tokio::time::sleep(Duration::from_secs_f64(g.warm)).await;
    let a = snap(&g);
    g.measuring.set(true);
    tokio::time::sleep(Duration::from_secs_f64(g.dur)).await;
    g.measuring.set(false);
    let b = snap(&g);
    report(&g, if ack { "ack" } else { "echo" }, &a, &b, "");
}
