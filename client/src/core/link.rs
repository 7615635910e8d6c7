//! One connection as the core sees it: its stage, what it was asked, its heartbeat.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roost_wire::{ConvId, FrameBody, Seq, limits, pb};

use super::random::Random;
use super::requests::Ticket;
use super::{Cmid, LinkId};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The transport is being opened.
    Opening,
    /// Open; CONNECT is out, WELCOME is not in.
    Greeting,
    /// WELCOME came.
    Live,
}

/// What a reply with a certain rid answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    Connect,
    Send(Cmid),
    Request(Ticket),
    Sync,
    /// What lies after a seq of a conversation.
    Fetch(ConvId, Seq),
    Watch,
    Subscribe(ConvId),
    /// Where a channel stands; on behalf of the app's SUBSCRIBE, if it was not answered yet.
    Head(ConvId, Option<Ticket>),
}

/// What the heartbeat calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    None,
    Ping,
    /// Nothing was heard in time: half-open, or too slow to be of use.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) stage: Stage,
    /// Another one serves, and stays if this one fails.
    pub(crate) spare: bool,
    /// When opening began; when WELCOME came.
    pub(crate) since: Instant,
    asked: BTreeMap<u64, Asked>,
    rids: u64,
    /// Larger frames are not sent.
    pub(crate) frame_bytes_max: usize,
    commands_max: usize,
    heartbeat: Duration,
    interval: Duration,
    last_sent: Instant,
    last_heard: Instant,
    /// Since when an answer is due.
    awaiting: Option<Instant>,
}

impl Link {
    pub(crate) const fn new(id: LinkId, now: Instant) -> Self {
        let heartbeat = Duration::from_millis(limits::HEARTBEAT_MS as u64);
        Self {
            id,
            stage: Stage::Opening,
            spare: false,
            since: now,
            asked: BTreeMap::new(),
            rids: 0,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            commands_max: limits::COMMANDS_IN_FLIGHT_MAX as usize,
            heartbeat,
            interval: heartbeat,
            last_sent: now,
            last_heard: now,
            awaiting: None,
        }
    }

    /// WELCOME came.
    pub(crate) fn welcomed(&mut self, welcome: &pb::Welcome, random: &mut Random, now: Instant) {
        self.stage = Stage::Live;
        self.since = now;
        if welcome.heartbeat_ms > 0 {
            self.heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms));
        }
        self.interval = random.fifth_off(self.heartbeat);
        if let Some(limits) = &welcome.limits {
            let some = |told: u32, default: usize| if told == 0 { default } else { told as usize };
            self.frame_bytes_max = some(limits.frame_bytes, self.frame_bytes_max);
            self.commands_max = some(limits.commands_in_flight, self.commands_max);
        }
    }

    /// Commands that may still be asked at once. A few places stay free for the client's own (SYNC, HISTORY).
    pub(crate) fn room(&self) -> usize {
        let reserve = (self.commands_max / 4).min(16);
        self.commands_max.saturating_sub(reserve).saturating_sub(self.asked.len())
    }

    /// Notes that `asked` leaves now, and gives it its rid.
    pub(crate) fn ask(&mut self, asked: Asked, now: Instant) -> u64 {
        self.rids += 1;
        self.asked.insert(self.rids, asked);
        self.awaiting.get_or_insert(now);
        self.last_sent = now;
        self.rids
    }

    /// Notes that a frame without an answer leaves now.
    pub(crate) fn told(&mut self, body: &FrameBody, now: Instant) {
        if matches!(body, FrameBody::Ping(_)) {
            self.awaiting.get_or_insert(now);
        }
        self.last_sent = now;
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.awaiting = None;
    }

    /// What `rid` answers.
    pub(crate) fn answers(&mut self, rid: u64) -> Option<Asked> {
        self.asked.remove(&rid)
    }

    /// Everything that has got no answer.
    pub(crate) fn unanswered(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked).into_values().collect()
    }

    /// Goes on waiting for the `wanted` answers only; returns what is given up.
    pub(crate) fn await_only(&mut self, wanted: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let (kept, given_up): (BTreeMap<u64, Asked>, BTreeMap<u64, Asked>) =
            std::mem::take(&mut self.asked).into_iter().partition(|(_, asked)| wanted(asked));
        self.asked = kept;
        given_up.into_values().collect()
    }

    /// True if some answer is still to come.
    pub(crate) fn is_owed(&self) -> bool {
        !self.asked.is_empty()
    }

    /// When [`Link::beat`] has something to say.
    pub(crate) fn deadline(&self, connect_within: Duration, answer_within: Duration) -> Instant {
        if self.stage != Stage::Live {
            return self.since + connect_within;
        }
        let ping = self.last_sent.min(self.last_heard) + self.interval;
        match self.awaiting {
            Some(since) => since + answer_within,
            None => ping,
        }
    }

    pub(crate) fn beat(
        &mut self,
        connect_within: Duration,
        answer_within: Duration,
        random: &mut Random,
        now: Instant,
    ) -> Beat {
        if now < self.deadline(connect_within, answer_within) {
            Beat::None
        } else if self.stage != Stage::Live || self.awaiting.is_some() {
            Beat::Dead
        } else {
            self.interval = random.fifth_off(self.heartbeat);
            Beat::Ping
        }
    }

    /// The driver could not read for a while: silence until now proves nothing.
    pub(crate) fn forgive(&mut self, now: Instant) {
        self.last_heard = now;
        if self.awaiting.is_some() {
            self.awaiting = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Duration = Duration::from_secs(10);
    const ANSWER: Duration = Duration::from_secs(5);

    fn live(now: Instant, random: &mut Random) -> Link {
        let mut link = Link::new(LinkId(1), now);
        link.welcomed(&pb::Welcome { heartbeat_ms: 20_000, ..pb::Welcome::default() }, random, now);
        link
    }

    #[test]
    fn f38_a_quiet_link_pings_within_its_heartbeat_and_a_silent_one_is_dead() {
        let (start, mut random) = (Instant::now(), Random::new(3));
        let mut link = live(start, &mut random);
        let due = link.deadline(CONNECT, ANSWER);
        assert!(due >= start + Duration::from_secs(16) && due <= start + Duration::from_secs(20));
        assert_eq!(link.beat(CONNECT, ANSWER, &mut random, start), Beat::None);
        assert_eq!(link.beat(CONNECT, ANSWER, &mut random, due), Beat::Ping);
        link.told(&FrameBody::Ping(pb::Ping {}), due);
        assert_eq!(link.deadline(CONNECT, ANSWER), due + ANSWER);
        assert_eq!(link.beat(CONNECT, ANSWER, &mut random, due + ANSWER), Beat::Dead);
        link.heard(due + ANSWER);
        assert_eq!(link.beat(CONNECT, ANSWER, &mut random, due + ANSWER), Beat::None);
    }

    #[test]
    fn f38_a_command_without_an_answer_makes_the_link_dead() {
        let (start, mut random) = (Instant::now(), Random::new(3));
        let mut link = live(start, &mut random);
        let rid = link.ask(Asked::Sync, start);
        assert_eq!(link.beat(CONNECT, ANSWER, &mut random, start + ANSWER), Beat::Dead);
        link.heard(start + ANSWER);
        assert_eq!(link.answers(rid), Some(Asked::Sync));
        assert_eq!(link.answers(rid), None, "answered once");
    }

    #[test]
    fn a_link_that_is_not_welcomed_in_time_is_dead() {
        let (start, mut random) = (Instant::now(), Random::new(3));
        let mut link = Link::new(LinkId(1), start);
        assert_eq!(link.beat(CONNECT, ANSWER, &mut random, start + CONNECT), Beat::Dead);
    }
}
