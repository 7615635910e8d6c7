//! What the driver knows of a connection.

use mio::net::TcpStream;
use roost_wire::link::SessionKey;

use super::Conn;
use crate::Permit;
use crate::driver::flags::Flags;
use crate::driver::table::Row;

pub(super) struct Socket {
    permit: Option<Permit>,
    pub(super) stream: TcpStream,
    pub(super) flags: Flags,
}

// A million of them are held. In debug builds mio keeps more, for its own checks.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Socket>>() == 16);

impl Socket {
    pub(super) const fn new(stream: TcpStream, permit: Option<Permit>, key: SessionKey) -> Self {
        Self { permit, stream, flags: Flags::new(key) }
    }

    pub(super) fn into_conn(self) -> Conn {
        Conn { stream: Some(self.stream.into()), permit: self.permit }
    }
}

impl Row for Socket {
    fn generation(&self) -> u32 {
        self.flags.generation()
    }
}
