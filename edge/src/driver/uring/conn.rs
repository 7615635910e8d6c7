//! A connection on its way to a session.

use std::net::TcpStream;

use super::place::Place;
use crate::Permit;
use crate::driver;

/// A connection that belongs to no session yet.
///
/// One that the driver accepted is a place in a table of one of its rings; it goes back by
/// [`attach`](roost_edge_core::driver::Driver::attach) or [`refuse`](roost_edge_core::driver::Driver::refuse) of the same
/// driver, else the place is taken until the driver ends.
#[derive(Debug)]
pub struct Conn {
    pub(super) socket: Socket,
    pub(super) permit: Option<Permit>,
}

#[derive(Debug)]
pub(super) enum Socket {
    /// Accepted by the driver.
    Place(Place),
    /// Made by somebody else: it gets a place, and gives its descriptor up. `None`: it came another way, which this driver
    /// does not know.
    Stream(Option<TcpStream>),
}

impl From<driver::Conn> for Conn {
    fn from(conn: driver::Conn) -> Self {
        Self { socket: Socket::Stream(conn.stream), permit: conn.permit }
    }
}

/// One that nobody counts.
impl From<TcpStream> for Conn {
    fn from(stream: TcpStream) -> Self {
        Self { socket: Socket::Stream(Some(stream)), permit: None }
    }
}
