//! An accepted connection on its way to a driver.

use std::net::TcpStream;

use crate::Permit;

/// An accepted connection, and the right to hold it.
#[derive(Debug)]
pub struct Conn {
    pub(super) stream: TcpStream,
    pub(super) permit: Option<Permit>,
}

impl Conn {
    pub(crate) const fn new(stream: TcpStream, permit: Permit) -> Self {
        Self { stream, permit: Some(permit) }
    }
}

/// One that nobody counts.
impl From<TcpStream> for Conn {
    fn from(stream: TcpStream) -> Self {
        Self { stream, permit: None }
    }
}
