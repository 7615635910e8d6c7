//! What happens at moments of its own: messages, faults, and what comes back after them.

use roost_client::Record;
use roost_storage::StoreError;
use roost_storage::testkit::{Effect as StoreFault, Op};

use super::{Turn, World};
use crate::node::Node;

impl World {
    pub(super) fn take_turn(&mut self, turn: Turn) {
        match turn {
            Turn::Send if self.sends_left > 0 => {
                self.sends_left -= 1;
                self.send();
                let after = self.work.ms(0, 120);
                self.later(after, Turn::Send);
            }
            Turn::Fault if self.faults_left > 0 => {
                self.faults_left -= 1;
                self.model.faults += 1;
                self.fault();
                let after = self.fate.ms(10, 3000);
                self.later(after, Turn::Fault);
            }
            Turn::Send | Turn::Fault => {}
            Turn::StartNode => self.start_node(),
            Turn::StartPerson(number) => {
                self.note(&format!("{number} starts again"));
                let now = self.now();
                self.people[number].start(now);
            }
        }
    }

    fn send(&mut self) {
        let room = &self.rooms[self.work.below(self.rooms.len())];
        let number = room.members[self.work.below(room.members.len())];
        let (conv, now) = (room.conv.clone(), self.now());
        let person = &mut self.people[number];
        let cmid = person.cmid(self.began.elapsed().as_millis() as u64);
        let Some(core) = &mut person.core else { return };
        let text = format!("message {} of {}", self.plan.sends - self.sends_left, person.name);
        let record = Record { cmid, conv, text, publish: false, seen: core.seen(&room.conv) };
        person.disk.outbox.insert(cmid, record.clone());
        core.send(record, now);
    }

    fn fault(&mut self) {
        let now = self.now();
        match self.fate.below(10) {
            0 => self.kill_node(),
            1 => {
                let number = self.fate.below(self.people.len());
                self.kill_person(number);
            }
            2..=4 => {
                let op = [Op::Append, Op::Append, Op::Mark, Op::Range, Op::Index][self.fate.below(5)];
                let fault = match self.fate.below(4) {
                    0 => StoreFault::Hang,
                    1 => StoreFault::LoseAnswer(StoreError::Unknown("simulated".into())),
                    _ => StoreFault::Refuse(StoreError::Unavailable("simulated".into())),
                };
                self.note(&format!("the store's next {op:?} fails: {fault:?}"));
                self.store.inject(op, 1, fault);
            }
            kind => {
                let ids: Vec<u64> = self.conns.keys().copied().collect();
                if ids.is_empty() {
                    return;
                }
                let id = ids[self.fate.below(ids.len())];
                let Some(conn) = self.conns.get_mut(&id) else { return };
                let number = conn.person;
                if kind < 8 {
                    conn.up.cut(now, &mut self.net);
                    conn.down.cut(now, &mut self.net);
                    self.note(&format!("the connection of {number} is cut"));
                } else {
                    conn.up.go_silent();
                    conn.down.go_silent();
                    self.note(&format!("the connection of {number} goes silent"));
                }
            }
        }
    }

    pub(super) fn start_node(&mut self) {
        self.note("the node starts");
        self.lives += 1;
        self.node = Some(Node::start(self.plan.seed, self.lives, &self.store, self.began));
    }

    fn kill_node(&mut self) {
        if self.node.take().is_none() {
            return;
        }
        self.note("the node is killed");
        let now = self.now();
        for conn in self.conns.values_mut() {
            conn.session = None;
            conn.down.cut(now, &mut self.net);
        }
        let after = self.fate.ms(0, 5000);
        self.later(after, Turn::StartNode);
    }

    fn kill_person(&mut self, number: usize) {
        if self.people[number].core.is_none() {
            return;
        }
        self.note(&format!("the app of {number} is killed"));
        for id in self.people[number].kill() {
            self.let_go(id);
        }
        let after = self.fate.ms(0, 8000);
        self.later(after, Turn::StartPerson(number));
    }
}
