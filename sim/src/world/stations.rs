//! The nodes' shards of QUIC: real hubs between the air and real shards.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roost_edge::driver::quic::QuicConn;
use roost_edge_core::driver::Sink;
use roost_edge_core::{Effect, End, Shard};
use roost_wire::link::SessionKey;

use super::World;
use super::lanes::{lag_at, node_addr};
use crate::air::Datagram;
use crate::model::About;

/// Where a hub tells what happened.
struct Side<'a> {
    shard: &'a mut Shard,
    now: Instant,
    arrivals: Vec<(QuicConn, SocketAddr)>,
    due: Vec<SessionKey>,
}

impl Sink for Side<'_> {
    type Conn = QuicConn;

    fn accepted(&mut self, conn: QuicConn, peer: SocketAddr) {
        self.arrivals.push((conn, peer));
    }

    fn received(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.shard.received(key, bytes, self.now);
    }

    fn datagram(&mut self, key: SessionKey, bytes: &mut [u8]) {
        self.shard.datagram(key, bytes, self.now);
    }

    fn sent(&mut self, key: SessionKey, n: usize) {
        self.shard.sent(key, n, self.now);
        self.due.push(key);
    }

    fn writable(&mut self, key: SessionKey) {
        self.due.push(key);
    }

    fn half_closed(&mut self, key: SessionKey) -> bool {
        self.shard.half_closed(key, self.now)
    }

    fn ended(&mut self, key: SessionKey, end: End) {
        self.shard.ended(key, end, self.now);
    }
}

impl World {
    /// Datagrams that arrive at either end.
    pub(super) fn datagrams(&mut self) {
        let now = self.now();
        while let Some(Datagram { from, to, bytes }) = self.air.take(now) {
            if let Some((number, id)) = self.homes.get(&to) {
                if let Some(lane) = self.clients[*number].lanes.get_mut(id) {
                    lane.hear(&bytes, now);
                }
                continue;
            }
            let node = (0..self.nodes.len()).find(|node| node_addr(*node) == to);
            if let Some(node) = node.and_then(|node| self.nodes[node].as_mut())
                && let Some(station) = node.site.shard_of(&bytes)
            {
                node.stations[usize::from(station)].datagram(from, &bytes, now);
            }
        }
    }

    /// What a turn of a node's shards of QUIC begins with. True: there is more to do.
    pub(super) fn turn_stations(&mut self, number: usize) -> bool {
        let now = self.now();
        let Some(node) = &mut self.nodes[number] else { return false };
        let (mut more, mut opened, mut due) = (false, Vec::new(), Vec::new());
        let shards = node.shards.iter_mut().skip(usize::from(self.setup.shards));
        for (station, shard) in node.stations.iter_mut().zip(shards) {
            let mut side = Side { shard, now, arrivals: Vec::new(), due: Vec::new() };
            more |= station.turn(now, &mut side);
            due.append(&mut side.due);
            for (conn, peer) in side.arrivals {
                match shard.opened_native(peer, conn.takes_datagrams(), now) {
                    Some(key) if station.attach(key, &conn).is_ok() => opened.push((key, peer)),
                    Some(key) => shard.ended(key, End::Error, now),
                    None => station.refuse(&conn, now),
                }
            }
        }
        for (key, peer) in opened {
            let owner = self.owners.get(&peer).copied();
            if let (Some(node), Some(client)) = (&mut self.nodes[number], owner) {
                node.native.insert(key, client);
                self.model.native += 1;
                self.note(&About::client(client), format_args!("{client} is session {key} by QUIC at node {number}"));
            }
        }
        for key in due {
            self.write_native(number, key);
        }
        more
    }

    /// What it ends with: datagrams leave. True: there are more.
    pub(super) fn flush_stations(&mut self, number: usize) -> bool {
        let now = self.now();
        let Some(node) = &mut self.nodes[number] else { return false };
        let mut busy = false;
        for station in &mut node.stations {
            station.flush(now);
            busy |= station.is_busy();
            for (to, bytes) in station.sent() {
                let home = self.homes.get(&to).and_then(|(client, lane)| self.clients[*client].lanes.get(lane));
                let lag = home.map_or(Duration::ZERO, |lane| lag_at(lane.weather.lag, now));
                let from = node_addr(number);
                self.air.send(Datagram { from, to, bytes }, lag, now, &mut self.model.faults);
            }
        }
        busy
    }

    /// Whether a session is by QUIC.
    pub(super) fn is_native(&self, key: SessionKey) -> bool {
        key.shard() >= self.setup.shards
    }

    /// What a shard of QUIC asks for.
    pub(super) fn native_effect(&mut self, number: usize, effect: Effect) {
        let (now, first) = (self.now(), self.setup.shards);
        let Some(node) = &mut self.nodes[number] else { return };
        let station = |key: SessionKey| usize::from(key.shard() - first);
        match effect {
            Effect::Write(key) => self.write_native(number, key),
            Effect::Pause(key) => node.stations[station(key)].pause(key),
            Effect::Resume(key) => node.stations[station(key)].resume(key),
            Effect::CloseWith { session, code } => node.stations[station(session)].close(session, code, now),
            Effect::Datagram { session, bytes } => {
                if !node.stations[station(session)].send_datagram(session, &bytes) {
                    node.shard(session).undelivered(session, bytes, now);
                }
            }
            Effect::Page { session, bytes } => {
                if node.stations[station(session)].send_page(session, &bytes) {
                    node.shard(session).page_sent(bytes.len());
                    self.model.pages += 1;
                } else {
                    node.shard(session).page_undelivered(session, bytes, now);
                }
            }
            other => panic!("not of a session by QUIC: {other:?}"),
        }
    }

    /// Writes what a session has queued, as far as its connection takes it.
    fn write_native(&mut self, number: usize, key: SessionKey) {
        let (now, first) = (self.now(), self.setup.shards);
        let Some(node) = &mut self.nodes[number] else { return };
        let (station, shard) =
            (&mut node.stations[usize::from(key.shard() - first)], &mut node.shards[usize::from(key.shard())]);
        while let Some(outbound) = shard.outbound(key).filter(|outbound| !outbound.is_empty()) {
            match station.write(key, outbound, now) {
                Ok(0) => return,
                Ok(n) => shard.sent(key, n, now),
                Err(_) => return shard.ended(key, End::Error, now),
            }
        }
    }
}
