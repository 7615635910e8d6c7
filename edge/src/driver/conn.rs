//! An accepted connection on its way to a driver.

use std::net::TcpStream;

use crate::Permit;

/// An accepted connection, and the right to hold it.
#[derive(Debug)]
pub struct Conn {
    /// `None`: it comes through the hatch of a shard with descriptors of its own.
    pub(super) stream: Option<TcpStream>,
    pub(super) permit: Option<Permit>,
}

impl Conn {
    pub(crate) const fn new(stream: TcpStream, permit: Permit) -> Self {
        Self { stream: Some(stream), permit: Some(permit) }
    }

    /// Takes the socket out, to give it another way.
    pub(crate) const fn take_stream(&mut self) -> Option<TcpStream> {
        self.stream.take()
    }
}

/// One that nobody counts.
impl From<TcpStream> for Conn {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Some(stream), permit: None }
    }
}
