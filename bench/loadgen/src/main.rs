//! One-thread load generator; one workload per invocation; one JSON line on stdout.
mod codec;
mod conn;
mod echo;
mod fanout;
mod idle;
mod run;
mod stats;
mod storm;
mod witness;

use run::{Args, G};
use std::collections::HashMap;
use std::time::Duration;

const USAGE: &str = "loadgen <echo|ack|bcast|idle|storm> --proto P --addr A [options]
  --proto P      tcp ws sio sio-poll sse nchan-poll sockjs-xhr sockjs-poll sockjs-ws
                 centrifuge, throughline[-json|-sse|-stream|-poll|-poll-binary]
  --addr A       127.0.0.1:PORT
  --path P       ws/sse/nchan path of echo clients or subscribers   (default /echo for echo, /sub otherwise)
  --pub-proto P  --pub-path P    the publisher's protocol and path   (default as --proto, /pub)
  --pid N[,N]    server pids whose CPU and RSS are read
  -n N           connections                 --size B      payload bytes (>= 33)
  --window W     messages in flight per connection (echo, ack), or publications (bcast, saturating)
  --rate R       bcast: publications a second instead of saturating
  --dur S --warm S               measured and warm-up seconds
  --bin          WebSocket binary frames instead of text
  --inflight N   handshakes under way at once (default 256)
  --resume 1     storm: resume sessions      --missed M    storm: publications made while all are away
  --event 1      storm: a message right behind the handshake's first word, to be echoed
  --witnesses N  storm: others that go on talking meanwhile, by --witness-proto and --witness-path
  --bystanders N echo, ack: others that are connected and say nothing
  --large B      idle: one publication of B bytes goes to all
  --limit S      abort after S seconds (default 90)";

fn main() {
    let argv: Vec<String> = std::env::args().collect();
    let Some(work) = argv.get(1).filter(|w| !w.starts_with('-')).cloned() else {
        eprintln!("{USAGE}");
        std::process::exit(64);
    };
    let mut m = HashMap::new();
    let mut i = 2;
    while i < argv.len() {
        let k = argv[i].trim_start_matches('-').to_string();
        if k == "bin" {
            m.insert(k, "1".into());
            i += 1;
        } else {
            m.insert(k, argv.get(i + 1).expect("value").clone());
            i += 2;
        }
    }
    let a = Args(m);
    let g = G::new(&work, &a);
    let limit = a.n("limit", 90.0);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs_f64(limit));
        println!("{{\"error\":\"time limit\"}}");
        std::process::exit(3);
    });
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(61).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&rt, async move {
        match work.as_str() {
            "echo" => echo::echo(g, false, a.n("bystanders", 0.0) as usize).await,
            "ack" => echo::echo(g, true, a.n("bystanders", 0.0) as usize).await,
            "bcast" => fanout::fan_out(g).await,
            "idle" => idle::idle(g, a.n("large", 0.0) as usize).await,
            "storm" => storm::storm(g, &a).await,
            _ => {
                eprintln!("{USAGE}");
                std::process::exit(64)
            }
        }
    });
    std::process::exit(0);
}
