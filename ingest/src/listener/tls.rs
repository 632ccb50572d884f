//! TLS: the certificate that the gateway shows, and which ones it asks for.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, CertificateError, RootCertStore, ServerConfig,
        client::verify_server_cert_signed_by_trust_anchor,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
        server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

use crate::{
    Error,
    followed::{Followed, Parse},
};

/// What can be set about TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[group(id = "tls_config")]
pub struct Config {
    /// Serves HTTPS and WSS, and HTTP/2 beside HTTP/1.1, with the certificate in this file: PEM, the server's own first,
    /// then those that lead to one that clients know. Its changes are taken in within seconds.
    #[arg(long, env = "CLOUDPOSE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert: PEM, without a password.
    #[arg(long, env = "CLOUDPOSE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Only clients may connect that show a certificate which one of these authorities (PEM) has signed.
    #[arg(long, env = "CLOUDPOSE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

/// HTTP/2 as ALPN names it.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// The first byte of every handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// Who renews certificates does it earlier than this before they end.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// What TLS is spoken with.
#[derive(Debug)]
pub(crate) struct Tls(Followed<ServerConfig>);

impl Tls {
    /// Reads the files, if any are set.
    ///
    /// # Errors
    /// [`Error::Tls`] if they cannot be read or used.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, Error> {
        let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        let paths = [cert, key].into_iter().chain(&config.tls_client_ca).cloned().collect();
        let parse: Parse<ServerConfig> = |files| server(files, SystemTime::now());
        Followed::open(paths, parse).map(|files| Some(Self(files))).map_err(|why| Error::Tls { why })
    }

    /// Keeps up with the files.
    pub(crate) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    /// For the next handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.current().into()
    }
}

/// Whether a client begins as TLS does. Nothing is taken of what it sent.
pub(super) async fn spoken(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [HANDSHAKE];
    // One that ends without a word is told nothing.
    stream.peek(&mut first).await?;
    Ok(first == [HANDSHAKE])
}

/// What is spoken with these files: certificate, key, and authorities for clients if there are three.
fn server(files: &[Vec<u8>], now: SystemTime) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files[0], "--tls-cert")?;
    let ends = ends(&chain[0], &provider, now)?;
    let key = PrivateKeyDer::from_pem_slice(&files[1])
        .map_err(|_| "the file of --tls-key holds no private key in PEM without a password")?;
    let clients = files.get(2).map(|pem| clients(pem, &provider)).transpose()?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key of --tls-key is not that of the first certificate of --tls-cert, \
             which must be the server's own"
                .to_owned()
        }
        other => format!("certificate and key cannot be used: {other}"),
    })?;
    server.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
    let end = humantime::format_rfc3339_seconds(ends);
    if ends < now + SOON {
        tracing::warn!("the certificate of --tls-cert ends at {end}: renew it");
    } else {
        tracing::info!("the certificate of --tls-cert is good until {end}");
    }
    Ok(server)
}

fn certificates(pem: &[u8], option: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("the file of {option} is no good PEM: {error}"))?;
    if read.is_empty() { Err(format!("the file of {option} holds no certificate in PEM")) } else { Ok(read) }
}

fn clients(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem, "--tls-client-ca")? {
        let added = roots.add(authority);
        added.map_err(|error| format!("a certificate of --tls-client-ca cannot be used: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("the certificates of --tls-client-ca cannot be used: {error}"))
}

/// When a certificate ends.
///
/// # Errors
/// If it is none, or not good at `now`.
fn ends(
    certificate: &CertificateDer<'_>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<SystemTime, String> {
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|error| format!("the first certificate of --tls-cert cannot be read: {error}"))?;
    // Its times are looked at before who has signed it, which we leave to clients.
    let flaw_at = |time: Duration| {
        let (roots, algorithms) = (RootCertStore::empty(), provider.signature_verification_algorithms.all);
        let time = UnixTime::since_unix_epoch(time);
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], time, algorithms).err()
    };
    let system = |time: UnixTime| SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    let said = |time: UnixTime| humantime::format_rfc3339_seconds(system(time)).to_string();
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match flaw_at(since_epoch) {
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            return Err(format!(
                "the certificate of --tls-cert has expired, at {}: renew it",
                said(not_after)
            ));
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before, ..
        })) => {
            return Err(format!(
                "the certificate of --tls-cert begins at {} only: is this machine's clock right?",
                said(not_before)
            ));
        }
        _ => {}
    }
    match flaw_at(FAR) {
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Ok(system(not_after))
        }
        // It never does.
        _ => Ok(SystemTime::UNIX_EPOCH + FAR),
    }
}

/// The last moment that can be written in a certificate (RFC 5280, section 4.1.2.5), since 1970.
const FAR: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: i32, until: i32) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    /// 2026-11-26.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_651_200)
    }

    fn flaw(files: &[&[u8]]) -> String {
        let files: Vec<Vec<u8>> = files.iter().map(|file| file.to_vec()).collect();
        server(&files, now()).unwrap_err()
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let (cert, key) = certificate(2026, 2028);
        assert!(server(&[cert.clone(), key.clone()], now()).is_ok());
        assert!(server(&[cert.clone(), key.clone(), cert.clone()], now()).is_ok());
        let (other, other_key) = certificate(2026, 2028);
        let (expired, its_key) = certificate(2020, 2021);
        let (early, early_key) = certificate(2027, 2028);
        for (files, words) in [
            (vec![&cert[..], &other_key], "is not that of the first certificate"),
            (vec![&expired, &its_key], "has expired, at 2021-01-01T00:00:00Z: renew it"),
            (vec![&early, &early_key], "begins at 2027-01-01T00:00:00Z only"),
            (vec![&key, &key], "--tls-cert holds no certificate"),
            (vec![&cert, &other], "--tls-key holds no private key"),
            (vec![b"-----BEGIN CERTIFICATE-----\nAA", &key], "--tls-cert"),
            (vec![b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key], "cannot be read"),
            (vec![&cert, &key, b""], "--tls-client-ca holds no certificate"),
        ] {
            let flaw = flaw(&files);
            assert!(flaw.contains(words), "{flaw:?} says nothing of {words:?}");
        }
    }

    #[test]
    fn its_end_is_known() {
        let (cert, _) = certificate(2026, 2028);
        let chain = certificates(&cert, "x").unwrap();
        let end = ends(&chain[0], &ring::default_provider(), now()).unwrap();
        assert_eq!(humantime::format_rfc3339_seconds(end).to_string(), "2028-01-01T00:00:00Z");
    }
}
