//! What the servers of the comparison share: where they listen, and how they say so.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::{Domain, Socket, Type};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 8192;

/// Flags of every server.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Write one line of JSON with address and pid here once it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

impl Place {
    /// A listener that does not block; accepted sockets send small messages at once.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn listen(&self) -> anyhow::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(self.listen), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&self.listen.into()).with_context(|| format!("cannot bind {}", self.listen))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Says that `listener` is heard from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn ready(&self, listener: &TcpListener) -> anyhow::Result<()> {
        let line = format!("{{\"listen\":\"{}\",\"pid\":{}}}\n", listener.local_addr()?, std::process::id());
        let Some(path) = &self.ready_file else {
            print!("{line}");
            return Ok(());
        };
        let half = path.with_extension("half");
        std::fs::write(&half, &line)?;
        std::fs::rename(&half, path)?;
        Ok(())
    }
}

/// TLS 1.3 with a certificate made now, which is written to `cert_file` for `roost-load --ca`. Clients come back with
/// tickets, for which nothing is kept.
///
/// # Errors
/// The file cannot be written.
pub fn secret(cert_file: &Path, alpn: &str) -> anyhow::Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost", "127.0.0.1"].map(str::to_owned))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    std::fs::write(cert_file, made.cert.pem()).context("cannot write the certificate")?;
    Ok(config)
}

/// Whether a message is for everybody.
#[must_use]
pub fn is_to_all(message: &[u8]) -> bool {
    message.first() == Some(&b'!')
}
