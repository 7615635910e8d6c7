//! What is around the shard: friends, rogues, strangers, and a network that brings what it likes; `rogues`: what clients
//! with keys may do; `checks`: what must hold.

mod checks;
mod rogues;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roost_edge::driver::quic::QuicConn;
use roost_edge::driver::quic::testkit::{Caller, Orders, Site, Station, Trust};
use roost_edge_core::driver::Sink;
use roost_edge_core::{End, Outbound, ShardConfig};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

use super::client::Client;

/// Connections that may have opened no stream, and handshakes under way with addresses that may be forged.
const YOUNG_MAX: usize = 4;
const UNPROVEN_MAX: usize = 2;
/// Sessions that go on whatever happens.
const FRIENDS: usize = 2;
/// Clients that do what they want, in one input.
const ROGUES_MAX: usize = 9;
/// Datagrams that strangers remember.
const OVERHEARD_MAX: usize = 64;
/// Rounds after which nothing should be left to be said.
const ROUNDS_MAX: usize = 200;
/// What comes from an address that may be forged is answered with at most so many times its size (RFC 9000 §8.1).
const AMPLIFICATION_MAX: usize = 3;
/// What browsers ask for.
const H3: &str = "h3";
/// What a move to another address is answered with at once, how many a connection may make in a row, and then each second.
const MOVE_BYTES: usize = 1200;
const MOVES_MAX: usize = 11;
/// How long a friend may be silent: it keeps its session alive.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// What the hub told.
#[derive(Default)]
struct Told {
    arrivals: Vec<(QuicConn, SocketAddr)>,
    received: BTreeMap<SessionKey, Vec<u8>>,
    ended: Vec<SessionKey>,
    writable: Vec<SessionKey>,
}

impl Sink for Told {
    type Conn = QuicConn;

    fn accepted(&mut self, conn: QuicConn, peer: SocketAddr) {
        self.arrivals.push((conn, peer));
    }

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        assert!(!self.ended.contains(&key), "{key}: bytes behind its end");
        assert!(!bytes.is_empty(), "{key}: told nothing");
        self.received.entry(key).or_default().extend_from_slice(bytes);
        bytes.fill(0xee);
    }

    fn datagram(&mut self, key: SessionKey, bytes: &mut [u8]) {
        assert!(!self.ended.contains(&key), "{key}: a datagram behind its end");
        bytes.fill(0xee);
    }

    fn sent(&mut self, _: SessionKey, _: usize) {}

    fn writable(&mut self, key: SessionKey) {
        self.writable.push(key);
    }

    fn half_closed(&mut self, _: SessionKey) -> bool {
        false
    }

    fn ended(&mut self, key: SessionKey, _: End) {
        assert!(!self.ended.contains(&key), "{key}: ends twice");
        self.ended.push(key);
    }
}

/// What an address is sent that is no client's.
#[derive(Default)]
struct Stranger {
    came_bytes: usize,
    went_bytes: usize,
    /// How often a connection was believed to have moved there.
    followed: usize,
}

pub(super) struct World {
    station: Station,
    told: Told,
    now: Instant,
    /// Friends first.
    clients: Vec<Client>,
    /// What is queued for each session, and what was.
    queues: BTreeMap<SessionKey, (Outbound, Vec<u8>)>,
    overheard: VecDeque<Vec<u8>>,
    /// Bytes that came from addresses where no client ever is, and went there.
    strangers: BTreeMap<SocketAddr, Stranger>,
    heard_bytes: usize,
    began: Instant,
    keys: u32,
}

/// Addresses from this one on are those of strangers.
const STRANGERS: u8 = 200;

fn is_strange(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V4(addr) if addr.ip().octets()[3] >= STRANGERS)
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 1024))
}

impl World {
    pub(super) fn new(first: u8) -> Self {
        let now = Instant::now();
        let shard = ShardConfig { unauthenticated_max: YOUNG_MAX, ..ShardConfig::default() };
        let site = Site::new(&shard, 1, [9; 32], |config| config.unproven_max = UNPROVEN_MAX);
        let mut world = Self {
            station: site.station(0, 0, [first; 32], now),
            told: Told::default(),
            now,
            clients: Vec::new(),
            queues: BTreeMap::new(),
            overheard: VecDeque::new(),
            strangers: BTreeMap::new(),
            heard_bytes: 0,
            began: now,
            keys: 0,
        };
        for friend in 0..FRIENDS as u8 {
            let caller = Caller::new(&Trust::default(), [friend + 1; 32], now);
            world.clients.push(Client::new(caller, addr(friend + 1), Orders::default()));
            world.exchange(friend.into());
            assert!(world.clients[usize::from(friend)].caller.is_connected(), "a friend gets in");
            world.talk(friend, 1);
        }
        world
    }

    fn hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.heard_bytes += bytes.len();
        let followed = self.station.counted().migrations;
        self.station.datagram(from, bytes, self.now);
        if is_strange(from) {
            let stranger = self.strangers.entry(from).or_default();
            stranger.came_bytes += bytes.len();
            stranger.followed += (self.station.counted().migrations - followed) as usize;
        }
    }

    /// What the shard does in a turn, until there is nothing more to do.
    fn serve(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let more = self.station.turn(self.now, &mut self.told);
            for (conn, peer) in std::mem::take(&mut self.told.arrivals) {
                self.arrive(&conn, peer);
            }
            for key in std::mem::take(&mut self.told.writable) {
                self.write(key);
            }
            self.station.flush(self.now);
            for (to, bytes) in self.station.sent() {
                // A reset is as long as what it answers, and that may be two in one.
                assert!(!bytes.is_empty() && bytes.len() < 3000, "a datagram of {} B", bytes.len());
                self.overhear(&bytes);
                if let Some(client) = self.clients.iter_mut().find(|client| client.addr == to) {
                    client.inbox.push_back(bytes);
                } else if is_strange(to) {
                    self.strangers.entry(to).or_default().went_bytes += bytes.len();
                }
            }
            let due = self.station.next_deadline().is_some_and(|next| next <= self.now);
            if !more && !due && !self.station.is_busy() {
                return;
            }
        }
        panic!("turns without an end");
    }

    /// A connection whose client opened its stream. One without a session is refused.
    fn arrive(&mut self, conn: &QuicConn, peer: SocketAddr) {
        let Some(client) = self.clients.iter_mut().find(|client| client.addr == peer && client.key.is_none()) else {
            return self.station.refuse(conn, self.now);
        };
        self.keys += 1;
        let key = SessionKey::new(0, self.keys, 0);
        if self.station.attach(key, conn).is_ok() {
            client.key = Some(key);
            self.queues.insert(key, (Outbound::default(), Vec::new()));
        }
    }

    fn overhear(&mut self, bytes: &[u8]) {
        if self.overheard.len() == OVERHEARD_MAX {
            self.overheard.pop_front();
        }
        self.overheard.push_back(bytes.to_vec());
    }

    /// All that a client and the shard have to say to each other arrives.
    fn exchange(&mut self, at: usize) {
        for _ in 0..ROUNDS_MAX {
            let client = &mut self.clients[at];
            client.work(self.now);
            let (from, spoken) = (client.addr, std::mem::take(&mut client.unheard));
            if spoken.is_empty() {
                self.serve();
                if self.clients[at].inbox.is_empty() {
                    return;
                }
                continue;
            }
            for bytes in spoken {
                self.overhear(&bytes);
                self.hear(from, &bytes);
            }
            self.serve();
            // Acknowledgements wait, and so does what is paced.
            self.now += Duration::from_millis(1);
        }
    }

    fn exchange_friends(&mut self) {
        (0..FRIENDS).for_each(|friend| self.exchange(friend));
    }

    /// A client that does what it wants. `None`: there is none.
    fn rogue_at(&self, who: u8) -> Option<usize> {
        let rogues = self.clients.len() - FRIENDS;
        (rogues > 0).then(|| FRIENDS + usize::from(who) % rogues)
    }

    /// Somewhere: where a client is, or nobody.
    fn somewhere(&self, from: u8) -> SocketAddr {
        match self.clients.get(usize::from(from & 15)).filter(|_| from < 0xf0) {
            Some(client) => client.addr,
            None => addr(STRANGERS + from % 16),
        }
    }

    pub(super) fn stranger(&mut self, from: u8, bytes: &[u8]) {
        self.hear(self.somewhere(from), bytes);
        self.serve();
    }

    /// A datagram that is long enough for a first one, with some sort of long header. Bits of `form`: the version, where its
    /// connection id comes from, whether it is long enough.
    pub(super) fn stranger_long(&mut self, from: u8, first: u8, form: u8, bytes: &[u8]) {
        let version: u32 = [1, 1, 0, 0x6b33_43cf, 0x0a0a_0a0a, 0xff00_001d, 2, u32::MAX][usize::from(form & 7)];
        let mut datagram = vec![first | 0x80];
        datagram.extend_from_slice(&version.to_be_bytes());
        let known = self.overheard.get(usize::from(form >> 4)).and_then(|bytes| bytes.get(1..9)).map(<[u8]>::to_vec);
        if let (true, Some(id)) = (form & 8 == 8, known) {
            datagram.push(id.len() as u8);
            datagram.extend_from_slice(&id);
        }
        datagram.extend_from_slice(bytes);
        if form & 0x80 == 0 {
            datagram.resize(1200, first);
        }
        self.stranger(from, &datagram);
    }

    /// What a client says next is overheard.
    fn spoken(&mut self, who: u8) -> Option<(usize, Vec<u8>)> {
        let at = usize::from(who) % self.clients.len();
        let client = &mut self.clients[at];
        if at < FRIENDS {
            client.caller.ping();
        }
        client.work(self.now);
        Some((at, client.unheard.front()?.clone()))
    }

    /// A copy of what a client says comes first, with another byte. The friend's own follows.
    pub(super) fn spoil(&mut self, who: u8, from: u8, at: u16, bits: u8) {
        let Some((client, mut bytes)) = self.spoken(who) else { return };
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= bits;
        self.stranger(from, &bytes);
        self.go_on(client);
    }

    /// The same, cut.
    pub(super) fn cut(&mut self, who: u8, from: u8, at: u16) {
        let Some((client, mut bytes)) = self.spoken(who) else { return };
        bytes.truncate(usize::from(at) % bytes.len());
        self.stranger(from, &bytes);
        self.go_on(client);
    }

    fn go_on(&mut self, client: usize) {
        if client < FRIENDS {
            self.exchange(client);
        }
    }

    /// Something that was overheard comes once more.
    pub(super) fn replay(&mut self, which: u8, from: u8) {
        let Some(bytes) = self.overheard.get(usize::from(which) % self.overheard.len().max(1)) else { return };
        self.stranger(from, &bytes.clone());
    }

    /// A client says little, from wherever it likes to be thought to be.
    pub(super) fn roam(&mut self, who: u8, times: u8) {
        let Some(at) = self.rogue_at(who) else { return };
        for time in 0..times {
            self.clients[at].caller.ping();
            self.clients[at].work(self.now);
            for bytes in std::mem::take(&mut self.clients[at].unheard) {
                self.stranger(0xf0 | time, &bytes);
            }
            self.now += Duration::from_millis(1);
        }
    }

    /// Two datagrams come as one (RFC 9000 §12.2).
    pub(super) fn join(&mut self, from: u8, at: u8) {
        let at = usize::from(at) % self.overheard.len().max(1);
        let (Some(one), Some(two)) = (self.overheard.get(at), self.overheard.get(at + 1)) else { return };
        let both = [&one[..], &two[..]].concat();
        self.stranger(from, &both);
    }

    /// What was said to a rogue, or by it, is lost, or comes in another order.
    pub(super) fn lose(&mut self, who: u8) {
        let Some(at) = self.rogue_at(who) else { return };
        let client = &mut self.clients[at];
        match who >> 6 {
            0 => client.inbox.clear(),
            1 => client.unheard.clear(),
            2 => client.inbox.make_contiguous().reverse(),
            _ => client.unheard.make_contiguous().reverse(),
        }
    }

    /// Time passes; friends stay alive.
    pub(super) fn pass(&mut self, ms: u16) {
        let end = self.now + Duration::from_millis(ms.into());
        let mut ping = self.now;
        while self.now < end {
            if ping <= self.now {
                ping = self.now + SILENT_MAX;
                self.clients[..FRIENDS].iter_mut().for_each(|friend| friend.caller.ping());
            }
            self.exchange_friends();
            let friends = self.clients[..FRIENDS].iter_mut().filter_map(|friend| friend.caller.next_deadline());
            let next = friends.chain(self.station.next_deadline()).chain([end, ping]).min().unwrap_or(end);
            // Turns end with all that was due, so time goes on.
            self.now = next.max(self.now + Duration::from_millis(1));
            self.serve();
        }
    }

    /// A friend says something.
    pub(super) fn talk(&mut self, which: u8, bytes: u8) {
        let friend = usize::from(which) % FRIENDS;
        self.clients[friend].write(&vec![bytes; usize::from(bytes)]);
        self.exchange(friend);
    }

    /// Somebody is told something.
    pub(super) fn answer(&mut self, which: u8, bytes: u16) {
        let at = usize::from(which) % self.clients.len();
        let Some(key) = self.clients[at].key else { return };
        let Some((queue, said)) = self.queues.get_mut(&key) else { return };
        if queue.bytes() > 256 * 1024 {
            return;
        }
        if which & 0x80 == 0 {
            let bytes = vec![bytes as u8; usize::from(bytes)];
            said.extend_from_slice(&bytes);
            queue.push(Bytes::from(bytes));
            self.write(key);
        } else {
            self.station.send_datagram(key, &Bytes::from(vec![0; usize::from(bytes)]));
        }
        self.serve();
        self.go_on(at);
    }

    /// Writes what waits for a session, as far as it goes.
    fn write(&mut self, key: SessionKey) {
        let Some((queue, _)) = self.queues.get_mut(&key) else { return };
        while !queue.is_empty() {
            match self.station.write(key, queue, self.now) {
                Ok(0) => return,
                Ok(written) => {
                    assert!(written <= queue.bytes(), "more than there is");
                    queue.advance(written);
                }
                Err(_) => {
                    self.told.ended.push(key);
                    return;
                }
            }
        }
    }

    /// The shard stops or goes on to read a rogue, or lets it go.
    pub(super) fn decide(&mut self, who: u8, what: u8) {
        let Some(at) = self.rogue_at(who) else { return };
        let Some(key) = self.clients[at].key else { return };
        match what % 4 {
            0 => self.station.pause(key),
            1 | 2 => self.station.resume(key),
            _ => {
                self.station.close(key, CloseCode::SlowConsumer, self.now);
                self.told.ended.push(key);
                self.clients[at].key = None;
            }
        }
        self.serve();
    }

    /// A friend goes on from another address, and knows it or not.
    pub(super) fn moved(&mut self, which: u8, told: bool) {
        let friend = usize::from(which) % FRIENDS;
        self.clients[friend].addr = addr(friend as u8 * 16 + 16 + which % 16);
        if told {
            self.clients[friend].caller.moved();
        }
        self.clients[friend].caller.ping();
        self.exchange(friend);
    }

    /// Whether a client that does what it wants has come as far as a session.
    #[cfg(test)]
    pub(super) fn rogue_has_session(&self) -> bool {
        self.clients[FRIENDS..].iter().any(|rogue| rogue.key.is_some())
    }
}
