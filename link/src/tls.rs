//! Who may speak to whom: both sides of a link show a certificate of the same authority.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Files in PEM: what this node shows, and who must have signed what others show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTls {
    /// Its certificate, with those between it and the authority behind it.
    pub cert: PathBuf,
    /// The key of it.
    pub key: PathBuf,
    /// The authority of all nodes.
    pub ca: PathBuf,
}

/// Why a link cannot use its certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds no certificate or key in PEM.
    #[error("{}: {why}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// They do not fit together.
    #[error("the certificates of the link cannot be used: {0}")]
    Unusable(String),
}

impl LinkTls {
    fn read(path: &PathBuf) -> Result<Vec<u8>, TlsError> {
        std::fs::read(path).map_err(|error| TlsError::Read { path: path.clone(), error })
    }

    fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = |why: String| TlsError::Pem { path: path.clone(), why };
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&Self::read(path)?).collect();
        let found = read.map_err(|error| pem(error.to_string()))?;
        if found.is_empty() { Err(pem("no certificate in it".to_owned())) } else { Ok(found) }
    }

    /// For who is called. Callers may come without a certificate, but not with another authority's.
    pub(crate) fn server(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in Self::certificates(&self.ca)? {
            roots.add(authority).map_err(|error| unusable(&error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&Self::read(&self.key)?)
            .map_err(|error| TlsError::Pem { path: self.key.clone(), why: error.to_string() })?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(Self::certificates(&self.cert)?, key)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols.push(b"h2".to_vec());
        Ok(Arc::new(config))
    }

    /// For who calls. `name` is what the other side's certificate is for.
    pub(crate) fn client(&self, name: &str) -> Result<ClientTlsConfig, TlsError> {
        let identity = Identity::from_pem(Self::read(&self.cert)?, Self::read(&self.key)?);
        let authority = Certificate::from_pem(Self::read(&self.ca)?);
        Ok(ClientTlsConfig::new().identity(identity).ca_certificate(authority).domain_name(name))
    }
}
