//! W3: what connections weigh that say nothing, after a large message, and after they are gone.
use crate::fanout::{subscriber, Publisher};
use crate::run::{all_open, report, snap, G};
use crate::stats;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub async fn idle(g: Rc<G>, large: usize) {
    let base = stats::of(&g.pids);
    let t = Instant::now();
    let tasks: Vec<_> = (0..g.n).map(|i| subscriber(&g, i)).collect();
    all_open(&g).await;
    let connect_s = t.elapsed().as_secs_f64();
    let c = stats::of(&g.pids);
    tokio::time::sleep(Duration::from_secs_f64(g.warm.max(1.0))).await;
    let a = snap(&g);
    tokio::time::sleep(Duration::from_secs_f64(g.dur)).await;
    let b = snap(&g);
    let per = |k: u64| (k as f64 - base.rss_kb as f64) / g.n as f64;
    let mut after_large = String::new();
    if large > 0 {
        let mut p = Publisher::open(&g).await;
        p.set_size(large);
        p.publish(&g).await;
        let t = Instant::now();
        while g.total.get() < g.n as u64 && t.elapsed() < Duration::from_secs(20) && g.errors.get() == 0 {
            p.drain().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rss = stats::of(&g.pids).rss_kb;
        after_large = format!(",\"large_got\":{},\"kb_per_conn_after_large\":{:.3}", g.total.get(), per(rss));
    }
    g.parts.set(true);
    for t in tasks {
        t.abort();
    }
    tokio::time::sleep(Duration::from_secs_f64(1.5)).await;
    let z = stats::of(&g.pids);
    let extra = format!(
        ",\"base_kb\":{},\"kb_per_conn\":{:.3},\"kb_per_conn_after_close\":{:.3},\"connect_s\":{:.3},\"connect_cpu_us_per_conn\":{:.2},\"idle_cpu_us_per_conn_s\":{:.4}{after_large}",
        base.rss_kb,
        per(b.srv.rss_kb),
        per(z.rss_kb),
        connect_s,
        (c.run_ns - base.run_ns) as f64 / 1e3 / g.n as f64,
        (b.srv.run_ns - a.srv.run_ns) as f64 / 1e3 / g.n as f64 / (b.at - a.at).as_secs_f64(),
    );
    report(&g, "idle", &a, &b, &extra);
}
