//! The client behind proxies and with TLS: each transport gets through, or there is one typed error that says what to do.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by panicking")]

mod office;
#[path = "../support/secure.rs"]
mod secure;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use throughline::client::rustls::crypto::ring;
use throughline::client::rustls::pki_types::{CertificateDer, pem::PemObject as _};
use throughline::client::rustls::server::WebPkiClientVerifier;
use throughline::client::rustls::{ClientConfig, RootCertStore};
use throughline::client::{Backoff, Builder};
use throughline::{Client, ConnectError, Socket, State, TransportKind};

use office::{Office, Rules};
use secure::{Secure, acceptor_for, certificate, echo, identity};
use support::{Served, within};

const USER: &str = "me:secret@";

fn client(url: &str) -> Builder {
    let backoff = Backoff::default().base(Duration::from_millis(5)).cap(Duration::from_millis(50));
    Client::builder(url).backoff(backoff).ca_file(certificate("authority.pem"))
}

async fn connect(builder: Builder) -> Result<Socket, ConnectError> {
    within(20, "the client connects", builder.connect()).await
}

/// Sends numbers, and takes them back: each once and in order.
async fn converse(socket: &mut Socket, kind: TransportKind) {
    assert_eq!(socket.state(), State::Connected { transport: kind });
    let sender = socket.sender();
    let sending = tokio::spawn(async move {
        for number in 0..200_u32 {
            sender.send(number.to_string().as_str()).await.unwrap();
        }
    });
    for number in 0..200_u32 {
        let message = within(20, "the echo comes", socket.recv()).await.unwrap();
        assert_eq!(message.body.to::<String>().unwrap(), number.to_string());
    }
    sending.await.unwrap();
}

/// A conversation over each transport, all of them with the same setup.
async fn converse_over_all(set_up: impl Fn() -> Builder) {
    for kind in TransportKind::ALL {
        let mut socket = connect(set_up().transports([kind])).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        converse(&mut socket, kind).await;
    }
}

#[tokio::test]
async fn plain_requests_go_to_a_proxy_whole_and_websockets_by_a_tunnel() {
    let served = Served::new(&echo()).await;
    let office = Office::new(Rules { wants_user: true, ..Rules::default() }).await;
    converse_over_all(|| client(&served.url()).proxy(office.url("http", USER))).await;
    let port = served.address.port();
    assert!(office.asked.any(&format!("CONNECT 127.0.0.1:{port}")), "{:?}", office.asked.all());
    assert!(
        office.asked.any(&format!("POST http://127.0.0.1:{port}/live?session=")),
        "{:?}",
        office.asked.all()
    );
}

#[tokio::test]
async fn where_tunnels_are_refused_plain_requests_carry_the_session() {
    let served = Served::new(&echo()).await;
    let office = Office::new(Rules { no_tunnels: true, ..Rules::default() }).await;
    let mut socket = connect(client(&served.url()).proxy(office.url("http", ""))).await.unwrap();
    converse(&mut socket, TransportKind::Sse).await;
}

#[tokio::test]
async fn what_is_secure_goes_by_a_tunnel_alone() {
    let server = Secure::new("server", &["http/1.1"], false).await;
    for (tls, scheme) in [(false, "http"), (true, "https")] {
        let office = Office::new(Rules { wants_user: true, tls, ..Rules::default() }).await;
        converse_over_all(|| client(&server.url()).proxy(office.url(scheme, USER))).await;
        let asked = office.asked.all();
        assert!(asked.iter().all(|asked| asked.starts_with("CONNECT localhost:")), "{asked:?}");
    }
}

#[tokio::test]
async fn a_socks_proxy_resolves_names_only_if_it_is_asked_to() {
    let served = Served::new(&echo()).await;
    let port = served.address.port();
    for (scheme, user, expected) in [
        ("socks5h", "", format!("socks localhost:{port}")),
        ("socks5", "", format!("127, 0, 0, 1]:{port}")),
        ("socks5h", USER, format!("socks localhost:{port}")),
    ] {
        let office = Office::new(Rules { wants_user: !user.is_empty(), ..Rules::default() }).await;
        let url = format!("ws://localhost:{port}/live");
        converse_over_all(|| client(&url).proxy(office.url(scheme, user))).await;
        let asked = office.asked.all();
        if scheme == "socks5h" {
            assert!(asked.iter().all(|asked| *asked == expected), "{asked:?}");
        } else {
            // The name may lead to either loopback.
            assert!(!office.asked.any("localhost"), "{asked:?} instead of {expected}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_wants_another_user_ends_it_at_once_and_says_what_to_do() {
    let (served, server) = (Served::new(&echo()).await, Secure::new("server", &[], false).await);
    let office = Office::new(Rules { wants_user: true, ..Rules::default() }).await;
    for scheme in ["http", "socks5h"] {
        for (url, kind) in
            [served.url(), server.url()].iter().flat_map(|url| TransportKind::ALL.map(|kind| (url, kind)))
        {
            for (user, says) in [("", "http://user:password@"), ("me:wrong@", "refused the user")] {
                let proxy = office.url(scheme, user);
                let error = connect(client(url).transports([kind]).proxy(proxy)).await.unwrap_err();
                let ConnectError::ProxyAuthentication { proxy, .. } = &error else { panic!("{error}") };
                assert_eq!(**proxy, *format!("localhost:{}", office.address.port()));
                assert!(error.to_string().contains(says), "{kind}: {error}");
                assert!(!error.to_string().contains("wrong"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn who_did_not_wait_for_the_session_hears_it_from_the_socket() {
    let served = Served::new(&echo()).await;
    let strict = Office::new(Rules { wants_user: true, ..Rules::default() }).await;
    let mut socket = client(&served.url()).proxy(strict.url("http", "")).start().unwrap();
    let closed = within(20, "it is over", socket.closed()).await;
    assert_eq!(closed.code.as_str(), "proxy_auth_required");
    assert!(within(20, "it is over", socket.recv()).await.is_err());
}

#[tokio::test]
async fn a_session_that_lived_outlives_a_proxy_that_asks_who_is_there() {
    let served = Served::new(&echo()).await;
    let office = Office::new(Rules::default()).await;
    let (address, url) = (office.address, office.url("http", ""));
    let mut socket =
        connect(client(&served.url()).transports([TransportKind::Sse]).proxy(url)).await.unwrap();
    converse(&mut socket, TransportKind::Sse).await;
    let mut watch = socket.watch();
    drop(office);
    let strict = Office::on(listen_again(address).await, Rules { wants_user: true, ..Rules::default() });
    within(20, "the proxy asks", async {
        loop {
            match watch.changed().await {
                State::Reconnecting { reason, .. } if reason.contains("asks for a user") => return,
                State::Closed { close } => panic!("{close}"),
                _ => {}
            }
        }
    })
    .await;
    drop(strict);
    let _office = Office::on(listen_again(address).await, Rules::default());
    socket.send("still here").await.unwrap();
    let message = within(20, "the echo comes", socket.recv()).await.unwrap();
    assert_eq!(message.body.to::<String>().unwrap(), "still here");
}

/// Listens where somebody listened who is about to go.
async fn listen_again(address: std::net::SocketAddr) -> tokio::net::TcpListener {
    let listening = async {
        loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within(10, "the address is free", listening).await
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_or_by_its_own_certificate_and_not_otherwise() {
    let server = Secure::new("server", &[], false).await;
    let alone = Secure::new("alone", &[], false).await;
    for (served, trusted) in [(&server, "authority.pem"), (&server, "server.pem"), (&alone, "alone.pem")] {
        converse_over_all(|| client(&served.url()).ca_file(certificate(trusted))).await;
    }
    for (served, file) in [(&server, "stranger.pem"), (&server, "alone.pem"), (&alone, "authority.pem")] {
        for kind in TransportKind::ALL {
            let builder = client(&served.url()).ca_file(certificate(file)).transports([kind]);
            let error = connect(builder).await.unwrap_err();
            assert!(matches!(error, ConnectError::Untrusted { .. }), "{kind}: {error}");
            assert!(error.to_string().contains("ca_file"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_the_one_that_the_application_gives() {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(&provider));
    let tls = acceptor_for("server", &["h2", "http/1.1"], clients.build().unwrap());
    let server = Secure::behind(tls, &echo(), false).await;
    let config = || {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots.clone())
    };
    let (chain, key) = identity("client");
    let known = config().with_client_auth_cert(chain, key).unwrap();
    converse_over_all(|| Client::builder(server.url()).tls_config(known.clone())).await;
    let unknown = Client::builder(server.url()).tls_config(config().with_no_client_auth()).max_attempts(1);
    let error = connect(unknown).await.unwrap_err();
    assert!(!matches!(error, ConnectError::Invalid { .. }), "{error}");
    let both = client(&server.url()).tls_config(known);
    let error = connect(both).await.unwrap_err();
    assert!(matches!(error, ConnectError::Invalid { field: "ca_file", .. }), "{error}");
}

#[tokio::test]
async fn a_certificate_is_good_for_its_names_only() {
    let server = Secure::new("alone", &[], false).await;
    let url = format!("https://[::ffff:127.0.0.1]:{}/", server.address.port());
    let error = connect(client(&url).ca_file(certificate("alone.pem"))).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Untrusted { host, .. } if host.contains("::ffff")), "{error}");
    let url = format!("wss://127.0.0.1:{}/", server.address.port());
    let mut socket = connect(client(&url).ca_file(certificate("alone.pem"))).await.unwrap();
    converse(&mut socket, TransportKind::WebSocket).await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_dialled() {
    for (builder, field) in [
        (client("http://localhost/").proxy("ftp://me:secret@localhost"), "proxy"),
        (client("http://localhost/").proxy("socks4://me:secret@localhost"), "proxy"),
        (client("https://localhost/").ca_file("/nowhere/at/all.pem"), "ca_file"),
        (client("https://localhost/").ca_file(certificate("make.sh")), "ca_file"),
    ] {
        let error = connect(builder).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Invalid { field: named, .. } if *named == field), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn without_a_proxy_the_environment_does_not_matter() {
    let served = Served::new(&echo()).await;
    let mut socket = connect(client(&served.url()).no_proxy()).await.unwrap();
    converse(&mut socket, TransportKind::WebSocket).await;
}
