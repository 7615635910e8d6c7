//! The end: nothing goes wrong any more, everybody catches up, and everything is compared.

use std::time::Duration;

use roost_client::core;
use roost_storage::{Range, Store};
use roost_wire::pb::Kind;

use super::acts::SETTLE_WITHIN;
use super::{Room, Turn, World};
use crate::model::About;

/// How often it is looked whether everybody has everything.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long last words may take to be stored.
const LAST_WORDS_AFTER: Duration = Duration::from_secs(40);

impl World {
    pub(super) async fn finish(&mut self) {
        self.calm_down();
        let (began, mut spoken) = (self.now(), false);
        loop {
            let look = self.now() + LOOK_EVERY;
            while self.now() < look {
                self.step(Some(look)).await;
                if self.model.has_violations() {
                    return;
                }
            }
            if !spoken && self.now() >= began + LAST_WORDS_AFTER {
                spoken = true;
                self.speak_last();
            }
            if spoken && self.everybody_has_all() {
                break;
            }
            if self.now() >= began + SETTLE_WITHIN {
                return self.not_settled();
            }
        }
        self.model.compare();
        self.compare_store().await;
    }

    /// What is under way goes wrong no more, and everything comes back.
    fn calm_down(&mut self) {
        self.note(&About::all(), format_args!("nothing goes wrong any more"));
        self.setup.faults.clear();
        self.turns.retain(|_, turn| matches!(turn, Turn::Beat { .. }));
        self.fate.calm_down();
        self.store.calm_down();
        self.bus.calm_down();
        self.air.calm_down();
        self.clients.iter_mut().for_each(|client| client.udp_blocked = false);
        for node in 0..self.nodes.len() {
            // A node that drains would send everybody away for ever.
            if self.nodes[node].as_ref().is_some_and(|node| node.draining) {
                self.kill_node(node, Duration::ZERO, [Duration::ZERO; 2]);
            }
            self.start_node(node);
        }
        (0..self.clients.len()).for_each(|client| self.start_client(client));
        self.settle();
    }

    /// Where only the next entry shows that one was missed, there comes one: nobody tells the head of a channel, and
    /// nobody tells of what a node wrote that had died when it became durable.
    fn speak_last(&mut self) {
        for room in self.rooms.clone() {
            let channel = room.kind == Kind::Channel;
            let speaks = |client: &usize| channel || self.model.is_member(*client, &room.conv);
            let speaker = (0..self.clients.len()).find(speaks);
            if let Some(speaker) = speaker.filter(|_| channel || self.late.contains(&room.conv)) {
                self.send(speaker, &room);
            }
        }
        self.settle();
    }

    fn everybody_has_all(&self) -> bool {
        self.clients.iter().all(|client| client.disk.outbox.is_empty())
            && self.asked.is_empty()
            && self.model.missing().next().is_none()
    }

    fn not_settled(&mut self) {
        let outboxes: Vec<_> =
            self.clients.iter().filter_map(|client| client.core.as_ref()).map(core::Core::outbox_len).collect();
        let missing: Vec<_> = self.model.missing().collect();
        let about = match (missing.first(), self.clients.iter().position(|client| !client.disk.outbox.is_empty())) {
            (Some((client, conv, _)), _) => About::both(*client, conv.as_str()),
            (None, Some(client)) => About::client(client),
            _ => About::all(),
        };
        let asked = self.asked.len();
        let text = format!(
            "not settled after {SETTLE_WITHIN:?}: outboxes hold {outboxes:?}, {asked} questions wait, shown so far \
             (client, conversation, last): {missing:?}"
        );
        self.model.violated(&about, text);
    }

    /// The store has what the model has seen, and nothing else.
    async fn compare_store(&mut self) {
        let rooms: Vec<Room> = self.rooms.clone();
        for Room { conv, .. } in rooms {
            let log = self.store.durable().range(&conv, Range::After(0), usize::MAX).await;
            let log = log.expect("the model of the store does not fail");
            let known = |seq| self.model.conv(&conv).and_then(|conv| conv.entry(seq));
            let head = self.model.conv(&conv).map_or(0, crate::model::Conv::head);
            let strange = log.iter().find(|entry| known(entry.seq) != Some(*entry)).cloned();
            if strange.is_some() || log.len() as u64 != head {
                let text = format!("{conv} has {} entries, {head} were seen; strange: {strange:?}", log.len());
                self.model.violated(&About::conv(&conv), text);
            }
        }
    }
}
