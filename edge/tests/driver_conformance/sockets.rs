//! Drivers over sockets of the loopback interface.

use std::io::{self, ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use roost_edge::driver::poll::PollDriver;
#[cfg(target_os = "linux")]
use roost_edge::driver::uring::UringDriver;
use roost_edge_core::driver::{Driver, Wake};

use crate::harness::{Harness, Heard, Peer};

/// A driver of sockets that somebody else accepts.
pub(crate) trait Sockets: Driver<Conn: From<TcpStream>> + Sized {
    fn of_shard_0() -> (Self, Arc<dyn Wake>);
}

impl Sockets for PollDriver {
    fn of_shard_0() -> (Self, Arc<dyn Wake>) {
        let (driver, waker) = Self::new(0).unwrap();
        (driver, waker)
    }
}

#[cfg(target_os = "linux")]
impl Sockets for UringDriver {
    fn of_shard_0() -> (Self, Arc<dyn Wake>) {
        let (driver, waker) =
            Self::new(0, 1000).expect("io_uring is allowed here, or these tests are left out: --skip uring");
        (driver, waker)
    }
}

pub(crate) struct Loopback<D>(TcpListener, PhantomData<D>);

impl<D: Sockets> Harness for Loopback<D> {
    type Driver = D;
    type Peer = TcpStream;

    fn new() -> (Self, D, Arc<dyn Wake>) {
        let (driver, waker) = D::of_shard_0();
        (Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), PhantomData), driver, waker)
    }

    fn connect(&mut self, _: &mut D, _: &mut Heard<D::Conn>) -> (D::Conn, TcpStream) {
        let peer = TcpStream::connect(self.0.local_addr().unwrap()).unwrap();
        let (conn, _) = self.0.accept().unwrap();
        conn.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        (conn.into(), peer)
    }
}

impl Peer for TcpStream {
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self.write(bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut buf = vec![0; 64 * 1024];
        match self.read(&mut buf) {
            Ok(0) => Ok(None),
            Ok(n) => {
                buf.truncate(n);
                Ok(Some(buf))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(Vec::new())),
            Err(error) => Err(error),
        }
    }

    fn end(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        // Closing with a linger time of zero sends a reset instead of an end.
        socket2::SockRef::from(&self).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}
