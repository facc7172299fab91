//! W6: all drop at once and come back.
//!
//! Connects all; publishes a little so that there is something to resume from; drops all at once; publishes `missed`
//! more; reconnects all at once. When resuming it waits for what was missed, and each client checks that it gets
//! exactly that, once and in order. With `event` each client says a message right behind the handshake's first word,
//! and waits for its echo: a server that takes messages before its handler listens loses some.
use crate::codec::{Ev, Resume, Role};
use crate::conn::Conn;
use crate::fanout::Publisher;
use crate::run::{all_open, report, snap, Args, Order, G};
use crate::stats;
use crate::witness::Witnesses;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The first byte of a message that was said right behind the handshake.
const EVENT: u8 = b'E';

/// What each client takes along: its session, and which publication it saw last.
type Held = Rc<RefCell<Vec<(Option<Resume>, Order)>>>;

struct Storm {
    resume: bool,
    missed: u64,
    event: bool,
    /// Replayed publications, and events that were answered.
    replayed: Cell<u64>,
    answered: Cell<u64>,
}

async fn first_life(g: Rc<G>, i: usize, held: Held, mut bye: watch::Receiver<bool>) {
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
        let mut sink = |e: Ev| {
            if let Ev::Msg(m) = e {
                order.see(&g, m);
                k += 1
            }
        };
        let gone = tokio::select! {
            biased;
            r = c.recv(&mut sink) => match r {
                Ok(()) => false,
                Err(e) => return g.fail("storm", &e),
            },
            _ = bye.changed() => true,
        };
        if gone {
            held.borrow_mut()[i] = (c.codec.resume(), order);
            return;
        }
        g.total.set(g.total.get() + k);
    }
}

async fn second_life(g: Rc<G>, i: usize, storm: Rc<Storm>, held: Held) {
    let t = Instant::now();
    let p = g.sem.acquire().await.unwrap();
    let (token, mut order) = held.borrow_mut()[i].clone();
    let token = token.filter(|_| storm.resume);
    if token.is_none() {
        // a new session: it sees what is published from now on
        order = Order::anywhere(u64::MAX);
    }
    let mut event = vec![EVENT; g.size];
    event[1..].fill(b'v');
    let mut sink = |e: Ev| {
        if let Ev::Msg(m) = e {
            if m.first() == Some(&EVENT) {
                storm.answered.set(storm.answered.get() + 1);
            } else if storm.resume {
                order.see(&g, m);
                storm.replayed.set(storm.replayed.get() + 1);
            }
        }
    };
    let event = storm.event.then_some(event);
    let c = Conn::open_with(&g, Role::Sub, i + g.n + 1, token, event, &mut sink).await;
    drop(p);
    let mut c = match c {
        Ok(c) => c,
        Err(e) => return g.fail("reopen", &e),
    };
    g.hist.borrow_mut().record(t.elapsed().as_nanos() as u64).ok();
    g.count.set(g.count.get() + 1);
    g.open(c.codec.promises_all());
    loop {
        if let Err(e) = c.recv(&mut sink).await {
            return g.fail("after the storm", &e);
        }
    }
}

/// Until the server has noticed every close: its CPU use stops growing, or 3 s have passed.
async fn quiet(g: &G) {
    let mut last = 0;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = stats::of(&g.pids).run_ns;
        if now - last < 2_000_000 {
            break;
        }
        last = now;
    }
}

pub async fn storm(g: Rc<G>, args: &Args) {
    let n = g.n;
    let on = |name: &str| args.n(name, 0.0) > 0.0;
    let storm = Rc::new(Storm {
        resume: on("resume"),
        missed: args.n("missed", 0.0) as u64,
        event: on("event"),
        replayed: Cell::new(0),
        answered: Cell::new(0),
    });
    let held: Held = Rc::new(RefCell::new(vec![Default::default(); n]));
    let (bye, _) = watch::channel(false);
    for i in 0..n {
        tokio::task::spawn_local(first_life(g.clone(), i, held.clone(), bye.subscribe()));
    }
    all_open(&g).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut p = Publisher::open(&g).await;
    for _ in 0..2 {
        p.publish(&g).await;
    }
    for _ in 0..100 {
        p.drain().await;
        if g.total.get() >= 2 * n as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = g.total.get();
    let witnesses = on("witnesses").then(|| Witnesses::start(args, args.n("witnesses", 0.0) as usize));
    let a = snap(&g);
    bye.send_replace(true);
    quiet(&g).await;
    for _ in 0..storm.missed {
        p.publish(&g).await;
    }
    p.drain().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    if let Some(w) = &witnesses {
        w.watch();
    }
    let m = snap(&g);
    g.opened.set(0);
    for i in 0..n {
        tokio::task::spawn_local(second_life(g.clone(), i, storm.clone(), held.clone()));
    }
    all_open(&g).await;
    let b = snap(&g);
    let t = Instant::now();
    let want = if storm.resume { storm.missed * n as u64 } else { 0 };
    let want_events = if storm.event { n as u64 } else { 0 };
    while (storm.replayed.get() < want || storm.answered.get() < want_events)
        && t.elapsed() < Duration::from_secs(3)
        && g.errors.get() == 0
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let z = snap(&g);
    let witnessed = witnesses.and_then(Witnesses::stop).map_or(String::new(), |seen| {
        format!(
            ",\"witness_answers\":{},\"witness_p99_ms\":{:.1},\"witness_max_ms\":{:.1},\"witness_errors\":{}",
            seen.answers, seen.p99_ms, seen.max_ms, seen.errors
        )
    });
    let (got, answered) = (storm.replayed.get(), storm.answered.get());
    if g.promises_all.get() && (got != want || answered != want_events) {
        g.fail("storm", &format!("{got} of {want} replayed, {answered} of {want_events} events answered"));
    }
    let extra = format!(
        ",\"seen_before\":{seen},\"drop_cpu_us_per_conn\":{:.2},\"all_ms\":{:.1},\"all_and_replayed_ms\":{:.1},\"replay_want\":{want},\"replay_got\":{got},\"events_want\":{want_events},\"events_got\":{answered},\"cpu_us_per_conn_total\":{:.2}{witnessed}",
        (m.srv.run_ns - a.srv.run_ns) as f64 / 1e3 / n as f64,
        (b.at - m.at).as_secs_f64() * 1e3,
        (z.at - m.at).as_secs_f64() * 1e3,
        (z.srv.run_ns - m.srv.run_ns) as f64 / 1e3 / n as f64,
    );
    report(&g, "storm", &m, &b, &extra);
}
