//! Others, who go on talking while a storm passes: how long they wait for an answer.
//!
//! They live on a thread of their own, so that the generator's own bustle is not taken for the server's.
use crate::codec::{Ev, Role};
use crate::conn::Conn;
use crate::run::{Args, G};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

/// How often each of them asks.
const PAUSE: Duration = Duration::from_millis(5);

pub struct Witnesses {
    watching: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    result: mpsc::Receiver<Seen>,
}

/// What they saw, in milliseconds.
pub struct Seen {
    pub answers: u64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub errors: u64,
}

impl Witnesses {
    /// Starts `n` of them; they count from `watch` on.
    pub fn start(args: &Args, n: usize) -> Witnesses {
        let mut args = args.clone();
        for (to, from) in [("proto", "witness-proto"), ("path", "witness-path")] {
            if let Some(v) = args.0.remove(from) {
                args.0.insert(to.into(), v);
            }
        }
        let (tx, result) = mpsc::channel();
        let (watching, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (w, s) = (watching.clone(), stop.clone());
        std::thread::spawn(move || {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            let seen = local.block_on(&rt, witness(args, n, w, s));
            let _ = tx.send(seen);
        });
        Witnesses { watching, stop, result }
    }
    pub fn watch(&self) {
        self.watching.store(true, Ordering::Relaxed);
    }
    pub fn stop(self) -> Option<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.result.recv_timeout(Duration::from_secs(3)).ok()
    }
}

async fn witness(args: Args, n: usize, watching: Arc<AtomicBool>, stop: Arc<AtomicBool>) -> Seen {
    let g = G::new("echo", &args);
    let waiting: Rc<Vec<Cell<Option<Instant>>>> = Rc::new((0..n).map(|_| Cell::new(None)).collect());
    for i in 0..n {
        let (g, watching, waiting) = (g.clone(), watching.clone(), waiting.clone());
        tokio::task::spawn_local(async move {
            let mut c = match Conn::open(&g, Role::Echo, 50_000 + i, None, &mut |_| {}).await {
                Ok(c) => c,
                Err(e) => return g.fail("witness", &e),
            };
            let payload = vec![b'w'; g.size];
            loop {
                tokio::time::sleep(PAUSE).await;
                let asked = Instant::now();
                waiting[i].set(Some(asked));
                c.codec.send(&payload, &mut c.out);
                let mut answered = false;
                let mut r = c.flush().await;
                while r.is_ok() && !answered {
                    r = c.recv(&mut |e| answered |= matches!(e, Ev::Msg(_))).await;
                }
                if let Err(e) = r {
                    return g.fail("witness", &e);
                }
                waiting[i].set(None);
                if watching.load(Ordering::Relaxed) {
                    g.hist.borrow_mut().record(asked.elapsed().as_nanos() as u64).ok();
                }
            }
        });
    }
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // who still waits has waited at least so long
    for asked in waiting.iter().filter_map(Cell::get) {
        g.hist.borrow_mut().record(asked.elapsed().as_nanos() as u64).ok();
    }
    let h = g.hist.borrow();
    Seen {
        answers: h.len(),
        p99_ms: h.value_at_quantile(0.99) as f64 / 1e6,
        max_ms: h.max() as f64 / 1e6,
        errors: g.errors.get(),
    }
}
