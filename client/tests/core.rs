//! Tables for the core: what it does with GOAWAY, refusals of CONNECT, refused requests and channels.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use roost_client::core::{Config, Core, Effect, Event, Gone, Identity, LinkId, Resume, Ticket};
use roost_client::url::Url;
use roost_client::{EndReason, RequestError};
use roost_wire::{ConvId, Encoding, ErrorCode, FrameBody, pb};

/// A core and the effects it had.
struct Run {
    core: Core,
    now: Instant,
    opened: Vec<(LinkId, String)>,
    frames: Vec<(LinkId, pb::Frame)>,
    shut: Vec<LinkId>,
    events: Vec<Event>,
    answers: Vec<Result<FrameBody, RequestError>>,
}

impl Run {
    fn new() -> Self {
        let url = Url::parse("ws://base").expect("an address");
        let identity = Identity { token: Some("t".into()), guest: None, device: "d".into() };
        let core = Core::new(Config::default(), Encoding::Protobuf, url, identity, Resume::default(), Vec::new(), 1);
        let mut run = Self {
            core,
            now: Instant::now(),
            opened: Vec::new(),
            frames: Vec::new(),
            shut: Vec::new(),
            events: Vec::new(),
            answers: Vec::new(),
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
                Effect::Answer { result, .. } => self.answers.push(result),
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
        ("an address of no use", 100, 30_000, vec!["wss://other"], 100, "ws://base/ws"),
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

#[test]
fn f10_a_channel_is_followed_from_the_subscription_on_and_over_a_cut() {
    let mut run = Run::live();
    let news = ConvId::channel("news").expect("a name");
    let entry = |seq| pb::Entry { conv: "news".into(), seq, from: "u_bob".into(), ..pb::Entry::default() };
    let page = |seqs: &[u64], head| {
        let entries = seqs.iter().map(|seq| entry(*seq)).collect();
        FrameBody::Page(pb::Page { conv: "news".into(), entries, head })
    };
    run.core.request(Ticket(1), FrameBody::Subscribe(pb::Subscribe { channel: news.to_string() }), run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.reply("history", page(&[1], 7));
    run.say(LinkId(1), 0, FrameBody::Entry(entry(8)));
    run.core.closed(LinkId(1), &Gone::Failed("cut".into()), run.now);
    run.drain();
    run.advance(Duration::from_secs(1));
    run.welcome(LinkId(2));
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.reply("history", page(&[9, 10], 10));
    run.say(LinkId(2), 0, FrameBody::Entry(entry(10)));
    run.say(LinkId(2), 0, FrameBody::Entry(entry(11)));
    let seqs =
        run.events.iter().filter_map(|event| if let Event::Entry(entry) = event { Some(entry.seq) } else { None });
    assert_eq!(seqs.collect::<Vec<_>>(), [8, 9, 10, 11]);
}
