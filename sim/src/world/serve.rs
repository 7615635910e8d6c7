//! What nodes, the store and the bus do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_edge_core::{Effect, End};
use roost_wire::link::{Audience, Down, SessionKey};
use roost_wire::{FrameBody, UserId};

use super::limits::FanoutBound;
use super::{Turn, World};
use crate::bus::{BEAT_EVERY, Plug};
use crate::fault::Fault;
use crate::model::About;
use crate::net::{Arrival, Conn};
use crate::node::{Ground, Node};
use crate::store::{Batch, NodeStore, Write};

impl World {
    pub(super) fn start_node(&mut self, number: usize) {
        if self.nodes[number].is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        self.note(&About::all(), format_args!("node {number} starts"));
        let store = NodeStore::new(number, Arc::clone(&self.store));
        let plug = Plug::new(number, life, store.life(), Arc::clone(&self.bus.posted), Arc::clone(&self.news));
        let ground = Ground { seed: self.plan.seed, setup: &self.setup, began: self.began, news: &self.news };
        self.nodes[number] = Some(Node::start(&ground, number, life, store, &self.clocks[number], plug));
        self.later(Duration::ZERO, Turn::Beat { node: number, life });
    }

    /// The process is gone; its connections break, and it starts again after a while.
    pub(super) fn kill_node(&mut self, number: usize, down_for: Duration, ends: [Duration; 2]) {
        let Some(node) = self.nodes[number].take() else { return };
        self.model.followed += node.followed();
        node.kill();
        let now = self.now();
        for conn in self.conns.values_mut().filter(|conn| conn.node == number) {
            if let Some(session) = conn.session.take() {
                self.served.remove(&(number, session));
            }
            conn.down.cut(now, ends[0]);
        }
        self.later(down_for, Turn::StartNode(number));
    }

    pub(super) fn beat(&mut self, number: usize, life: u32) {
        let began = self.began;
        let Some(node) = self.nodes[number].as_mut().filter(|node| node.life == life) else { return };
        node.beat();
        let (unix_ms, now) = (self.clocks[number].unix_ms(began), tokio::time::Instant::now().into_std());
        node.shards.iter_mut().for_each(|shard| shard.wall_clock(unix_ms, now));
        self.later(BEAT_EVERY, Turn::Beat { node: number, life });
    }

    /// Parcels that arrive.
    pub(super) fn parcels(&mut self) {
        let now = self.now();
        while let Some((to, parcel)) = self.bus.take(now) {
            if self.plan.trace {
                let (from, number, notice) = (parcel.from.0, parcel.number, kind(&parcel.notice));
                self.model.trace(format_args!("node {to} hears parcel {number} of node {from}: {notice}"));
            }
            if let Some(node) = &self.nodes[to] {
                node.hear(parcel);
            }
        }
    }

    /// The store brings writes behind its boundary. Faults may strike before anybody is answered.
    pub(super) fn sync_store(&mut self) {
        if let Some(batch) = self.store.sync(self.now()) {
            self.learn(&batch);
            self.strike_between(&batch);
            batch.release();
        }
    }

    /// The model learns what is durable.
    pub(super) fn learn(&mut self, batch: &Batch) {
        for synced in &batch.synced {
            self.model.stored(&synced.write);
            if synced.late
                && let Write::Append(append) = &synced.write
            {
                self.late.insert(append.conv.clone());
            }
        }
        // Rows are read as they are behind all of the batch.
        for synced in &batch.synced {
            let Write::Marks(marks) = &synced.write else { continue };
            for mark in marks {
                let row = self.store.row(&mark.conv, &mark.user);
                self.model.marked(mark, row.as_ref());
            }
        }
    }

    /// What is to happen exactly between a durable append and its answer.
    fn strike_between(&mut self, batch: &Batch) {
        for synced in &batch.synced {
            let Write::Append(append) = &synced.write else { continue };
            if self.fate.lose_ack
                && let Some(client) = append.entries.iter().find_map(|entry| self.model.sender(&entry.cmid))
                && self.cut_client(client)
            {
                self.fate.lose_ack = false;
                let line = format_args!("client {client} is cut off behind an append to {}", append.conv);
                self.model.fault(Fault::AckLost, line);
            }
            if self.fate.kill_at_write && self.nodes[synced.node].is_some() {
                self.fate.kill_at_write = false;
                let line = format_args!("node {} dies behind an append to {}", synced.node, append.conv);
                self.model.fault(Fault::NodeKillAtWrite, line);
                let (down_for, ends) = self.fate.restart(Fault::NodeKillAtWrite);
                self.kill_node(synced.node, down_for, ends);
            }
        }
    }

    /// What a router sent goes to its shards, looked at on the way.
    pub(super) fn mail(&mut self, number: usize) {
        let now = self.now();
        let Some(node) = &mut self.nodes[number] else { return };
        let mut fanouts: Vec<FanoutBound> = node.metrics.iter().map(|metrics| FanoutBound::new(metrics)).collect();
        for (shard, down) in node.take_mail() {
            fanouts[usize::from(shard)].others += usize::from(!matches!(down, Down::Deliver { .. }));
            if self.plan.trace {
                self.model.trace(format_args!("node {number} posts to shard {shard}: {}", kind(&down)));
            }
            match &down {
                Down::Accepted { session, user, .. } => {
                    node.who.insert(*session, user.clone());
                    *node.owed.entry(*session).or_default() += 1;
                }
                Down::Join { session, topic } => {
                    node.topics.entry(topic.clone()).or_default().insert(*session);
                }
                Down::Leave { session, topic } => {
                    if let Some(joined) = node.topics.get_mut(topic) {
                        joined.remove(session);
                    }
                }
                Down::Reply { session, frame: Some(frame) } => {
                    *node.owed.entry(*session).or_default() += 1;
                    if let Some((cmid, attempt)) = node.sends.remove(&(*session, frame.rid))
                        && let Some(FrameBody::Error(error)) = &frame.body
                    {
                        self.model.told_not_stored(&cmid, attempt, error);
                    }
                    if let (Some(user), Some(body)) = (node.who.get(session), &frame.body) {
                        self.model.told(user, body);
                    }
                }
                Down::Deliver { envelope, audience } => {
                    if let Some(body) = &envelope.frame().body {
                        readers(node, shard, audience).for_each(|user| self.model.told(user, body));
                    }
                }
                _ => {}
            }
            node.shards[usize::from(shard)].down(down, now);
        }
        self.check_fanout(number, &fanouts);
    }

    pub(super) fn node_effect(&mut self, number: usize, effect: Effect) {
        let now = self.now();
        match effect {
            Effect::CloseWith { .. } | Effect::Datagram { .. } | Effect::Page { .. } => {
                self.native_effect(number, effect);
            }
            Effect::Write(key) | Effect::Pause(key) | Effect::Resume(key) if self.is_native(key) => {
                self.native_effect(number, effect);
            }
            Effect::Write(key) => self.write(number, key),
            Effect::Close(key) => {
                if let Some(conn) = self.served.remove(&(number, key)).and_then(|conn| self.conns.get_mut(&conn)) {
                    conn.session = None;
                    conn.down.finish(now, &mut self.net);
                }
            }
            Effect::Pause(key) | Effect::Resume(key) => {
                if let Some(conn) = self.served.get(&(number, key)).and_then(|conn| self.conns.get_mut(conn)) {
                    conn.paused = matches!(effect, Effect::Pause(_));
                }
            }
            other => panic!("clients ask for nothing else: {other:?}"),
        }
    }

    /// Writes what a session has queued, as far as the window of its connection goes.
    pub(super) fn write(&mut self, number: usize, key: SessionKey) {
        let now = self.now();
        let Some(node) = &mut self.nodes[number] else { return };
        let shard = node.shard(key);
        let Some(outbound) = shard.outbound(key) else { return };
        let conn = self.served.get(&(number, key)).and_then(|conn| self.conns.get_mut(conn));
        // A connection that the client has let go takes everything, to nowhere.
        let room =
            conn.as_ref().map_or(usize::MAX, |conn| self.setup.window_bytes.saturating_sub(conn.down.queued_bytes()));
        let bytes: Vec<u8> = outbound.chunks().flatten().copied().take(room).collect();
        let all = bytes.len() == outbound.bytes();
        if let Some(conn) = conn {
            conn.blocked = !all;
            conn.down.send(&bytes, now, &mut self.net);
        }
        shard.sent(key, bytes.len(), now);
    }

    /// Bytes that arrive at either end of a connection.
    pub(super) fn arrivals(&mut self) {
        let now = self.now();
        let ids: Vec<u64> = self.conns.iter().filter(|(_, conn)| due(conn, now)).map(|(id, _)| *id).collect();
        for id in ids {
            while let Some(conn) = self.conns.get_mut(&id)
                && let Some(session) = conn.session.filter(|_| !conn.paused)
                && let Some(arrival) = conn.up.take(now)
            {
                let number = conn.node;
                let Some(node) = &mut self.nodes[number] else { break };
                match arrival {
                    Arrival::Bytes(mut bytes) => node.shard(session).received(session, &mut bytes, now),
                    Arrival::End => {
                        conn.session = None;
                        self.served.remove(&(number, session));
                        node.shard(session).ended(session, End::Eof, now);
                    }
                }
            }
            self.client_arrivals(id);
            if let Some(conn) = self.conns.get(&id)
                && conn.blocked
                && let Some(session) = conn.session
            {
                self.write(conn.node, session);
            }
        }
    }

    /// A node that takes connections, as a load balancer would find one; `wanted` if it is that one's turn.
    pub(super) fn balance(&mut self, wanted: Option<usize>) -> Option<usize> {
        let serves = |node: &Option<Node>| node.as_ref().is_some_and(|node| !node.draining);
        if let Some(wanted) = wanted.filter(|wanted| self.nodes.get(*wanted).is_some_and(serves)) {
            return Some(wanted);
        }
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| serves(&self.nodes[*node])).collect();
        if up.is_empty() { None } else { Some(up[self.net.below(up.len())]) }
    }
}

/// The users that a delivery is for.
fn readers<'a>(node: &'a Node, shard: u16, audience: &'a Audience) -> impl Iterator<Item = &'a UserId> {
    let (sessions, topic) = match audience {
        Audience::Sessions(sessions) => (Some(sessions.iter()), None),
        Audience::Topic { topic, except } => {
            let joined = node.topics.get(topic).into_iter().flatten();
            (None, Some(joined.filter(move |session| session.shard() == shard && Some(**session) != *except)))
        }
    };
    sessions.into_iter().flatten().chain(topic.into_iter().flatten()).filter_map(|session| node.who.get(session))
}

/// The name of a variant, and what it says first.
fn kind(of: &impl std::fmt::Debug) -> String {
    format!("{of:?}").chars().take(60).collect()
}

fn due(conn: &Conn, now: Instant) -> bool {
    conn.next().is_some_and(|next| next <= now)
}
