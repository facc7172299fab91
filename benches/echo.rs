//! Echoes over the loopback: client and server in one process, on one thread, per transport and encoding.
//!
//! With one message in flight the time is that of a round trip through everything there is; with 16 it is the cost of
//! a message both ways where batches form. For the server's share alone, beside a bare WebSocket: `echo_cost`.

#![expect(clippy::expect_used, reason = "a bench that cannot run says why by panicking")]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use throughline::frame::Encoding;
use throughline::{Body, Client, Hub, Server, Socket, TransportKind};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const BODY: usize = 64;

const LANES: [(&str, TransportKind, Encoding); 6] = [
    ("websocket-json", TransportKind::WebSocket, Encoding::Json),
    ("websocket-binary", TransportKind::WebSocket, Encoding::Binary),
    ("sse-event-stream", TransportKind::Sse, Encoding::Json),
    ("sse-binary-stream", TransportKind::Sse, Encoding::Binary),
    ("long-polling-json", TransportKind::LongPolling, Encoding::Json),
    ("long-polling-binary", TransportKind::LongPolling, Encoding::Binary),
];

async fn echo(mut socket: Socket, _: Hub) {
    while let Ok(message) = socket.recv().await {
        if socket.send(message.body).await.is_err() {
            return;
        }
    }
}

/// Serves echoes on a free port until the runtime ends.
async fn serve() -> String {
    let server = Server::builder().serve(echo).expect("the defaults serve");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(io, server.service());
            tokio::spawn(connection.with_upgrades());
        }
    });
    format!("http://{address}/live")
}

/// The time of so many echoes, with so many in flight.
async fn time(socket: &mut Socket, body: &Body, in_flight: u64, count: u64) -> Duration {
    let began = Instant::now();
    let mut sent = 0;
    for received in 0..count {
        while sent < count && sent < received + in_flight {
            socket.send(body.clone()).await.expect("the session lives");
            sent += 1;
        }
        socket.recv().await.expect("an echo");
    }
    began.elapsed()
}

fn echoes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).throughput(Throughput::Elements(1));
    for (name, kind, encoding) in LANES {
        let runtime: Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut socket = runtime.block_on(async {
            let url = serve().await;
            let client = Client::builder(url).transports([kind]).encoding(encoding);
            client.connect().await.expect("the server answers")
        });
        let body = match encoding {
            Encoding::Json => Body::from("x".repeat(BODY - 2)),
            Encoding::Binary => Body::from(vec![b'x'; BODY]),
        };
        for in_flight in [1, 16] {
            group.bench_function(BenchmarkId::new(name, in_flight), |bencher| {
                bencher.iter_custom(|count| runtime.block_on(time(&mut socket, &body, in_flight, count)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, echoes);
criterion_main!(benches);
