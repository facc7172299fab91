//! One run: its settings, what is counted, and the line that is printed of it.
use crate::codec::{Cfg, Resume, Role};
use crate::stats;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// The command line, by name.
#[derive(Clone)]
pub struct Args(pub HashMap<String, String>);

impl Args {
    pub fn s(&self, k: &str, d: &str) -> String {
        self.0.get(k).cloned().unwrap_or_else(|| d.to_string())
    }
    pub fn n(&self, k: &str, d: f64) -> f64 {
        self.0.get(k).map(|v| v.parse().expect(k)).unwrap_or(d)
    }
}

pub struct G {
    pub addr: SocketAddr,
    pub proto: String,
    pub path: String,
    pub pub_proto: String,
    pub pub_path: String,
    pub pids: Vec<u32>,
    pub n: usize,
    pub size: usize,
    pub window: usize,
    pub rate: f64,
    pub dur: f64,
    pub warm: f64,
    pub binary: bool,
    pub sem: Semaphore,
    pub t0: Instant,
    // measurement state; one thread, so plain cells
    pub measuring: Cell<bool>,
    pub count: Cell<u64>,
    pub total: Cell<u64>,
    pub errors: Cell<u64>,
    pub opened: Cell<usize>,
    pub gaps: Cell<u64>,
    /// What came again, or in another order than it was sent in.
    pub disorder: Cell<u64>,
    pub promises_all: Cell<bool>,
    pub hist: RefCell<Histogram<u64>>,
    pub progress: Notify,
    /// Whether clients that leave say so, where their protocol can; otherwise they vanish.
    pub parts: Rc<Cell<bool>>,
}

impl G {
    pub fn new(work: &str, a: &Args) -> Rc<G> {
        let proto = a.s("proto", "ws");
        Rc::new(G {
            addr: a.s("addr", "127.0.0.1:9000").parse().expect("--addr"),
            path: a.s("path", if work == "echo" { "/echo" } else { "/sub" }),
            pub_proto: a.s("pub-proto", &proto),
            pub_path: a.s("pub-path", "/pub"),
            proto,
            pids: a.s("pid", "").split(',').filter_map(|x| x.parse().ok()).collect(),
            n: a.n("n", 64.0) as usize,
            size: (a.n("size", 64.0) as usize).max(33),
            window: a.n("window", 1.0) as usize,
            rate: a.n("rate", 0.0),
            dur: a.n("dur", 4.0),
            warm: a.n("warm", 1.0),
            binary: a.0.contains_key("bin"),
            sem: Semaphore::new(a.n("inflight", 256.0) as usize),
            t0: Instant::now(),
            measuring: Cell::new(false),
            count: Cell::new(0),
            total: Cell::new(0),
            errors: Cell::new(0),
            opened: Cell::new(0),
            gaps: Cell::new(0),
            disorder: Cell::new(0),
            promises_all: Cell::new(false),
            hist: RefCell::new(Histogram::new_with_bounds(100, 60_000_000_000, 3).unwrap()),
            progress: Notify::new(),
            parts: Rc::default(),
        })
    }
    pub fn cfg(&self, role: Role, seq: usize, resume: Option<Resume>, event: Option<Vec<u8>>) -> Cfg {
        Cfg {
            host: self.addr.to_string(),
            path: if role == Role::Pub { self.pub_path.clone() } else { self.path.clone() },
            role,
            size: self.size,
            binary: self.binary,
            resume,
            seq,
            event,
        }
    }
    pub fn now_ns(&self) -> u64 {
        self.t0.elapsed().as_nanos() as u64
    }
    pub fn fail(&self, what: &str, e: &str) {
        if self.errors.get() < 3 {
            eprintln!("loadgen: {what}: {e}");
        }
        self.errors.set(self.errors.get() + 1);
        self.progress.notify_waiters();
    }
    /// One more connection is open.
    pub fn open(&self, promises_all: bool) {
        self.promises_all.set(promises_all);
        self.opened.set(self.opened.get() + 1);
        self.progress.notify_waiters();
    }
}

/// What one subscriber has seen: publications are numbered from 1.
#[derive(Clone, Copy, Default)]
pub struct Order {
    last: u64,
}

impl Order {
    /// Judges a publication by its number: the next one, behind a gap, or out of order.
    #[inline]
    pub fn see(&mut self, g: &G, payload: &[u8]) {
        let Some(number) = payload.get(16..).and_then(unhex16) else { return };
        if number <= self.last {
            g.disorder.set(g.disorder.get() + 1);
        } else {
            // where nothing was promised, the first one seen is where counting begins
            if number != self.last + 1 && (self.last > 0 || g.promises_all.get()) {
                g.gaps.set(g.gaps.get() + number - self.last - 1);
            }
            self.last = number;
        }
    }
    /// Counting begins wherever the next publication is.
    pub fn anywhere(number: u64) -> Order {
        Order { last: number }
    }
}

pub struct Snap {
    pub at: Instant,
    pub srv: stats::Usage,
    pub own: u64,
    pub busy: (u64, u64),
}

pub fn snap(g: &G) -> Snap {
    Snap { at: Instant::now(), srv: stats::of(&g.pids), own: stats::own_ns(), busy: stats::machine() }
}

/// Common tail of every result: counts, rates, CPU of both sides, latency percentiles in microseconds.
pub fn report(g: &G, what: &str, a: &Snap, b: &Snap, extra: &str) {
    let s = (b.at - a.at).as_secs_f64();
    let n = g.count.get();
    let cpu = (b.srv.run_ns - a.srv.run_ns) as f64 / 1e9;
    let (ut, st) = (b.srv.utime - a.srv.utime, b.srv.stime - a.srv.stime);
    let own = (b.own - a.own) as f64 / 1e9;
    let h = g.hist.borrow();
    let q = |p: f64| h.value_at_quantile(p) as f64 / 1000.0;
    let per = |x: f64| if n > 0 { x / n as f64 * 1e6 } else { 0.0 };
    let steal = b.busy.0 - a.busy.0;
    // CPU that neither side accounts for, as a share of one CPU: kernel threads and other programs
    let other = ((b.busy.1 - a.busy.1) as f64 / 100.0 - cpu - own) / s;
    println!(
        "{{\"work\":\"{what}\",\"proto\":\"{}\",\"n\":{},\"size\":{},\"window\":{},\"rate_set\":{},\"secs\":{:.3},\"count\":{n},\"per_s\":{:.0},\"srv_cpu_s\":{:.4},\"srv_util\":{:.3},\"srv_us_per\":{:.4},\"srv_user_frac\":{:.3},\"srv_ctxt_per\":{:.4},\"gen_util\":{:.3},\"gen_us_per\":{:.4},\"p50_us\":{:.1},\"p90_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1},\"rss_kb\":{},\"errors\":{},\"gaps\":{},\"disorder\":{},\"steal_ticks\":{steal},\"other_util\":{other:.3}{extra}}}",
        g.proto, g.n, g.size, g.window, g.rate, s, n as f64 / s, cpu, cpu / s, per(cpu),
        if ut + st > 0 { ut as f64 / (ut + st) as f64 } else { 0.0 },
        (b.srv.ctxt - a.srv.ctxt) as f64 / n.max(1) as f64,
        own / s, per(own), q(0.5), q(0.9), q(0.99), h.max() as f64 / 1000.0, b.srv.rss_kb, errors(g), g.gaps.get(), g.disorder.get(),
    );
}

/// Failures; and where the protocol promises order and no loss, each breach of that too.
fn errors(g: &G) -> u64 {
    g.errors.get() + if g.promises_all.get() { g.gaps.get() + g.disorder.get() } else { 0 }
}

pub fn hex16(v: u64, out: &mut [u8]) {
    for i in 0..16 {
        out[i] = b"0123456789abcdef"[(v >> (60 - 4 * i)) as usize & 15];
    }
}

pub fn unhex16(p: &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for c in p.get(..16)? {
        v = v << 4
            | match c {
                b'0'..=b'9' => c - b'0',
                b'a'..=b'f' => c - b'a' + 10,
                _ => return None,
            } as u64;
    }
    Some(v)
}

/// Waits until every connection is open; gives up on errors.
pub async fn all_open(g: &Rc<G>) {
    while g.opened.get() < g.n {
        if g.errors.get() > 0 {
            println!("{{\"error\":\"{} of {} connections opened\"}}", g.opened.get(), g.n);
            std::process::exit(2);
        }
        let _ = tokio::time::timeout(Duration::from_millis(20), g.progress.notified()).await;
    }
}
