//! Squid as a forward proxy and in front of the server: a process for each way to set it up.

use std::net::SocketAddr;

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};

/// The rules of Squid's own configuration.
const PORTS: &str =
    "acl SSL_ports port 443\nacl Safe_ports port 80 443 1025-65535\nhttp_access deny !Safe_ports\n";
const TUNNELS_TO_443: &str = "http_access deny CONNECT !SSL_ports\n";
const LOCAL: &str = "http_access allow localhost\nhttp_access deny all\n";

/// `me`, with the password `secret`.
const USERS: &str = "me:$apr1$testsalt$j7AAmGAhN8liB8qiU.irj1\n";
const WHO: &str = "auth_param basic program /usr/lib/squid/basic_ncsa_auth users\nauth_param basic realm office\n\
                   acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n";

/// Squid in all its ways, before a server and a server behind TLS.
pub(crate) async fn start(origin: Origin, secure: SocketAddr) -> (Vec<Running>, Vec<Case>) {
    let [default, open, users, idle, small, front] = free_ports();
    let plain = format!("http://localhost:{}/live", origin.server.port());
    let tls = format!("https://localhost:{}/live", secure.port());
    let through = |port: u16, user: &str| format!("http://{user}localhost:{port}");
    let accelerates = format!(
        "{PORTS}http_port 127.0.0.1:{front} accel defaultsite=localhost no-vhost\n\
         cache_peer 127.0.0.1 parent {} 0 no-query originserver\n{LOCAL}",
        origin.server.port()
    );
    let listen = |port: u16, rules: &str| format!("http_port 127.0.0.1:{port}\n{rules}");
    let setups = [
        ("squid-default", default, listen(default, &format!("{PORTS}{TUNNELS_TO_443}{LOCAL}"))),
        ("squid-open", open, listen(open, &format!("{PORTS}{LOCAL}"))),
        ("squid-users", users, listen(users, &format!("{PORTS}{WHO}"))),
        (
            "squid-idle",
            idle,
            listen(idle, &format!("{PORTS}{LOCAL}read_timeout 3 seconds\nrequest_timeout 3 seconds\n")),
        ),
        ("squid-small", small, listen(small, &format!("{PORTS}{LOCAL}request_body_max_size 64 KB\n"))),
        ("squid-front", front, accelerates),
    ];
    let mut running = Vec::new();
    for (name, port, rules) in setups {
        running.push(run(name, port, &rules).await);
    }
    let cases = vec![
        Case::new("Squid, default, http://", &plain).proxy(through(default, "")),
        Case::new("Squid, tunnels to any port, http://", &plain).proxy(through(open, "")),
        Case::new("Squid, tunnels to any port, https://", &tls).proxy(through(open, "")),
        Case::new("Squid with users, http://", &plain).proxy(through(users, "me:secret@")),
        Case::new("Squid with users, https://", &tls).proxy(through(users, "me:secret@")),
        Case::new("Squid with users, no password, http://", &plain).proxy(through(users, "")).barred(),
        Case::new("Squid with users, no password, https://", &tls).proxy(through(users, "")).barred(),
        Case::new("Squid, 3 s idle limits, http://", &plain).proxy(through(idle, "")),
        Case::new("Squid, 3 s idle limits, https://", &tls).proxy(through(idle, "")),
        Case::new("Squid, 64 KiB body limit, http://", &plain).proxy(through(small, "")),
        Case::new("Squid, in front", format!("http://localhost:{front}/live")),
    ];
    (running, cases)
}

async fn run(name: &str, port: u16, rules: &str) -> Running {
    let folder = folder(name);
    std::fs::write(folder.join("users"), USERS).unwrap();
    let own = "pid_filename none\naccess_log none\ncache_log stdio:cache.log\ncache_store_log none\npinger_enable off\n\
               visible_hostname localhost\nshutdown_lifetime 0 seconds\nmax_filedescriptors 4096\nnetdb_filename none\n";
    std::fs::write(folder.join("squid.conf"), format!("{own}{rules}")).unwrap();
    Running::new("squid", &["-N", "-f", "squid.conf", "-n", &name.replace('-', "")], &folder, &[port]).await
}
