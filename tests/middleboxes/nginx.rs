//! nginx in front of the server: one process, a port for each way to set it up.

use std::fmt::Write as _;

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};
use crate::secure::certificate;

/// What lets WebSockets pass, and responses stream.
const FORWARDED: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                         proxy_set_header Connection $connection_upgrade; proxy_set_header Host $http_host;";

/// Its name, what stands in its `server`, in its `location`, and whether it ends TLS.
const SETUPS: [(&str, &str, &str, Tls); 8] = [
    ("default", "", "", Tls::No),
    ("upgrade forwarded", "", FORWARDED, Tls::No),
    (
        "buffers, whatever it is told",
        "",
        "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
        Tls::No,
    ),
    (
        "3 s idle limits",
        "send_timeout 3s; keepalive_timeout 3s;",
        "FORWARDED proxy_read_timeout 3s; proxy_send_timeout 3s;",
        Tls::No,
    ),
    ("64 KiB body limit", "client_max_body_size 64k;", "", Tls::No),
    ("gzip", "gzip on; gzip_proxied any; gzip_types *; gzip_min_length 1;", "", Tls::No),
    ("TLS", "", FORWARDED, Tls::Http1),
    ("TLS and HTTP/2", "", FORWARDED, Tls::Http2),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    No,
    Http1,
    Http2,
}

pub(crate) async fn start(origin: Origin) -> (Running, Vec<Case>) {
    let folder = folder("nginx");
    let ports = free_ports::<{ SETUPS.len() + 1 }>();
    let mut servers = String::new();
    let mut cases = Vec::new();
    for ((name, server, location, tls), port) in SETUPS.into_iter().zip(ports) {
        let location = location.replace("FORWARDED", FORWARDED);
        let ssl = match tls {
            Tls::No => String::new(),
            Tls::Http1 | Tls::Http2 => format!(
                "ssl_certificate {}; ssl_certificate_key {};",
                certificate("server.pem").display(),
                certificate("server.key").display()
            ),
        };
        let listen = match tls {
            Tls::No => "",
            Tls::Http1 => " ssl",
            Tls::Http2 => " ssl http2",
        };
        writeln!(
            servers,
            "server {{ listen 127.0.0.1:{port}{listen}; {ssl} {server} location / {{ proxy_pass http://{}; {location} }} }}",
            origin.server
        )
        .unwrap();
        let scheme = if tls == Tls::No { "http" } else { "https" };
        let case = Case::new(format!("nginx, {name}"), format!("{scheme}://localhost:{port}/live"));
        if name == "64 KiB body limit" {
            let name = format!("{}, 100 KB messages", case.name);
            cases.push(Case { name, ..case.clone() }.heavy().barred());
        }
        cases.push(case);
    }
    // Every request that fails is made again elsewhere, a POST too.
    let port = ports[SETUPS.len()];
    writeln!(
        servers,
        "upstream both {{ server {losing} max_fails=0; server {server} max_fails=0; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://both; {FORWARDED} \
         proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent; }} }}",
        losing = origin.losing,
        server = origin.server
    )
    .unwrap();
    cases.push(Case::new("nginx, replays what fails", format!("http://localhost:{port}/live")));
    let config = format!(
        "user root; daemon off; worker_processes 1; pid nginx.pid; error_log error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path bodies; proxy_temp_path proxied; fastcgi_temp_path f; \
         uwsgi_temp_path u; scgi_temp_path s;\n\
         map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n{servers}}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let prefix = format!("{}/", folder.display());
    let args = ["-p", prefix.as_str(), "-c", "nginx.conf", "-e", "error.log"];
    (Running::new("nginx", &args, &folder, &ports).await, cases)
}
