//! TLS to a server: whom to trust, and words for what can go wrong.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, Error as TlsError, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a server may be asked to speak inside TLS (RFC 7301).
const HTTP: &[u8] = b"http/1.1";

/// What the text of an error has where a server's certificate is the reason.
pub const UNTRUSTED: &str = "cannot be trusted";

/// Whose certificates a client believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Whom this machine trusts. The variable `SSL_CERT_FILE` names another list.
    #[default]
    System,
    /// Those in this PEM file and nobody else: an authority of one's own, or a self-made certificate.
    File(PathBuf),
}

impl Trust {
    /// Who that is.
    ///
    /// # Errors
    /// [`TrustError`]: there is nobody.
    pub fn roots(&self) -> Result<RootCertStore, TrustError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TrustError::Nobody);
                }
            }
            Self::File(path) => {
                let unreadable =
                    |error: &dyn std::fmt::Display| TrustError::Read { path: path.clone(), reason: error.to_string() };
                let text = std::fs::read(path).map_err(|error| unreadable(&error))?;
                for certificate in CertificateDer::pem_slice_iter(&text) {
                    let certificate = certificate.map_err(|error| unreadable(&error))?;
                    roots.add(certificate).map_err(|error| unreadable(&error))?;
                }
                if roots.is_empty() {
                    return Err(TrustError::Empty(path.clone()));
                }
            }
        }
        Ok(roots)
    }
}

/// Why there is nobody to trust.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot read the certificates in {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file has no certificate.
    #[error("{0} has no certificate: PEM is needed, with lines BEGIN CERTIFICATE")]
    Empty(PathBuf),
    /// This machine trusts nobody.
    #[error(
        "this machine trusts no authority: install its certificates (the package ca-certificates), or give a file with \
         the certificate to trust"
    )]
    Nobody,
    /// The cryptography does not work here.
    #[error("TLS does not work here: {0}")]
    Broken(#[from] TlsError),
}

/// Connects by TLS. Clones share what they remember of servers, so that they come back sooner.
#[derive(Clone)]
pub struct Connector {
    stream: TlsConnector,
    /// For QUIC, without a protocol.
    quic: ClientConfig,
}

impl Connector {
    /// Reads who is to be trusted.
    ///
    /// # Errors
    /// [`TrustError`]: there is nobody.
    pub fn new(trust: &Trust) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trust.roots()?)
            .with_no_client_auth();
        let quic = config.clone();
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(Self { stream: Arc::new(config).into(), quic })
    }

    /// The same trust for QUIC, on which `alpn` is spoken.
    pub(crate) fn quic(&self, alpn: &[u8]) -> Result<quinn::ClientConfig, TrustError> {
        let mut config = self.quic.clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        let config = QuicClientConfig::try_from(config).map_err(|error| TlsError::General(error.to_string()))?;
        Ok(quinn::ClientConfig::new(Arc::new(config)))
    }

    /// Makes `stream` a connection to `host`, a name or an address.
    ///
    /// # Errors
    /// The server is not who it should be, does not speak TLS, or went away: in words for people.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.stream.connect(name, stream).await.map_err(|error| explain(host, error))
    }
}

fn explain(host: &str, error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
    let text = match cause {
        Some(TlsError::InvalidCertificate(reason)) => {
            format!("the certificate of {host} {UNTRUSTED}: {reason}")
        }
        Some(TlsError::InvalidMessage(_)) => format!("{host} does not speak TLS there: is it http:// or ws://?"),
        _ => return error,
    };
    io::Error::other(text)
}

/// A connector that is made when it is first needed, and then shared.
#[derive(Clone, Default)]
pub(crate) struct Lazy(Arc<(Trust, OnceLock<Connector>)>);

impl Lazy {
    pub(crate) fn new(trust: Trust) -> Self {
        Self(Arc::new((trust, OnceLock::new())))
    }

    pub(crate) fn get(&self) -> Result<&Connector, TrustError> {
        let (trust, made) = &*self.0;
        match made.get() {
            Some(connector) => Ok(connector),
            None => {
                let connector = Connector::new(trust)?;
                Ok(made.get_or_init(|| connector))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_names_nobody_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let told = || Connector::new(&Trust::File(path.clone())).err().expect("nobody").to_string();
        assert!(told().contains("cannot read") && told().contains("ca.pem"), "{}", told());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(told().contains("has no certificate"), "{}", told());
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(told().contains("cannot read"), "{}", told());
    }
}
