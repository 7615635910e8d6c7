//! What the servers of the comparison share: where they listen, and how they say so.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
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

/// Whether a message is for everybody.
#[must_use]
pub fn is_to_all(message: &[u8]) -> bool {
    message.first() == Some(&b'!')
}
