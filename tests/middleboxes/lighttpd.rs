//! lighttpd in front of the server: one process, a port for each way to set it up.

use std::fmt::Write as _;

use super::Case;
use super::boxes::{Origin, Running, folder, free_ports};

/// Its name and what stands beside the line that names the server.
const SETUPS: [(&str, &str); 4] = [
    ("default", ""),
    ("upgrade enabled", "proxy.header = (\"upgrade\" => \"enable\")"),
    ("responses streamed", "server.stream-response-body = 1"),
    (
        "3 s idle limits",
        "server.max-read-idle = 3\nserver.max-write-idle = 3\nserver.max-keep-alive-idle = 3\n\
         proxy.header = (\"upgrade\" => \"enable\")",
    ),
];

pub(crate) async fn start(origin: Origin) -> (Running, Vec<Case>) {
    let folder = folder("lighttpd");
    let ports = free_ports::<{ SETUPS.len() }>();
    let here = folder.display();
    let mut config = format!(
        "server.modules = (\"mod_proxy\")\nserver.document-root = \"{here}\"\nserver.upload-dirs = (\"{here}\")\n\
         server.errorlog = \"{here}/error.log\"\nserver.bind = \"127.0.0.1\"\nserver.port = {}\n",
        ports[0]
    );
    let mut cases = Vec::new();
    for ((name, rules), port) in SETUPS.into_iter().zip(ports) {
        let (ip, to) = (origin.server.ip(), origin.server.port());
        let server = format!("proxy.server = (\"\" => ((\"host\" => \"{ip}\", \"port\" => {to})))");
        writeln!(config, "$SERVER[\"socket\"] == \"127.0.0.1:{port}\" {{\n{server}\n{rules}\n}}").unwrap();
        cases.push(Case::new(format!("lighttpd, {name}"), format!("http://localhost:{port}/live")));
    }
    std::fs::write(folder.join("lighttpd.conf"), config).unwrap();
    (Running::new("lighttpd", &["-D", "-f", "lighttpd.conf"], &folder, &ports).await, cases)
}
