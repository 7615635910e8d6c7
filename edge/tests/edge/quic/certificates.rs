//! Certificates that the tests make, and who trusts them: for several programs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// TLS of a server for `localhost` that speaks `roost/1` and HTTP/3, and its certificate.
pub(crate) fn server() -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let cert = made.cert.der().clone();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"roost/1".to_vec(), b"h3".to_vec()];
    (Arc::new(tls), cert)
}

/// A client that trusts `cert` and offers `alpn`.
pub(crate) fn client(cert: &CertificateDer<'static>, alpn: &[&[u8]], provider: CryptoProvider) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A client's end at a port of its own that trusts `cert` and speaks `roost/1`. To be called on a runtime.
pub(crate) fn endpoint(cert: &CertificateDer<'static>) -> Endpoint {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(client(cert, &[b"roost/1"], aws_lc_rs::default_provider()));
    endpoint
}
