//! Real boxes as processes: each listens on free ports of the loopback, and ends when it is dropped.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// How long a box may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A process with a folder of its own.
#[derive(Debug)]
pub(crate) struct Running {
    _process: Child,
}

impl Running {
    /// Starts a program in a folder, and waits until it listens everywhere.
    pub(crate) async fn new(program: &str, args: &[&str], folder: &Path, ports: &[u16]) -> Self {
        let log = std::fs::File::create(folder.join("output")).unwrap();
        let mut command = Command::new(find(program));
        command.args(args).current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let begun = Instant::now();
        for port in ports {
            while TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                let said = std::fs::read_to_string(folder.join("output")).unwrap_or_default();
                if let Some(status) = process.try_wait().unwrap() {
                    panic!("{program} has ended, {status}: {said}");
                }
                assert!(begun.elapsed() < STARTS_WITHIN, "{program} does not listen on {port}: {said}");
                // Nothing tells when a program listens.
                sleep(Duration::from_millis(20)).await;
            }
        }
        Self { _process: process }
    }
}

/// Where a program is. Those of Debian's servers are not where everybody looks.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!(
            "{program} is not on this machine: ./test.sh installs it (apt-get install nginx haproxy squid apache2-bin \
             lighttpd varnish tinyproxy-bin privoxy)"
        )
    })
}

/// So many ports that nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// An empty folder for a box, which any user of the machine may write to: some boxes give their rights away.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("middleboxes").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    folder
}

/// Where what the boxes stand before listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The server itself.
    pub server: SocketAddr,
    /// The same, where some responses are lost after the server has committed them.
    pub losing: SocketAddr,
}
