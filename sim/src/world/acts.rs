//! What people do: write, come and go, look.

use std::time::Duration;

use roost_client::Record;
use roost_wire::pb::{self, Kind, Role};
use roost_wire::{ConvId, FrameBody, UserId};

use super::{Room, Turn, World};
use crate::model::About;
use crate::node::BEGAN_UNIX_MS;

impl World {
    pub(super) fn act_and_go_on(&mut self) {
        if self.acts_left == 0 {
            return;
        }
        self.acts_left -= 1;
        self.act();
        // At least 1 ms: cmids of one client then rise with time.
        let after = self.work.ms(1, 500);
        self.later(after, Turn::Act);
    }

    fn act(&mut self) {
        let number = self.work.below(self.clients.len());
        match self.work.below(100) {
            0..=59 => self.say(number),
            60..=71 => self.change_members(number),
            72..=76 => self.come_or_go(number),
            77..=84 => self.type_something(number),
            85..=89 => self.follow(number),
            90..=93 => self.watch(number),
            94..=96 => self.look(number),
            _ => self.rename(number),
        }
    }

    /// A conversation for `number` to do something in: mostly one of his own.
    fn room_of(&mut self, number: usize, kind: impl Fn(Kind) -> bool) -> Option<Room> {
        let outsider = self.work.chance(4);
        let fits = |room: &&Room| {
            kind(room.kind) && (outsider || room.kind == Kind::Channel || self.model.is_member(number, &room.conv))
        };
        let rooms: Vec<Room> = self.rooms.iter().filter(fits).cloned().collect();
        if rooms.is_empty() { None } else { Some(rooms[self.work.below(rooms.len())].clone()) }
    }

    fn say(&mut self, number: usize) {
        let burst = if self.work.chance(15) { 6 } else { 1 };
        let Some(room) = self.room_of(number, |_| true) else { return };
        for _ in 0..burst {
            self.send(number, &room);
        }
    }

    pub(super) fn send(&mut self, number: usize, room: &Room) {
        self.said += 1;
        // Messages of a burst are a millisecond apart on the sender's clock, so that their cmids rise.
        let now_ms = BEGAN_UNIX_MS + self.model.now_ms + self.said;
        // Now and then as long as makes a page of a few entries long.
        let more = if self.work.chance(10) { self.work.below(500) } else { self.work.below(12) };
        let text = format!("message {} of client {number}{}", self.said, " and more".repeat(more));
        let now = self.now();
        let client = &mut self.clients[number];
        let cmid = client.cmid(now_ms);
        let Some(core) = &mut client.core else { return };
        if core.check_send(text.len()).is_err() {
            return;
        }
        let seen = core.seen(&room.conv);
        let publish = room.kind == Kind::Channel;
        let record = Record { cmid, conv: room.conv.clone(), text: text.clone(), publish, seen };
        client.disk.outbox.insert(cmid, record.clone());
        core.send(record, now);
        self.model.handed(number, cmid.to_string(), &room.conv, &text);
        let about = About::both(number, room.conv.as_str());
        self.note(&about, format_args!("{number} sends to {}: {cmid}, has seen {seen:?}", room.conv));
    }

    fn someone(&mut self) -> Option<UserId> {
        let other = self.work.below(self.clients.len());
        self.model.user(other).cloned()
    }

    /// Adds, removes, gives roles; rarely without being allowed to.
    fn change_members(&mut self, number: usize) {
        let (Some(room), Some(other)) = (self.room_of(number, |kind| kind == Kind::Group), self.someone()) else {
            return;
        };
        let conv = room.conv.to_string();
        let other = other.to_string();
        let mut members = pb::Members { conv: conv.clone(), ..pb::Members::default() };
        let act = match self.work.below(10) {
            0..=4 => {
                members.add.push(other);
                "add"
            }
            5..=7 => {
                members.remove.push(other);
                "remove"
            }
            _ => {
                let role = [Role::Admin, Role::Member, Role::Owner][self.work.below(3)];
                members.roles.push(pb::Member { user: other, role: role.into(), ..pb::Member::default() });
                "give a role"
            }
        };
        self.note(&About::both(number, &conv), format_args!("{number} wants to {act} in {conv}"));
        self.ask(number, FrameBody::Members(members));
    }

    /// Leaves a group, or joins the open one.
    fn come_or_go(&mut self, number: usize) {
        let rooms: Vec<ConvId> =
            self.rooms.iter().filter(|room| room.kind == Kind::Group).map(|room| room.conv.clone()).collect();
        let conv = rooms[self.work.below(rooms.len())].clone();
        let inside = self.model.is_member(number, &conv);
        let text = conv.to_string();
        self.note(&About::both(number, &text), format_args!("{number} comes to or leaves {text}, inside: {inside}"));
        self.ask(
            number,
            match inside {
                true => FrameBody::Leave(pb::Leave { conv: text }),
                false => FrameBody::Join(pb::Join { conv: text }),
            },
        );
    }

    fn type_something(&mut self, number: usize) {
        let on = self.work.chance(70);
        let now = self.now();
        let Some(room) = self.room_of(number, |kind| kind != Kind::Channel) else { return };
        if let Some(core) = &mut self.clients[number].core {
            core.typing(&room.conv, on, now);
        }
    }

    /// Subscribes to a channel, or ends that.
    fn follow(&mut self, number: usize) {
        let Some(room) = self.room_of(number, |kind| kind == Kind::Channel) else { return };
        let channel = room.conv.to_string();
        let subscribed = self.model.is_subscribed(number, &room.conv);
        if subscribed && self.work.chance(30) {
            // From the moment it is asked for it may take effect.
            self.model.subscribed(number, &room.conv, false);
            self.ask(number, FrameBody::Unsubscribe(pb::Unsubscribe { channel }));
        } else if !subscribed {
            self.model.subscribing(number, &room.conv);
            self.ask(number, FrameBody::Subscribe(pb::Subscribe { channel }));
        }
    }

    fn watch(&mut self, number: usize) {
        let Some(other) = self.someone() else { return };
        let users = vec![other.to_string()];
        let body = match self.work.chance(80) {
            true => FrameBody::Watch(pb::Watch { users }),
            false => FrameBody::Unwatch(pb::Unwatch { users }),
        };
        self.ask(number, body);
    }

    /// Looks at a conversation, or a page of it.
    fn look(&mut self, number: usize) {
        let Some(room) = self.room_of(number, |_| true) else { return };
        let conv = room.conv.to_string();
        let body = match self.work.chance(50) {
            true => FrameBody::Get(pb::Get { conv }),
            false => {
                let limit = if self.work.chance(50) { 5 } else { 80 };
                FrameBody::History(pb::History { conv, limit, ..pb::History::default() })
            }
        };
        self.ask(number, body);
    }

    fn rename(&mut self, number: usize) {
        let Some(room) = self.room_of(number, |kind| kind == Kind::Group) else { return };
        let name = Some(format!("Birds {}", self.said));
        // The second group stays open, so that one can come back to it.
        let update = pb::Update { conv: room.conv.to_string(), name, open: None };
        self.ask(number, FrameBody::Update(update));
    }
}

/// How long people may take to be where the log is, once nothing goes wrong any more, in virtual time.
pub(super) const SETTLE_WITHIN: Duration = Duration::from_secs(600);
