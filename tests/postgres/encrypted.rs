//! A database that is reached by TLS only, with a connector such as an application would bring.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use throughline::frame::Body;
use throughline::hub::{Inbox as _, InboxBounds, InboxError, PostgresInbox};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::server::{Server, client};
use super::{MINUTE, ada};
use crate::support::within;

/// A file of `tests/certificates`.
pub(crate) fn certificate(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "certificates", name].iter().collect()
}

/// Encrypts by rustls. Channel binding is for passwords, of which there are none here.
#[derive(Clone)]
struct Rustls(TlsConnector);

impl Rustls {
    /// Trusts who has a certificate of this authority.
    fn trusting(authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate(authority)).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }
}

struct To(TlsConnector, ServerName<'static>);

struct Encrypted(client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Rustls {
    type Stream = Encrypted;
    type TlsConnect = To;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<To, InvalidDnsNameError> {
        Ok(To(self.0.clone(), ServerName::try_from(domain.to_owned())?))
    }
}

impl TlsConnect<Socket> for To {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move { self.0.connect(self.1, stream).await.map(Encrypted) })
    }
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn by_tls_it_keeps_and_tells_and_comes_back_after_a_crash() {
    let server = Server::encrypted();
    let url = format!("{}?sslmode=require", server.database().await);
    let inbox = PostgresInbox::builder(&url).tls(Rustls::trusting("authority.pem")).patience(MINUTE);
    let inbox = inbox.bounds(InboxBounds::default()).connect().await.unwrap();
    inbox.put(&ada(), Body::from("one")).await.unwrap();
    let who = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl)
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL";
    let row = client(&server.local("postgres")).await.query_one(who, &[]).await.unwrap();
    let (encrypted, plain): (i64, i64) = (row.get(0), row.get(1));
    assert!(encrypted > 0 && plain == 0, "{encrypted} by TLS, {plain} without");

    server.crash();
    server.begin();
    inbox.put(&ada(), Body::from("two")).await.unwrap();
    let kept = inbox.oldest(&ada(), 9).await.unwrap();
    let bodies: Vec<_> = kept.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [Body::from("one"), Body::from("two")]);
}

/// Why nothing comes of it: the last that went wrong within its patience, which is given more as long as it says nothing.
async fn why_not(url: &str, tls: Option<&str>) -> String {
    let mut patience = Duration::from_millis(200);
    loop {
        let builder = PostgresInbox::builder(url).patience(patience);
        let builder = match tls {
            Some(authority) => builder.tls(Rustls::trusting(authority)),
            None => builder,
        };
        let Err(InboxError::Unavailable(why)) = within(60, "it fails", builder.connect()).await else {
            panic!("it connects")
        };
        let mut text = why.to_string();
        let mut cause = std::error::Error::source(&*why);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        if !text.contains("in time") {
            return text;
        }
        patience *= 2;
    }
}

#[tokio::test]
async fn who_is_not_trusted_or_does_not_encrypt_gets_no_inbox() {
    let server = Server::encrypted();
    let url = server.database().await;
    let stranger = why_not(&format!("{url}?sslmode=require"), Some("stranger.pem")).await;
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    let plain = why_not(&url, None).await;
    assert!(plain.contains("no encryption"), "{plain}");
    let without = why_not(&format!("{url}?sslmode=require"), None).await;
    assert!(without.contains("TLS"), "{without}");
}
