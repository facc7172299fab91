//! Varnish in front of the server: one process, a port for each way to set it up.

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};

/// What its ports are called, in its configuration and here.
const SETUPS: [(&str, &str); 4] = [
    ("default", "default"),
    ("piped", "WebSockets piped"),
    ("whole", "fetches whole responses"),
    ("gzip", "gzip of everything"),
];

const RULES: &str = r#"
sub vcl_recv {
    set req.http.x-way = local.socket;
    if (local.socket == "piped" && req.http.upgrade ~ "(?i)websocket") { return (pipe); }
}
sub vcl_pipe {
    if (req.http.upgrade) {
        set bereq.http.upgrade = req.http.upgrade;
        set bereq.http.connection = req.http.connection;
    }
}
sub vcl_backend_response {
    if (bereq.http.x-way == "whole") { set beresp.do_stream = false; }
    if (bereq.http.x-way == "gzip") { set beresp.do_gzip = true; }
}
"#;

pub(crate) async fn start(origin: Origin) -> (Running, Vec<Case>) {
    let folder = folder("varnish");
    let ports = free_ports::<{ SETUPS.len() }>();
    let (ip, port) = (origin.server.ip(), origin.server.port());
    let backend = format!("vcl 4.1;\nbackend default {{ .host = \"{ip}\"; .port = \"{port}\"; }}\n");
    let file = folder.join("default.vcl");
    std::fs::write(&file, backend + RULES).unwrap();
    let (file, state) = (file.display().to_string(), folder.join("state").display().to_string());
    // Debian's unit, but for its jail, which needs a user of its own.
    let mut args = vec!["-F", "-j", "none", "-f", &file, "-n", &state, "-s", "malloc,32m"];
    args.extend(["-p", "thread_pools=1", "-p", "thread_pool_min=10"]);
    let listens: Vec<_> =
        SETUPS.iter().zip(ports).map(|((name, _), port)| format!("{name}=127.0.0.1:{port}")).collect();
    listens.iter().for_each(|listen| args.extend(["-a", listen]));
    let cases = SETUPS.iter().zip(ports).map(|((_, name), port)| {
        Case::new(format!("Varnish, {name}"), format!("http://localhost:{port}/live"))
    });
    (Running::new("varnishd", &args, &folder, &ports).await, cases.collect())
}
