//! How a client is set up.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::HeaderMap;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::frame::{Encoding, Json, TransportKind};
use crate::session::Config;
use crate::socket::{Identity, Launch, Socket, launch};
use crate::transport::BoxError;

use super::backoff::Backoff;
use super::connect::Connector;
use super::dial::Dialer;
use super::link::LinkSource;
use super::patience::Patience;
use super::plan::Plan;
use super::supervisor::{ClientSupervisor, Hope, Means, begin};
use super::token::{Freshness, TokenSource};
use super::verdicts::{MemoryVerdicts, Namer, Network, Verdicts};
use super::{ConnectError, address, proxy, tls};

/// Sets a client up. Setters take any value; what nothing can work with is refused by [`Builder::connect`] and
/// [`Builder::start`], which name the field.
#[must_use = "nothing is dialled before `connect` or `start`"]
pub struct Builder {
    url: String,
    transports: Vec<TransportKind>,
    encoding: Encoding,
    token: Option<TokenSource>,
    headers: HeaderMap,
    header_fault: Option<&'static str>,
    backoff: Backoff,
    max_attempts: Option<u32>,
    connect_timeout: Duration,
    head_start: Duration,
    give_up_after: Option<Duration>,
    verdicts: Arc<dyn Verdicts>,
    network: Option<Namer>,
    send_patience: Option<Duration>,
    session: Config,
    links: Option<LinkSource>,
    proxy: proxy::Choice,
    tls: tls::Settings,
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            transports: TransportKind::ALL.to_vec(),
            encoding: Encoding::Json,
            token: None,
            headers: HeaderMap::new(),
            header_fault: None,
            backoff: Backoff::default(),
            max_attempts: None,
            connect_timeout: Duration::from_secs(5),
            head_start: Duration::from_millis(250),
            give_up_after: Some(Duration::from_secs(9)),
            verdicts: MemoryVerdicts::shared(),
            network: None,
            send_patience: Some(Duration::from_secs(30)),
            session: Config::default(),
            links: None,
            proxy: proxy::Choice::default(),
            tls: tls::Settings::default(),
        }
    }

    /// Which transports may be used, best first. Default: all.
    ///
    /// Once the server has told its own ranking, that counts, within what is allowed here.
    pub fn transports(mut self, transports: impl IntoIterator<Item = TransportKind>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// The encoding of frames. Default: JSON.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Where the `auth` of each `hello` comes from. Default: there is none.
    ///
    /// It is called each time a transport is dialled; with [`Freshness::Fresh`] when a token is about to run out,
    /// which the server tells, and when the server has said that it has, until one was got. A call that fails or takes longer
    /// than the connect timeout counts as a failed attempt. Calls may run beside one another, and one may be dropped before its
    /// end: whoever spends something on a token, as rotating refresh tokens do, spawns that.
    pub fn token<F, R>(mut self, source: F) -> Self
    where
        F: Fn(Freshness) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Json, BoxError>> + Send + 'static,
    {
        self.token = Some(TokenSource::new(source));
        self
    }

    /// Adds a header to every request, as cookies or what a gateway asks for. Its value is kept out of logs.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let name = HeaderName::from_bytes(name.as_ref().as_bytes());
        match (name, HeaderValue::from_str(value.as_ref())) {
            (Ok(name), _) if is_reserved(&name) => {
                self.header_fault = Some("must not be one that the protocol sets");
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.headers.append(name, value);
            }
            _ => self.header_fault = Some("must be an HTTP header"),
        }
        self
    }

    /// The pauses between attempts. Default: see [`Backoff`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// After how many failed attempts in a row the session is ended, with `timed_out`. Default: never.
    ///
    /// An attempt goes through all transports that make sense; it has failed when none carries the session.
    pub fn max_attempts(mut self, max_attempts: impl Into<Option<u32>>) -> Self {
        self.max_attempts = max_attempts.into();
        self
    }

    /// The longest that each step of opening a transport may take: the token, the connection, the upgrade.
    /// Default: 5 s. Where a round trip takes longer than it did, each may have more, up to 15 s: a quarter of the time
    /// without any transport, or three of the last round trips. From `hello` on the session's `welcome_within` counts.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long, at least, a transport that has opened has for itself before the next one is tried beside it; twice as
    /// long as its opening took, if that is longer. With [`Duration::MAX`] none is ever tried beside another.
    /// Default: 250 ms.
    pub fn head_start(mut self, head_start: Duration) -> Self {
        self.head_start = head_start;
        self
    }

    /// How long a session may be without any progress from its begin on, before it is ended with `timed_out`; `None`
    /// goes on for ever. Default: 9 s. Where a round trip takes seconds it has longer: six of them as soon as one was
    /// measured, a minute at most.
    ///
    /// Progress is a message received or acknowledged, or, where none waits, a path that was proved to carry both ways.
    /// What carries the session and was proved is not ended for that, however slow it is. Where no host is reached at all,
    /// the time counts for [`Builder::connect`] only: what was [started](Builder::start) offline waits for a network.
    /// With a limit, a session that made progress before is given up as well, when eight carriers in a row ended
    /// without any though messages waited, over at least 30 s.
    pub fn give_up_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.give_up_after = time.into();
        self
    }

    /// Where what is learned of networks is kept. Default: in memory, for all clients of this process
    /// ([`MemoryVerdicts::shared`]).
    pub fn verdicts(mut self, verdicts: Arc<dyn Verdicts>) -> Self {
        self.verdicts = verdicts;
        self
    }

    /// Names the network that this process is in, as by its gateway or the name of its WLAN: verdicts on one network are
    /// not used on another. It is asked at the begin of a session, when [`Socket::network_changed`] was called, and
    /// when there is something to keep. Default: all networks are one.
    pub fn network(mut self, name: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.network = Some(Arc::new(name));
        self
    }

    /// How long [`Socket::send`] waits while the send buffer is full before the session is ended with
    /// `slow_consumer`; `None` waits for ever. Default: 30 s.
    ///
    /// The send buffer also fills while no server is reached.
    pub fn send_patience(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.send_patience = timeout.into();
        self
    }

    /// The bounds and times of the session. Default: see [`Config`].
    pub fn session(mut self, session: Config) -> Self {
        self.session = session;
        self
    }

    /// Makes the byte streams to the server, in place of TCP: a Unix socket, a tunnel, a stream in memory. No proxy is asked,
    /// whatever the environment says; where the URL is `https://`, TLS is spoken on the stream. Each transport needs one
    /// or two of them, and the longest that each may take is the connect timeout.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use throughline::Client;
    /// use tokio::net::UnixStream;
    ///
    /// let socket = Client::builder("http://localhost/live")
    ///     .connector(|| UnixStream::connect("/run/app.sock"))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connector<F, R, S>(mut self, connect: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.links = Some(LinkSource::new(connect));
        self
    }

    /// The proxy that all connections go through, whatever the environment says: `http://`, `https://` (with feature
    /// `tls`), `socks5://`, which resolves names here, or `socks5h://`, which leaves that to the proxy; and
    /// `[user:password@]host[:port]`. Default: what the environment says.
    ///
    /// The environment is read when the client starts: `HTTPS_PROXY` for `https://` servers, `HTTP_PROXY` for
    /// `http://` ones, `ALL_PROXY` for both, and `NO_PROXY`, which lists who is dialled directly: names with all that
    /// is below them, addresses, networks (`10.0.0.0/8`), `*`, each with a port behind it or without. Lower case
    /// counts too, and wins.
    #[cfg(feature = "proxy")]
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = proxy::Choice::Through(proxy::Secret(url.into()));
        self
    }

    /// Dials the server directly, whatever the environment says.
    #[cfg(feature = "proxy")]
    pub fn no_proxy(mut self) -> Self {
        self.proxy = proxy::Choice::None;
        self
    }

    /// A file of PEM certificates that are trusted beside those of the operating system: a company's own authority, or
    /// the certificate of the server itself. It is read when the client starts. Default: none.
    #[cfg(feature = "tls")]
    pub fn ca_file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.tls.roots = Some(path.into());
        self
    }

    /// How TLS is spoken, in place of the default: rustls with `ring`, the authorities of the operating system, and no
    /// certificate of the client's own. For a server that asks for one, or that is known by a fingerprint. Which HTTP is offered
    /// (ALPN) is set here. It does not go with [`Builder::ca_file`].
    ///
    /// ```no_run
    /// use throughline::Client;
    /// use throughline::client::rustls::{ClientConfig, RootCertStore};
    /// use throughline::client::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    ///
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut roots = RootCertStore::empty();
    /// roots.add(CertificateDer::from_pem_file("authority.pem")?)?;
    /// let config = ClientConfig::builder()
    ///     .with_root_certificates(roots)
    ///     .with_client_auth_cert(
    ///         vec![CertificateDer::from_pem_file("client.pem")?],
    ///         PrivateKeyDer::from_pem_file("client.key")?,
    ///     )?;
    /// let client = Client::builder("https://internal.example/live").tls_config(config);
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls_config(mut self, config: super::rustls::ClientConfig) -> Self {
        self.tls.config = Some(config);
        self
    }

    /// Connects, and returns when the server has welcomed the session.
    ///
    /// Until then it tries for [`Builder::give_up_after`] or [`Builder::max_attempts`], whatever comes first.
    ///
    /// # Errors
    /// When a value is impossible, the server refuses for good, or too many attempts failed.
    ///
    /// # Cancel safety
    /// Dropping the future closes the session; the server may have seen it.
    pub async fn connect(self) -> Result<Socket, ConnectError> {
        let (socket, first) = self.begin(true)?;
        match first.await {
            Ok(connected) => connected.map(|()| socket),
            // The driver went down with its runtime.
            Err(_) => Err(ConnectError::NoRuntime),
        }
    }

    /// Starts to connect, and returns at once. What is sent meanwhile waits, within the send buffer.
    ///
    /// # Errors
    /// When a value is impossible, or this is called outside a tokio runtime.
    pub fn start(self) -> Result<Socket, ConnectError> {
        self.begin(false).map(|(socket, _)| socket)
    }

    fn begin(
        self,
        everywhere: bool,
    ) -> Result<(Socket, oneshot::Receiver<Result<(), ConnectError>>), ConnectError> {
        // Reading certificates takes its time as well.
        let now = tokio::time::Instant::now().into_std();
        let base = address::parse(&self.url)?;
        self.check()?;
        let patience = Patience::new(self.connect_timeout);
        let connector = Connector::new(self.proxy.settle()?, &self.tls, patience.clone())?;
        let connector = connector.linked_by(self.links);
        let runtime = Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        let config = Arc::new(self.session);
        let session = begin(&config, now).map_err(ConnectError::NoRandomness)?;
        let origin = base.authority().map(ToString::to_string).unwrap_or_default();
        let network =
            Network { origin, namer: self.network, store: Some(self.verdicts), name: String::new() };
        let dialer = Dialer {
            base,
            connector,
            upgrades_only: AtomicBool::new(false),
            notes: Arc::default(),
            headers: self.headers,
            encoding: self.encoding,
            limits: config.limits,
            patience,
            tokens: self.token,
        };
        let means = Means {
            dialer,
            config: Arc::clone(&config),
            plan: Plan::new(self.transports),
            backoff: self.backoff,
            max_attempts: self.max_attempts,
            head_start: self.head_start,
            hope: Hope::new(self.give_up_after, everywhere, now),
            network,
        };
        let (tell, first) = oneshot::channel();
        let supervisor = ClientSupervisor::new(means, session.id(), tell);
        let launched = Launch { session, identity: Identity::default(), patience: self.send_patience };
        let (shared, driver) = launch(launched, |shared| Box::new(supervisor.note_in(shared)));
        let socket = shared.socket();
        // Owned by the socket: it ends when that is closed or dropped.
        let _task = runtime.spawn(driver);
        Ok((socket, first))
    }

    fn check(&self) -> Result<(), ConnectError> {
        let invalid = |field, rule| ConnectError::Invalid { field, rule };
        if self.transports.is_empty() {
            return Err(invalid("transports", "must name at least one"));
        }
        if let Some(rule) = self.header_fault {
            return Err(invalid("header", rule));
        }
        if let Some((field, rule)) = self.backoff.fault() {
            return Err(invalid(field, rule));
        }
        if self.max_attempts == Some(0) {
            return Err(invalid("max_attempts", "must be at least 1"));
        }
        if self.give_up_after.is_some_and(|time| time.is_zero()) {
            return Err(invalid("give_up_after", "must be above zero"));
        }
        if self.connect_timeout.is_zero() {
            return Err(invalid("connect_timeout", "must be above zero"));
        }
        Ok(self.session.check()?)
    }
}

/// Whether the protocol, or HTTP, needs a header for itself.
fn is_reserved(name: &HeaderName) -> bool {
    let own = [ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE];
    own.contains(name) || name.as_str().starts_with("sec-websocket-")
}

/// Headers and the query of the URL may hold secrets, so they are not shown.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("transports", &self.transports)
            .field("encoding", &self.encoding)
            .field("backoff", &self.backoff)
            .field("max_attempts", &self.max_attempts)
            .field("connect_timeout", &self.connect_timeout)
            .field("head_start", &self.head_start)
            .finish_non_exhaustive()
    }
}
