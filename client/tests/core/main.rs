//! Tables for the core: what it does with GOAWAY, refusals of CONNECT, refused requests and channels.

mod channels;
mod moving;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use roost_client::core::{Config, Core, Effect, Event, Gone, Identity, LinkId, Resume, Ticket};
use roost_client::url::Url;
use roost_client::{EndReason, RequestError};
use roost_wire::{Encoding, ErrorCode, FrameBody, pb};

/// A core and the effects it had.
struct Run {
    core: Core,
    now: Instant,
    opened: Vec<(LinkId, String)>,
    frames: Vec<(LinkId, pb::Frame)>,
    shut: Vec<LinkId>,
    events: Vec<Event>,
    answers: Vec<Result<FrameBody, RequestError>>,
    /// What `answers` answer.
    tickets: Vec<Ticket>,
}

impl Run {
    fn new() -> Self {
        Self::from(Resume::default())
    }

    fn from(resume: Resume) -> Self {
        Self::at("ws://base", resume)
    }

    /// With a server of this address.
    fn at(url: &str, resume: Resume) -> Self {
        let url = Url::parse(url).expect("an address");
        let identity = Identity { token: Some("t".into()), guest: None, device: "d".into() };
        let core = Core::new(Config::default(), Encoding::Protobuf, url, identity, resume, Vec::new(), 1);
        let mut run = Self {
            core,
            now: Instant::now(),
            opened: Vec::new(),
            frames: Vec::new(),
            shut: Vec::new(),
            events: Vec::new(),
            answers: Vec::new(),
            tickets: Vec::new(),
        };
        run.core.start(run.now);
        run.drain();
        run
    }

    /// Connected and synced.
    fn live() -> Self {
        let mut run = Self::new();
        run.welcome(LinkId(1));
        run.reply("sync", FrameBody::Changed(pb::Changed { sync: "s".into(), ..pb::Changed::default() }));
        run
    }

    fn welcome(&mut self, link: LinkId) {
        self.core.opened(link, self.now);
        self.drain();
        let welcome = pb::Welcome { user: "u_ada".into(), heartbeat_ms: 25_000, ..pb::Welcome::default() };
        self.reply("connect", FrameBody::Welcome(welcome));
    }

    fn say(&mut self, link: LinkId, rid: u64, body: FrameBody) {
        let mut payload = BytesMut::new();
        Encoding::Protobuf.encode(&pb::Frame { rid, body: Some(body) }, &mut payload);
        self.core.message(link, &payload, self.now);
        self.drain();
    }

    /// Answers the last command of this name.
    fn reply(&mut self, command: &str, body: FrameBody) {
        let named = |(_, frame): &&(LinkId, pb::Frame)| frame.body.as_ref().is_some_and(|body| body.name() == command);
        let (link, frame) = self.frames.iter().rev().find(named).expect("it was sent").clone();
        self.say(link, frame.rid, body);
    }

    fn sent(&self, command: &str) -> usize {
        self.frames.iter().filter(|(_, frame)| frame.body.as_ref().is_some_and(|body| body.name() == command)).count()
    }

    /// The seqs of the entries that the app was shown.
    fn seqs(&self) -> Vec<u64> {
        let seq = |event: &Event| if let Event::Entry(entry) = event { Some(entry.seq) } else { None };
        self.events.iter().filter_map(seq).collect()
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.core.timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Open { link, url } => self.opened.push((link, url.to_string())),
                Effect::Transmit { link, payload } => {
                    let frame = Encoding::Protobuf.decode(&mut &payload[..]).expect("a frame").expect("one frame");
                    self.frames.push((link, frame));
                }
                Effect::Shut { link, .. } => self.shut.push(link),
                Effect::Event(event) => self.events.push(event),
                Effect::Answer { ticket, result } => {
                    self.tickets.push(ticket);
                    self.answers.push(result);
                }
                Effect::Sent { .. } => {}
            }
        }
    }
}

#[test]
fn f38_goaway_is_obeyed_at_its_slot_and_address() {
    for (name, slot_ms, deadline_ms, urls, after_ms, want) in [
        ("at the slot, same address", 4000, 30_000, vec![], 4000, "ws://base/ws"),
        ("never after the deadline", 40_000, 3000, vec![], 3000, "ws://base/ws"),
        ("elsewhere", 100, 30_000, vec!["http://other:81"], 100, "ws://other:81/ws"),
        ("with TLS from now on", 100, 30_000, vec!["https://other"], 100, "wss://other/ws"),
        ("an address of no use", 100, 30_000, vec!["mailto:other"], 100, "ws://base/ws"),
    ] {
        let mut run = Run::live();
        let urls = urls.into_iter().map(str::to_owned).collect();
        run.say(LinkId(1), 0, FrameBody::Goaway(pb::Goaway { reason: "drain".into(), deadline_ms, slot_ms, urls }));
        run.advance(Duration::from_millis(after_ms - 1));
        assert_eq!(run.opened.len(), 1, "{name}: not before");
        run.advance(Duration::from_millis(1));
        assert_eq!(run.opened.last(), Some(&(LinkId(2), want.to_owned())), "{name}");
        run.welcome(LinkId(2));
        assert!(run.shut.is_empty(), "{name}: first SYNC, then close");
        run.reply("sync", FrameBody::Changed(pb::Changed { sync: "s2".into(), ..pb::Changed::default() }));
        assert_eq!(run.shut, [LinkId(1)], "{name}");
        let connected = |event: &&Event| matches!(event, Event::Connected { .. } | Event::Disconnected { .. });
        assert_eq!(run.events.iter().filter(connected).count(), 1, "{name}: the app notices nothing");
    }
}

#[test]
fn who_came_by_tls_is_not_sent_on_without_it() {
    let mut run = Run::at("wss://base", Resume::default());
    run.welcome(LinkId(1));
    run.reply("sync", FrameBody::Changed(pb::Changed { sync: "s".into(), ..pb::Changed::default() }));
    let urls = ["ws://other", "http://another", "https://third"].map(str::to_owned).to_vec();
    run.say(LinkId(1), 0, FrameBody::Goaway(pb::Goaway { reason: "drain".into(), urls, ..pb::Goaway::default() }));
    run.advance(Duration::from_millis(1));
    assert_eq!(run.opened.last(), Some(&(LinkId(2), "wss://third/ws".to_owned())));
}

#[test]
fn f38_a_refused_connect_ends_the_client_or_is_tried_again() {
    for (code, ends) in [
        (ErrorCode::BadToken, true),
        (ErrorCode::TokenExpired, true),
        (ErrorCode::GuestsOff, true),
        (ErrorCode::Overloaded, false),
        (ErrorCode::Unavailable, false),
    ] {
        let mut run = Run::new();
        run.core.opened(LinkId(1), run.now);
        run.drain();
        let error = pb::Error { retry_after_ms: if ends { 0 } else { 5000 }, ..code.error() };
        run.reply("connect", FrameBody::Error(error.clone()));
        assert_eq!(run.shut, [LinkId(1)], "{code:?}");
        assert_eq!(run.core.is_ended(), ends, "{code:?}");
        let told = run.events.contains(&Event::Ended(EndReason::Refused(error)));
        assert_eq!(told, ends, "{code:?}");
        run.advance(Duration::from_millis(4999));
        assert_eq!(run.opened.len(), 1, "{code:?}: the server's wait is kept");
        run.advance(Duration::from_secs(2));
        assert_eq!(run.opened.len(), if ends { 1 } else { 2 }, "{code:?}");
    }
}

#[test]
fn f38_statuses_of_the_upgrade_end_the_client_or_are_tried_again() {
    for (status, ends) in [(401, true), (403, true), (404, false), (502, false), (503, false)] {
        let mut run = Run::new();
        run.core.closed(LinkId(1), &Gone::Status { status, retry_after: None }, run.now);
        run.drain();
        assert_eq!(run.core.is_ended(), ends, "{status}");
        run.advance(Duration::from_secs(1));
        assert_eq!(run.opened.len(), if ends { 1 } else { 2 }, "{status}");
    }
}

#[test]
fn f38_a_connection_that_flaps_is_tried_less_and_less_often() {
    let mut run = Run::new();
    let mut longest = Duration::ZERO;
    for number in 1..=12 {
        run.welcome(LinkId(number));
        let lost = run.now;
        run.core.closed(LinkId(number), &Gone::Failed("cut".into()), run.now);
        run.drain();
        while run.opened.len() as u64 == number {
            run.advance(Duration::from_millis(100));
        }
        longest = longest.max(run.now - lost);
    }
    assert!(longest > Duration::from_secs(5), "{longest:?}: a WELCOME alone is no success");
    assert!(longest <= Duration::from_secs(61), "{longest:?}");
}

#[test]
fn f38_a_device_replaced_by_a_lost_connection_of_its_own_comes_back() {
    const REPLACED: u16 = 4503;
    let closed = |code| Gone::Closed { code: Some(code), reason: "replaced".into() };
    let goaway = || FrameBody::Goaway(pb::Goaway { reason: "drain".into(), ..pb::Goaway::default() });
    for (name, connect_is_out, after_s, ends) in [
        ("CONNECT went out and was lost", true, 1, false),
        ("CONNECT never went out", false, 1, true),
        ("that was long ago", true, 61, true),
    ] {
        let mut run = Run::live();
        run.say(LinkId(1), 0, goaway());
        run.advance(Duration::ZERO);
        if connect_is_out {
            run.core.opened(LinkId(2), run.now);
        }
        run.core.closed(LinkId(2), &Gone::Failed("cut".into()), run.now);
        run.drain();
        run.now += Duration::from_secs(after_s);
        run.core.closed(LinkId(1), &closed(REPLACED), run.now);
        run.drain();
        assert_eq!(run.core.is_ended(), ends, "{name}");
        if ends {
            continue;
        }
        run.advance(Duration::from_secs(5));
        let next = run.opened.last().expect("it comes back").0;
        assert!(next > LinkId(2), "{name}");
        run.welcome(next);
        run.core.closed(next, &closed(REPLACED), run.now);
        run.drain();
        assert!(run.core.is_ended(), "{name}: the second time it is another app");
    }
}

#[test]
fn f38_a_connect_overtaken_by_a_lost_one_is_tried_again() {
    let mut run = Run::new();
    run.core.opened(LinkId(1), run.now);
    run.core.closed(LinkId(1), &Gone::Failed("cut".into()), run.now);
    run.drain();
    for (link, ends) in [(LinkId(2), false), (LinkId(3), true)] {
        run.advance(Duration::from_secs(5));
        assert_eq!(run.opened.last().map(|(link, _)| *link), Some(link));
        run.core.opened(link, run.now);
        run.core.closed(link, &Gone::Closed { code: Some(4503), reason: "replaced".into() }, run.now);
        run.drain();
        assert_eq!(run.core.is_ended(), ends, "{link:?}");
    }
}

#[test]
fn f38_what_an_earlier_life_had_sent_replaces_a_client_that_goes_on_once_and_does_not_end_it() {
    let resume = || Resume { token: "t".into(), device: "d".into(), ..Resume::default() };
    for (name, resume, after_s, ends) in [
        ("goes on", resume(), 1, false),
        ("goes on for long", resume(), 61, true),
        ("begins", Resume::default(), 1, true),
    ] {
        let mut run = Run::from(resume);
        run.welcome(LinkId(1));
        run.now += Duration::from_secs(after_s);
        let replaced = Gone::Closed { code: Some(4503), reason: "replaced".into() };
        run.core.closed(LinkId(1), &replaced, run.now);
        run.drain();
        assert_eq!(run.core.is_ended(), ends, "{name}");
        if ends {
            continue;
        }
        run.advance(Duration::from_secs(5));
        run.welcome(LinkId(2));
        run.core.closed(LinkId(2), &replaced, run.now);
        run.drain();
        assert!(run.core.is_ended(), "{name}: the second time it is another app");
    }
}

#[test]
fn a_request_refused_for_a_passing_reason_is_repeated_in_its_time() {
    let mut run = Run::live();
    let get = || FrameBody::Get(pb::Get { conv: "c_1".into() });
    run.core.request(Ticket(1), get(), run.now);
    run.drain();
    let busy = pb::Error { retry_after_ms: 2000, ..ErrorCode::Overloaded.error() };
    run.reply("get", FrameBody::Error(busy.clone()));
    run.advance(Duration::from_secs(3));
    assert_eq!((run.sent("get"), run.answers.len()), (2, 0));
    run.reply("get", FrameBody::Conversation(pb::Conversation { conv: "c_1".into(), ..pb::Conversation::default() }));
    assert!(matches!(run.answers.as_slice(), [Ok(FrameBody::Conversation(_))]));
    run.core.request(Ticket(2), get(), run.now);
    run.drain();
    run.reply("get", FrameBody::Error(pb::Error { retry_after_ms: 60_000, ..busy.clone() }));
    let refused = pb::Error { retry_after_ms: 60_000, ..busy };
    assert_eq!(run.answers.last(), Some(&Err(RequestError::Refused(refused))), "that would be too late");
}

fn entry(seq: u64) -> FrameBody {
    FrameBody::Entry(pb::Entry { conv: "c_1".into(), seq, ..pb::Entry::default() })
}

fn changed(sync: &str, rows: &[pb::Row]) -> FrameBody {
    FrameBody::Changed(pb::Changed { rows: rows.to_vec(), sync: sync.into(), more: false })
}

#[test]
fn f23_entries_that_come_after_their_user_has_left_are_not_shown() {
    let mut run = Run::live();
    let row = pb::Row { conv: "c_1".into(), head: 4, delivered: 2, ..pb::Row::default() };
    let left = pb::Row { conv: "c_1".into(), left: true, ..pb::Row::default() };
    run.say(LinkId(1), 0, changed("", std::slice::from_ref(&row)));
    run.say(LinkId(1), 0, entry(3));
    run.say(LinkId(1), 0, entry(4));
    run.say(LinkId(1), 0, changed("", std::slice::from_ref(&left)));
    let mut asked = run.sent("sync");
    run.reply("sync", changed("s1", &[left]));
    // Whatever else it asks, nothing more has changed.
    while run.sent("sync") > asked {
        asked = run.sent("sync");
        run.reply("sync", changed("s1", &[]));
    }
    // A push of another node, which was late.
    run.say(LinkId(1), 0, entry(3));
    assert_eq!(run.sent("sync"), asked + 1, "the user may be in again");
    run.say(LinkId(1), 0, entry(4));
    run.reply("sync", changed("s2", &[]));
    assert_eq!((run.sent("sync"), run.seqs()), (asked + 1, vec![3, 4]), "shown once");
    // In again, and a push is faster than the row.
    run.say(LinkId(1), 0, entry(5));
    assert_eq!(run.sent("sync"), asked + 2);
    run.reply("sync", changed("s3", &[pb::Row { head: 5, delivered: 4, ..row }]));
    assert_eq!(run.seqs(), [3, 4, 5]);
}

#[test]
fn f23_a_leave_that_is_told_late_does_not_end_what_was_joined_since() {
    let mut run = Run::live();
    let row = pb::Row { conv: "c_1".into(), head: 4, delivered: 4, ..pb::Row::default() };
    let left = pb::Row { conv: "c_1".into(), left: true, ..pb::Row::default() };
    run.say(LinkId(1), 0, changed("", std::slice::from_ref(&row)));
    let asked = run.sent("sync");
    run.say(LinkId(1), 0, changed("", std::slice::from_ref(&left)));
    assert_eq!(run.sent("sync"), asked + 1, "SYNC has the word");
    run.reply("sync", changed("s1", &[]));
    run.say(LinkId(1), 0, entry(5));
    assert_eq!(run.seqs(), [5], "a push that was late");
    // A SYNC whose answer was read before the join.
    run.say(LinkId(1), 0, FrameBody::Changed(pb::Changed { more: true, ..pb::Changed::default() }));
    run.reply("sync", changed("s2", &[left]));
    assert_eq!(run.sent("sync"), asked + 3, "what came after it is asked for");
    run.reply("sync", changed("s3", &[pb::Row { head: 6, delivered: 5, ..row }]));
    run.say(LinkId(1), 0, entry(6));
    assert_eq!(run.seqs(), [5, 6]);
}
