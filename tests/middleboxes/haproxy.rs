//! HAProxy in front of the server: one process, a port for each way to set it up.

use std::fmt::Write as _;

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};
use crate::secure::certificate;

/// Its name, what stands in its `listen` section, and what behind `bind`.
const SETUPS: [(&str, &str, &str); 6] = [
    ("default", "", ""),
    ("3 s idle limits", "timeout client 3s\n timeout server 3s\n timeout tunnel 3s", ""),
    (
        "64 KiB body limit",
        "option http-buffer-request\n http-request deny deny_status 413 if { req.body_size gt 65536 }",
        "",
    ),
    (
        "gzip",
        "compression algo gzip\n compression type text/plain text/event-stream application/x-ndjson",
        "",
    ),
    ("TLS", "", " ssl crt CERTIFICATE alpn http/1.1"),
    ("TLS and HTTP/2", "", " ssl crt CERTIFICATE alpn h2,http/1.1"),
];

pub(crate) async fn start(origin: Origin) -> (Running, Vec<Case>) {
    let folder = folder("haproxy");
    let both = ["server.pem", "server.key"].map(|name| std::fs::read_to_string(certificate(name)).unwrap());
    std::fs::write(folder.join("both.pem"), both.concat()).unwrap();
    let ports = free_ports::<{ SETUPS.len() + 1 }>();
    // As Debian sets it up.
    let mut config =
        "defaults\n mode http\n option dontlognull\n timeout connect 5000\n timeout client 50000\n \
                      timeout server 50000\n"
            .to_owned();
    let mut cases = Vec::new();
    for ((name, rules, bind), port) in SETUPS.into_iter().zip(ports) {
        let tls = bind.replace("CERTIFICATE", &folder.join("both.pem").display().to_string());
        let scheme = if tls.is_empty() { "http" } else { "https" };
        writeln!(
            config,
            "listen on{port}\n bind 127.0.0.1:{port}{tls}\n {rules}\n server it {}",
            origin.server
        )
        .unwrap();
        cases.push(Case::new(format!("HAProxy, {name}"), format!("{scheme}://localhost:{port}/live")));
    }
    let port = ports[SETUPS.len()];
    writeln!(
        config,
        "listen on{port}\n bind 127.0.0.1:{port}\n option http-buffer-request\n option redispatch 1\n retries 3\n \
         retry-on all-retryable-errors\n server losing {}\n server it {}",
        origin.losing, origin.server
    )
    .unwrap();
    cases.push(Case::new("HAProxy, replays what fails", format!("http://localhost:{port}/live")));
    std::fs::write(folder.join("haproxy.cfg"), config).unwrap();
    (Running::new("haproxy", &["-db", "-f", "haproxy.cfg"], &folder, &ports).await, cases)
}
