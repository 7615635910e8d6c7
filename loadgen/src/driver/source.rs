//! Local addresses to connect from: one address has some 28 000 ports, loopback has sixteen million addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::plan::ClientNo;

/// Connections from one loopback address: below the usual range of ports.
const PER_ADDRESS: u32 = 20_000;

/// A non-blocking socket that is connecting to `target`.
pub(super) fn connect(target: SocketAddr, client: ClientNo) -> io::Result<mio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source(target.ip(), client) {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// The address a client connects from; `None` for what the system chooses.
fn source(target: IpAddr, client: ClientNo) -> Option<Ipv4Addr> {
    let block = client / PER_ADDRESS;
    let IpAddr::V4(target) = target else { return None };
    // Elsewhere than on Linux only 127.0.0.1 is there by itself.
    (cfg!(target_os = "linux") && target.is_loopback() && block > 0)
        .then(|| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 0)) + block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn more_clients_than_ports_come_from_more_addresses() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source(loopback, 19_999), None);
        assert_eq!(source(loopback, 20_000), Some(Ipv4Addr::new(127, 0, 1, 1)));
        assert_eq!(source(loopback, 1_000_000), Some(Ipv4Addr::new(127, 0, 1, 50)));
        assert!(source(loopback, u32::MAX).is_some_and(|source| source.is_loopback()));
        assert_eq!(source(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 30_000), None);
    }
}
