//! Apache httpd in front of the server and as a forward proxy: one process, a virtual host for each way to set it up.

use std::fmt::Write as _;
use std::path::Path;

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};
use crate::secure::certificate;

/// Debian's modules, and those that the set-ups need. What is built in has no file.
const MODULES: [&str; 12] = [
    "mpm_event",
    "authz_core",
    "unixd",
    "filter",
    "deflate",
    "reqtimeout",
    "proxy",
    "proxy_http",
    "proxy_connect",
    "ssl",
    "http2",
    "socache_shmcb",
];

const PASSES: &str = "ProxyPass / http://ORIGIN/";
const UPGRADES: &str = "ProxyPass / http://ORIGIN/ upgrade=websocket";

/// Its name and what stands in its virtual host.
const SETUPS: [(&str, &str); 6] = [
    ("default", "PASSES"),
    ("upgrade=websocket", "UPGRADES"),
    ("deflate of everything", "SetOutputFilter DEFLATE\nPASSES"),
    ("3 s idle limits", "Timeout 3\nProxyTimeout 3\nKeepAliveTimeout 3\nUPGRADES"),
    ("TLS and HTTP/2", "TLS\nUPGRADES"),
    ("CONNECT to any port, http://", "ProxyRequests On\nAllowCONNECT 1-65535"),
];

pub(crate) async fn start(origin: Origin) -> (Running, Vec<Case>) {
    let folder = folder("apache");
    let ports = free_ports::<{ SETUPS.len() }>();
    let here = folder.display();
    let mut config = format!(
        "ServerRoot {here}\nDefaultRuntimeDir {here}\nPidFile {here}/pid\nErrorLog {here}/error.log\nServerName localhost\n\
         Mutex file:{here} default\nUser www-data\nGroup www-data\n"
    );
    for module in MODULES {
        let file = format!("/usr/lib/apache2/modules/mod_{module}.so");
        if Path::new(&file).exists() {
            writeln!(config, "LoadModule {module}_module {file}").unwrap();
        }
    }
    // As Debian sets it up.
    config += "Timeout 300\nKeepAliveTimeout 5\nRequestReadTimeout header=20-40,minrate=500\n\
               RequestReadTimeout body=10,minrate=500\nAddOutputFilterByType DEFLATE text/html text/plain\n";
    let tls = format!(
        "SSLEngine on\nSSLCertificateFile {}\nSSLCertificateKeyFile {}\nProtocols h2 http/1.1",
        certificate("server.pem").display(),
        certificate("server.key").display()
    );
    let mut cases = Vec::new();
    for ((name, rules), port) in SETUPS.into_iter().zip(ports) {
        let rules = rules.replace("PASSES", PASSES).replace("UPGRADES", UPGRADES).replace("TLS", &tls);
        let rules = rules.replace("ORIGIN", &origin.server.to_string());
        writeln!(config, "Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\n{rules}\n</VirtualHost>")
            .unwrap();
        let scheme = if name.starts_with("TLS") { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{port}/live");
        cases.push(if rules.starts_with("ProxyRequests") {
            let server = format!("http://localhost:{}/live", origin.server.port());
            Case::new(format!("Apache, {name}"), server).proxy(format!("http://localhost:{port}"))
        } else {
            Case::new(format!("Apache, {name}"), url)
        });
    }
    let file = folder.join("httpd.conf");
    std::fs::write(&file, config).unwrap();
    let args = ["-DFOREGROUND", "-f", file.to_str().unwrap()];
    (Running::new("apache2", &args, &folder, &ports).await, cases)
}
