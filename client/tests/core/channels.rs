//! Channels: where one begins, what follows a cut, what is answered when.

use std::time::Duration;

use roost_client::RequestError;
use roost_client::core::{Gone, LinkId, Ticket};
use roost_wire::{ConvId, ErrorCode, FrameBody, pb};

use crate::Run;

fn entry(seq: u64) -> pb::Entry {
    pb::Entry { conv: "news".into(), seq, from: "u_bob".into(), ..pb::Entry::default() }
}

#[test]
fn f10_a_channel_is_followed_from_the_subscription_on_and_over_a_cut() {
    let mut run = Run::live();
    let news = ConvId::channel("news").expect("a name");
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
    assert_eq!(run.seqs(), [8, 9, 10, 11]);
}

#[test]
fn f10_a_subscription_is_answered_when_its_beginning_is_known_and_read_again_when_pushes_were_lost() {
    let mut run = Run::live();
    let page = |head| FrameBody::Page(pb::Page { conv: "news".into(), entries: Vec::new(), head });
    run.core.request(Ticket(1), FrameBody::Subscribe(pb::Subscribe { channel: "news".into() }), run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    assert!(run.answers.is_empty(), "a cut would lose where it begins");
    run.reply("history", page(7));
    assert_eq!((run.answers.len(), run.sent("history")), (1, 1));
    run.say(LinkId(1), 0, FrameBody::Entry(pb::Entry { conv: "news".into(), seq: 8, ..pb::Entry::default() }));
    run.say(LinkId(1), 0, FrameBody::Changed(pb::Changed { more: true, ..pb::Changed::default() }));
    assert_eq!((run.seqs(), run.sent("history")), (vec![8], 2));
}

#[test]
fn f10_a_subscription_whose_beginning_cannot_be_read_now_is_asked_for_once_more() {
    let mut run = Run::live();
    let page = |head| FrameBody::Page(pb::Page { conv: "news".into(), entries: Vec::new(), head });
    let busy = || FrameBody::Error(ErrorCode::Unavailable.error());
    run.core.request(Ticket(1), FrameBody::Subscribe(pb::Subscribe { channel: "news".into() }), run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.reply("history", busy());
    assert!(run.answers.is_empty(), "it would count on what comes, and a cut would lose it");
    run.advance(Duration::from_secs(2));
    assert_eq!(run.sent("subscribe"), 2);
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.reply("history", page(7));
    assert_eq!((run.answers.len(), run.sent("history")), (1, 2));
    // Published while nobody listened: it follows what was known.
    run.core.closed(LinkId(1), &Gone::Failed("cut".into()), run.now);
    run.drain();
    run.advance(Duration::from_secs(5));
    run.welcome(LinkId(2));
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    let entry = pb::Entry { conv: "news".into(), seq: 8, ..pb::Entry::default() };
    run.reply("history", FrameBody::Page(pb::Page { conv: "news".into(), entries: vec![entry], head: 8 }));
    assert_eq!(run.seqs(), [8]);

    let mut run = Run::live();
    run.core.request(Ticket(1), FrameBody::Subscribe(pb::Subscribe { channel: "news".into() }), run.now);
    run.drain();
    while run.answers.is_empty() {
        run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
        run.reply("history", busy());
        run.advance(Duration::from_secs(2));
    }
    assert!(matches!(&run.answers[..], [Err(RequestError::Refused(_))]), "{:?}", run.answers);
}

#[test]
fn f10_where_a_channel_stands_is_read_from_its_log() {
    let mut run = Run::live();
    run.core.request(Ticket(1), FrameBody::Subscribe(pb::Subscribe { channel: "news".into() }), run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    let history = run.frames.iter().find_map(|(_, frame)| match &frame.body {
        Some(FrameBody::History(history)) => Some((history.after, history.before, history.limit)),
        _ => None,
    });
    // A page from the front would tell of the head what its node has heard.
    assert_eq!(history, Some((None, None, 1)));
    // That node hears of the entries before late: they are no news to whom subscribed behind them.
    run.say(LinkId(1), 0, FrameBody::Entry(entry(11)));
    run.reply("history", FrameBody::Page(pb::Page { conv: "news".into(), entries: vec![entry(13)], head: 13 }));
    (12..=15).for_each(|seq| run.say(LinkId(1), 0, FrameBody::Entry(entry(seq))));
    assert_eq!(run.seqs(), [14, 15]);
}

#[test]
fn f10_a_subscription_that_is_ended_before_its_beginning_is_known_is_answered_before_its_end() {
    let mut run = Run::live();
    let page = |head| FrameBody::Page(pb::Page { conv: "news".into(), entries: vec![entry(head)], head });
    let subscribe = || FrameBody::Subscribe(pb::Subscribe { channel: "news".into() });
    run.core.request(Ticket(1), subscribe(), run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.core.request(Ticket(2), FrameBody::Unsubscribe(pb::Unsubscribe { channel: "news".into() }), run.now);
    run.drain();
    run.reply("unsubscribe", FrameBody::Ok(pb::Ok {}));
    assert_eq!(run.tickets, [Ticket(1), Ticket(2)], "what is answered last is in force");
    // Subscribed once more: the page that was asked for the first time is late, and of no use for the second.
    let late = run.frames.iter().find(|(_, frame)| matches!(frame.body, Some(FrameBody::History(_)))).cloned();
    let (link, late) = late.expect("it asked where the channel stands");
    run.core.request(Ticket(3), subscribe(), run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.say(link, late.rid, page(2));
    assert_eq!(run.tickets.len(), 2, "it stands where the second page says");
    run.reply("history", page(4));
    run.say(link, 0, FrameBody::Entry(entry(5)));
    assert_eq!((run.tickets.last(), run.seqs()), (Some(&Ticket(3)), vec![5]));
}

#[test]
fn f10_what_a_new_session_is_refused_for_a_passing_reason_is_asked_for_again() {
    let mut run = Run::live();
    let [subscribe, watch] = [
        FrameBody::Subscribe(pb::Subscribe { channel: "news".into() }),
        FrameBody::Watch(pb::Watch { users: vec!["u_bob".into()] }),
    ];
    run.core.request(Ticket(1), subscribe, run.now);
    run.core.request(Ticket(2), watch, run.now);
    run.drain();
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.reply("history", FrameBody::Page(pb::Page { conv: "news".into(), entries: Vec::new(), head: 7 }));
    run.reply("watch", FrameBody::Presence(pb::Presence::default()));
    run.core.closed(LinkId(1), &Gone::Failed("cut".into()), run.now);
    run.drain();
    run.advance(Duration::from_secs(1));
    run.welcome(LinkId(2));
    run.reply("sync", FrameBody::Changed(pb::Changed { sync: "s".into(), ..pb::Changed::default() }));
    let busy = || FrameBody::Error(pb::Error { retry_after_ms: 3000, ..ErrorCode::Overloaded.error() });
    run.reply("subscribe", busy());
    run.reply("watch", busy());
    run.advance(Duration::from_millis(2999));
    assert_eq!((run.sent("subscribe"), run.sent("watch")), (2, 2), "not before the server said");
    run.advance(Duration::from_secs(1));
    assert_eq!((run.sent("subscribe"), run.sent("watch")), (3, 3), "the app counts on both");
    run.reply("watch", FrameBody::Error(ErrorCode::TooManyWatches.error()));
    run.reply("subscribe", FrameBody::Ok(pb::Ok {}));
    run.reply("history", FrameBody::Page(pb::Page { conv: "news".into(), entries: vec![entry(8)], head: 8 }));
    run.advance(Duration::from_secs(20));
    assert_eq!((run.seqs(), run.sent("subscribe"), run.sent("watch")), (vec![8], 3, 3), "no answer is asked for twice");
    // What the app has left meanwhile is left.
    run.core.closed(LinkId(2), &Gone::Failed("cut".into()), run.now);
    run.drain();
    run.advance(Duration::from_secs(5));
    run.welcome(LinkId(3));
    run.reply("subscribe", busy());
    run.core.request(Ticket(3), FrameBody::Unsubscribe(pb::Unsubscribe { channel: "news".into() }), run.now);
    run.drain();
    run.reply("unsubscribe", FrameBody::Ok(pb::Ok {}));
    run.advance(Duration::from_secs(5));
    assert_eq!(run.sent("subscribe"), 4);
}
