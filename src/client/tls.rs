//! TLS, by rustls: who is trusted, and which HTTP is agreed on.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::ConnectError;
use super::connect::{LinkError, Purpose, Setup};
use super::link::{Link, Protocol};

/// Whether `https://` and `wss://` can be dialled.
pub(super) const AVAILABLE: bool = true;

/// What is offered by ALPN where either HTTP will do, best first.
const EITHER: &[&[u8]] = if cfg!(feature = "http2") { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };

/// How TLS is set up: with the authorities of the operating system, and others beside them; or by the application.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Who is trusted besides.
    pub(super) roots: Option<PathBuf>,
    pub(super) config: Option<ClientConfig>,
}

impl Settings {
    fn config(&self) -> Result<ClientConfig, ConnectError> {
        if let Some(config) = &self.config {
            let rule = "is of no use beside tls_config";
            let given = self.roots.is_none().then(|| config.clone());
            return given.ok_or(ConnectError::Invalid { field: "ca_file", rule });
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = Trust::new(self.read()?, &provider)?;
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(versions
            .map_err(|error| ConnectError::NoTls(error.into()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }

    fn read(&self) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        let Some(file) = &self.roots else { return Ok(Vec::new()) };
        let invalid = |rule| ConnectError::Invalid { field: "ca_file", rule };
        let bytes = std::fs::read(file).map_err(|_| invalid("must be a file that can be read"))?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let read = read.map_err(|_| invalid("must be a file of PEM certificates"))?;
        if read.is_empty() { Err(invalid("must have a certificate in it")) } else { Ok(read) }
    }
}

/// TLS as a client speaks it.
pub(super) struct Tls {
    /// Where either HTTP will do.
    either: TlsConnector,
    http1: TlsConnector,
}

impl Tls {
    /// # Errors
    /// When the file of roots is of no use, or there are no roots at all.
    pub(super) fn new(settings: &Settings) -> Result<Self, ConnectError> {
        let mut config = settings.config()?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols = EITHER.iter().map(|name| name.to_vec()).collect();
        Ok(Self { either: TlsConnector::from(Arc::new(config)), http1 })
    }

    /// Speaks TLS on a link, with the host of a URL.
    pub(super) async fn wrap(&self, link: Link, to: &Uri, purpose: Purpose) -> Result<Link, LinkError> {
        let host = to.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| LinkError::Unreached(error.into()))?;
        let connector = match purpose {
            Purpose::WebSocketByUpgrade => &self.http1,
            Purpose::Requests | Purpose::WebSocket => &self.either,
        };
        let stream = connector.connect(name, link).await.map_err(|error| {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
            match cause {
                Some(rustls::Error::InvalidCertificate(reason)) => LinkError::Setup(Setup::Untrusted {
                    host: host.into(),
                    reason: reason.to_string().into(),
                }),
                _ => LinkError::Unreached(format!("TLS with {host} failed: {error}").into()),
            }
        })?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok(Link::new(stream, protocol))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Whether an error says only that a certificate is not to be presented by a server, or by whom it is signed.
fn is_of_use(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(reason) = error else { return false };
    matches!(reason, CertificateError::Other(_) | CertificateError::UnknownIssuer)
}

/// The operating system's judgement, with further roots.
///
/// A certificate that stands in the file itself is trusted when a server presents it, also if it calls itself one of
/// an authority, as `openssl req -x509` makes them: as OpenSSL does it. Its name must fit all the same.
#[derive(Debug)]
struct Trust {
    given: Vec<CertificateDer<'static>>,
    judge: Arc<dyn ServerCertVerifier>,
}

impl Trust {
    fn new(
        given: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, ConnectError> {
        let judge = Verifier::new_with_extra_roots(given.iter().cloned(), Arc::clone(provider));
        let judge = judge.map_err(|error| ConnectError::NoTls(error.into()))?;
        Ok(Self { given, judge: Arc::new(judge) })
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.judge.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match judged {
            Err(error) if is_of_use(&error) && self.given.iter().any(|given| given == end_entity) => {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
