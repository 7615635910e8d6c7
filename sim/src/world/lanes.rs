//! Connections by QUIC as clients have them, and races between transports, by the rules of the client's driver.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roost_client::core::{Gone, LinkId};
use roost_client::url::Url;
use roost_client::{HEAD_START, QUIC_AGAIN_AFTER};
use roost_wire::{Encoding, FrameBody};

use super::World;
use crate::air::Datagram;
use crate::client::{Race, Way};
use crate::model::About;
use crate::quic::{Lane, Said};

/// Where a node hears datagrams.
pub(super) fn node_addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 443))
}

impl World {
    /// Opens a connection the way the client wants, or the one that is faster.
    pub(super) fn open(&mut self, number: usize, link: LinkId, url: &Url) {
        let now = self.now();
        let client = &mut self.clients[number];
        let hopeless = client.no_quic_until.is_some_and(|until| until > now);
        match client.forced.take().unwrap_or(client.way) {
            Way::Socket => self.open_socket(number, link, url),
            Way::Auto if hopeless => self.open_socket(number, link, url),
            way => {
                let socket_at = (way == Way::Auto).then_some(now + HEAD_START);
                client.races.insert(link, Race { url: url.clone(), socket_at });
                self.open_lane(number, link, url);
            }
        }
    }

    fn open_lane(&mut self, number: usize, link: LinkId, url: &Url) {
        let now = self.now();
        // Where nobody is, nobody says so.
        let node = self.balance(wanted(url)).unwrap_or(0);
        self.lanes_made += 1;
        let (id, addr) = (self.lanes_made, self.free_addr(number));
        self.homes.insert(addr, (number, id));
        let client = &mut self.clients[number];
        let lane = Lane::new(link, addr, node_addr(node), &client.trust, client.random.bytes(), now);
        client.lanes.insert(id, lane);
        self.note(&About::client(number), format_args!("{number} opens {url} by QUIC: node {node}, from {addr}"));
    }

    /// An address that nobody has had.
    pub(super) fn free_addr(&mut self, number: usize) -> SocketAddr {
        self.ports += 1;
        let addr = SocketAddr::from(([10, 1, number as u8, 1], 10_000 + self.ports));
        self.owners.insert(addr, number);
        self.air.block(addr, self.clients[number].udp_blocked);
        addr
    }

    /// WebSockets join the races whose time has come.
    pub(super) fn join_races(&mut self) {
        let now = self.now();
        for number in 0..self.clients.len() {
            let races = self.clients[number].races.iter_mut();
            let due = |(link, race): (&LinkId, &mut Race)| {
                race.socket_at.take_if(|at| *at <= now).map(|_| (*link, race.url.clone()))
            };
            let due: Vec<(LinkId, Url)> = races.filter_map(due).collect();
            for (link, url) in due {
                self.open_socket(number, link, &url);
            }
        }
    }

    /// When something is due on a connection by QUIC, or in a race.
    pub(super) fn lanes_deadline(&mut self) -> Option<Instant> {
        let clients = self.clients.iter_mut();
        clients
            .flat_map(|client| {
                let races = client.races.values().filter_map(|race| race.socket_at);
                client.lanes.values_mut().filter_map(Lane::next).chain(races)
            })
            .min()
    }

    /// Lets the connections of a client work. True: it was told something.
    pub(super) fn work_lanes(&mut self, number: usize) -> bool {
        let now = self.now();
        let ids: Vec<u64> = self.clients[number].lanes.keys().copied().collect();
        let mut told = false;
        for id in ids {
            let Some(lane) = self.clients[number].lanes.get_mut(&id) else { continue };
            let (said, datagrams) = lane.work(now);
            let (link, from, to, lag) = (lane.link, lane.addr, lane.server, lane.weather.lag);
            if lane.is_over() {
                self.clients[number].lanes.remove(&id);
                self.homes.remove(&from);
            }
            for bytes in datagrams {
                self.air.send(Datagram { from, to, bytes }, lag_at(lag, now), now, &mut self.model.faults);
            }
            for said in said {
                told = true;
                match said {
                    Said::Opened => self.opened_by_lane(number, link),
                    Said::Message(payload) => self.told(number, link, &payload),
                    Said::Gone(gone) => self.lane_failed(number, link, &gone),
                }
            }
        }
        told
    }

    /// A connection of the client, unless it is only saying goodbye.
    pub(super) fn lane_of(&mut self, number: usize, link: LinkId) -> Option<&mut Lane> {
        self.clients[number].lanes.values_mut().find(|lane| lane.link == link && lane.is_held())
    }

    fn opened_by_lane(&mut self, number: usize, link: LinkId) {
        self.clients[number].races.remove(&link);
        if let Some(socket) = self.clients[number].sockets.remove(&link) {
            self.let_go(socket.conn);
        }
        self.opened(number, link);
    }

    pub(super) fn opened_by_socket(&mut self, number: usize, link: LinkId) {
        let now = self.now();
        if self.clients[number].races.remove(&link).is_some() {
            if let Some(lane) = self.lane_of(number, link) {
                lane.leave(0, now);
            }
            self.clients[number].no_quic_until = Some(now + QUIC_AGAIN_AFTER);
        }
        self.opened(number, link);
    }

    /// The transport of a connection is open, and CONNECT goes out.
    fn opened(&mut self, number: usize, link: LinkId) {
        let now = self.now();
        let Some(core) = &mut self.clients[number].core else { return };
        let old = core.link();
        core.opened(link, now);
        if let Some(old) = old.filter(|old| *old != link) {
            self.strike_hand_over(number, old, link);
        }
    }

    /// A connection by QUIC ended, or could not be had.
    fn lane_failed(&mut self, number: usize, link: LinkId, gone: &Gone) {
        let running = self.clients[number].sockets.contains_key(&link);
        let Some(race) = self.clients[number].races.get_mut(&link) else { return self.failed(number, link, gone) };
        if running {
            return;
        }
        if race.socket_at.take().is_some() {
            let url = race.url.clone();
            self.open_socket(number, link, &url);
        } else {
            self.failed(number, link, gone);
        }
    }

    /// A WebSocket ended, or could not be had.
    pub(super) fn socket_failed(&mut self, number: usize, link: LinkId, gone: &Gone) {
        let racing = self.clients[number].races.contains_key(&link);
        if !racing || self.lane_of(number, link).is_none() {
            self.failed(number, link, gone);
        }
    }

    fn failed(&mut self, number: usize, link: LinkId, gone: &Gone) {
        let now = self.now();
        self.clients[number].races.remove(&link);
        if let Some(core) = &mut self.clients[number].core {
            core.closed(link, gone, now);
        }
    }

    /// Sends a frame by QUIC. What is stale soon goes as a datagram now and then, as clients may.
    pub(super) fn transmit_by_lane(&mut self, number: usize, link: LinkId, payload: &Bytes) {
        let mut bytes = &payload[..];
        let frame = Encoding::Protobuf.decode(&mut bytes).ok().flatten();
        let stale_soon = frame.is_some_and(|frame| matches!(frame.body, Some(FrameBody::Typing(_))));
        let beside = stale_soon && self.clients[number].random.chance(50);
        if let Some(lane) = self.lane_of(number, link)
            && !(beside && lane.transmit_datagram(payload))
        {
            lane.transmit(payload);
        }
    }

    /// Frames came. They may hand the session over to the connection on which they came.
    pub(super) fn told(&mut self, number: usize, link: LinkId, payload: &[u8]) {
        let now = self.now();
        let client = &mut self.clients[number];
        let Some(core) = &mut client.core else { return };
        let before = core.link();
        core.message(link, payload, now);
        if before != Some(link) && core.link() == Some(link) && client.told_connected {
            self.model.moves += 1;
            self.note(&About::client(number), format_args!("{number} has moved to another connection"));
            if let Some(old) = before {
                self.strike_hand_over(number, old, link);
            }
        }
    }
}

/// The node that an address of a GOAWAY names.
pub(super) fn wanted(url: &Url) -> Option<usize> {
    url.to_string().split(['-', '.']).nth(1).and_then(|node| node.parse().ok())
}

/// How much longer something takes now.
pub(super) fn lag_at(lag: Option<(Instant, Duration)>, now: Instant) -> Duration {
    lag.filter(|(until, _)| now < *until).map_or(Duration::ZERO, |(_, extra)| extra)
}
