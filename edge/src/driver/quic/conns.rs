//! The connections of a shard, by the handle of `quinn_proto`.

use std::time::{Duration, Instant};

use quinn_proto::{Connection, Dir, Side, StreamId};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

use crate::Permit;
use crate::driver::table::Row;

/// Connections made room for at once. Room for more never moves what is there, and a slot takes no more than its content:
/// an allocator's next size would be up to an eighth more, for some 6 KB each.
const CHUNK: usize = 64;

/// The stream that carries a session by `roost/1`: the first that a client opens.
pub(super) fn lane() -> StreamId {
    StreamId::new(Side::Client, Dir::Bi, 0)
}

/// No stream yet.
pub(super) const NO_LANE: u8 = u8::MAX;

/// What a connection is to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is under way.
    Handshake,
    /// It is over, and the stream has not been opened.
    Open,
    /// The stream is there: it was handed to the shard, and may have a key.
    Carrying,
    /// Our last bytes are on the way; once they have arrived the code is told.
    Closing(CloseCode),
    /// Nothing is read or written any more.
    Closed,
}

/// One connection.
pub(super) struct Conn {
    pub(super) quic: Connection,
    pub(super) stage: Stage,
    /// Tells it from others that have or had its handle.
    pub(super) serial: u32,
    /// Whose transport it is.
    pub(super) key: Option<SessionKey>,
    pub(super) permit: Option<Permit>,
    pub(super) flags: Flags,
    /// Which of the client's streams carries the session: the first, but for HTTP/3; or [`NO_LANE`].
    pub(super) lane: u8,
    /// Datagrams that came since we sent something that has to be acknowledged.
    pub(super) unanswered: u8,
    /// Bytes that came from an address that may be forged, and went there.
    pub(super) heard_bytes: u32,
    pub(super) said_bytes: u32,
    /// The tick until which its moves to other addresses are ahead of what it may.
    pub(super) moves_until: u32,
}

/// Where it stands in the lists of the driver, and what it waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(u16);

impl Flags {
    /// Its events are to be looked at.
    pub(super) const STIRRED: u16 = 1;
    /// It may have something to send.
    pub(super) const UNSENT: u16 = 2;
    /// Its stream may have something to read.
    pub(super) const READABLE: u16 = 4;
    /// It stands in the list of those to be read.
    pub(super) const QUEUED: u16 = 8;
    /// The shard wants nothing from it now.
    pub(super) const PAUSED: u16 = 16;
    /// It took nothing more: an event will tell when it does.
    pub(super) const BLOCKED: u16 = 32;
    /// It counts among those that are no session yet.
    pub(super) const YOUNG: u16 = 64;
    /// Its address may be forged.
    pub(super) const UNPROVEN: u16 = 128;
    /// Datagrams have come.
    pub(super) const DATAGRAMS: u16 = 256;
    /// It speaks HTTP/3: see `web` of the hub.
    pub(super) const H3: u16 = 512;
    /// The end of its WebTransport session is said.
    pub(super) const SAID: u16 = 1024;

    pub(super) const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u16) {
        self.0 |= flag;
    }

    pub(super) const fn clear(&mut self, flag: u16) {
        self.0 &= !flag;
    }

    /// Sets `flag`. True: it was not set.
    pub(super) const fn raise(&mut self, flag: u16) -> bool {
        let was = self.has(flag);
        self.set(flag);
        !was
    }

    /// True if it is to be put into the list of those to be read; then it counts as being there.
    pub(super) const fn may_queue(&mut self) -> bool {
        self.has(Self::READABLE | Self::DATAGRAMS) && !self.has(Self::PAUSED) && self.raise(Self::QUEUED)
    }
}

impl Conn {
    pub(super) fn new(quic: Connection, serial: u32) -> Self {
        Self {
            quic,
            stage: Stage::Handshake,
            serial,
            key: None,
            permit: None,
            flags: Flags::default(),
            lane: 0,
            unanswered: 0,
            heard_bytes: 0,
            said_bytes: 0,
            moves_until: 0,
        }
    }

    /// The stream that carries the session. Before it is known, one that no client comes to.
    pub(super) fn lane(&self) -> StreamId {
        match self.lane {
            NO_LANE => StreamId::new(Side::Client, Dir::Bi, 1 << 59),
            lane => StreamId::new(Side::Client, Dir::Bi, lane.into()),
        }
    }
}

// There is one for each session, HTTP/3 or not.
const _: () = assert!(size_of::<Conn>() - size_of::<Connection>() <= 48);

/// All of them.
#[derive(Default)]
pub(super) struct Conns {
    chunks: Vec<Box<[Option<Conn>]>>,
    len: usize,
}

impl Conns {
    pub(super) fn get(&mut self, handle: u32) -> Option<&mut Conn> {
        let at = handle as usize;
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)?.as_mut()
    }

    /// The same, if the handle is still that of the connection with `serial`.
    pub(super) fn get_if(&mut self, handle: u32, serial: u32) -> Option<&mut Conn> {
        self.get(handle).filter(|conn| conn.serial == serial)
    }

    /// Puts one in. The handle is free, since the endpoint gave it.
    pub(super) fn put(&mut self, handle: u32, conn: Conn) {
        let at = handle as usize;
        while self.chunks.len() <= at / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| None).collect());
        }
        let slot = &mut self.chunks[at / CHUNK][at % CHUNK];
        debug_assert!(slot.is_none(), "handle {handle} is in use");
        if slot.replace(conn).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, handle: u32) -> Option<Conn> {
        let at = handle as usize;
        let conn = self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)?.take()?;
        self.len -= 1;
        Some(conn)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Every handle in use.
    pub(super) fn handles(&self) -> Vec<u32> {
        let used = self.chunks.iter().flatten().enumerate().filter(|(_, conn)| conn.is_some());
        used.map(|(handle, _)| handle as u32).collect()
    }
}

/// From a key to a handle.
pub(super) struct Handle {
    pub(super) generation: u32,
    pub(super) handle: u32,
}

impl Row for Handle {
    fn generation(&self) -> u32 {
        self.generation
    }
}

/// Turns moments into ticks of a timer wheel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticks {
    start: Instant,
}

impl Ticks {
    /// Length of a tick: acknowledgements wait for 25 ms at most, and a bulk of data is paced by less.
    const TICK: Duration = Duration::from_millis(1);

    pub(super) const fn new(start: Instant) -> Self {
        Self { start }
    }

    /// The tick that `now` lies in.
    pub(super) fn at(self, now: Instant) -> u32 {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / Self::TICK.as_nanos();
        u32::try_from(ticks).unwrap_or(u32::MAX - 1)
    }

    /// The first tick that begins no sooner than `due`.
    pub(super) fn no_sooner(self, due: Instant) -> u32 {
        let ticks = due.saturating_duration_since(self.start).as_nanos().div_ceil(Self::TICK.as_nanos());
        u32::try_from(ticks).unwrap_or(u32::MAX).min(u32::MAX - 1)
    }

    /// When `tick` begins.
    pub(super) fn instant(self, tick: u32) -> Instant {
        self.start + Self::TICK * tick
    }
}
