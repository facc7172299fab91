//! A PostgreSQL of the test's own: in a folder of its own, on a free port of the loopback, gone when it is dropped.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio_postgres::{Client, NoTls};

use super::encrypted::certificate;

/// As whom it runs where this is root, whom PostgreSQL refuses to serve: `nobody` on Debian.
const NOBODY: u32 = 65_534;

pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Whether it serves nobody but by TLS; itself aside.
    encrypted: bool,
}

impl Server {
    /// Makes one and starts it.
    pub(crate) fn start() -> Self {
        Self::make(false)
    }

    /// The same, with a certificate, and for nobody who does not ask for that.
    pub(crate) fn encrypted() -> Self {
        Self::make(true)
    }

    fn make(encrypted: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throughline-postgres-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        if is_root(&folder) {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port, databases: AtomicU32::new(0), encrypted };
        let data = server.data();
        server.run(
            "initdb",
            &["-D", &data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        );
        if encrypted {
            server.take_certificate();
        }
        server.begin();
        server
    }

    /// Puts there what it encrypts with, in files of its own as it wants them, and who may come.
    fn take_certificate(&self) {
        let data = self.folder.join("data");
        for name in ["server.pem", "server.key"] {
            let file = data.join(name);
            std::fs::copy(certificate(name), &file).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if is_root(&file) {
                chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    }

    fn data(&self) -> String {
        self.folder.join("data").to_str().unwrap().to_owned()
    }

    /// Starts it, and waits until it serves.
    pub(crate) fn begin(&self) {
        let log = self.folder.join("log");
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=50",
            self.port,
            self.folder.display()
        );
        let tls = " -c ssl=on -c ssl_cert_file=server.pem -c ssl_key_file=server.key";
        let options = options + if self.encrypted { tls } else { "" };
        let log = log.to_str().unwrap();
        self.run("pg_ctl", &["start", "-w", "-t", "60", "-D", &self.data(), "-l", log, "-o", &options]);
    }

    /// Ends it as a power cut does.
    pub(crate) fn crash(&self) {
        self.run("pg_ctl", &["stop", "-w", "-m", "immediate", "-D", &self.data()]);
    }

    /// Ends it as an administrator does.
    pub(crate) fn end(&self) {
        self.run("pg_ctl", &["stop", "-w", "-m", "fast", "-D", &self.data()]);
    }

    /// The URL of a new and empty database.
    pub(crate) async fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Relaxed));
        let client = client(&self.local("postgres")).await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        self.url(&name)
    }

    /// How it is reached within its machine, by no network.
    pub(crate) fn local(&self, database: &str) -> String {
        format!("host={} port={} user=test dbname={database}", self.folder.display(), self.port)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://test@127.0.0.1:{}/{database}", self.port)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(find(program));
        // What it starts lives on: it must not hold what a test's output is read from.
        let output =
            std::fs::File::options().create(true).append(true).open(self.folder.join("output")).unwrap();
        command.args(arguments).current_dir(&self.folder).env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        if is_root(Path::new("/proc/self")) {
            command.uid(NOBODY).gid(NOBODY);
        }
        let status = command.status().unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = |file: &str| std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        assert!(status.success(), "{program}, {status}: {}{}", said("output"), said("log"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut command = Command::new(find("pg_ctl"));
        command.args(["stop", "-w", "-m", "immediate", "-D", &self.data()]).current_dir("/");
        if is_root(Path::new("/proc/self")) {
            command.uid(NOBODY).gid(NOBODY);
        }
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Whether the owner of something is root.
fn is_root(path: &Path) -> bool {
    std::fs::metadata(path).unwrap().uid() == 0
}

/// Where a program of PostgreSQL is: Debian keeps those of a server out of the path.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::split_paths(&path));
    let place = folders.into_iter().rev().map(|folder| folder.join(program)).find(|place| place.is_file());
    place.unwrap_or_else(|| {
        panic!("{program} is not on this machine: ./test.sh installs it (apt-get install postgresql)")
    })
}
