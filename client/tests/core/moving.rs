//! A second connection beside the one in use.

use std::time::Duration;

use roost_client::Event;
use roost_client::core::{Gone, LinkId};
use roost_wire::{CloseCode, FrameBody, pb};

use super::Run;

const FIRST: LinkId = LinkId(1);
const SECOND: LinkId = LinkId(2);

fn closed(code: CloseCode) -> Gone {
    Gone::Closed { code: Some(code.number()), reason: String::new() }
}

impl Run {
    /// Live, with a second connection under way.
    fn trying() -> Self {
        let mut run = Self::live();
        run.core.try_another(run.now);
        run.drain();
        assert_eq!(run.opened.len(), 2);
        run
    }

    fn gone(&mut self, link: LinkId, gone: &Gone) {
        self.core.closed(link, gone, self.now);
        self.drain();
    }

    fn told(&self) -> Vec<&Event> {
        let told =
            |event: &&Event| matches!(event, Event::Connected { .. } | Event::Disconnected { .. } | Event::Ended(_));
        self.events.iter().filter(told).collect()
    }
}

#[test]
fn f38_another_connection_takes_over_once_it_is_a_session_and_the_app_notices_nothing() {
    let mut run = Run::trying();
    run.core.try_another(run.now);
    run.drain();
    assert_eq!(run.opened.len(), 2, "one at a time");
    run.welcome(SECOND);
    assert_eq!((run.core.link(), run.shut.len()), (Some(SECOND), 0), "first SYNC, then close");
    run.reply("sync", FrameBody::Changed(pb::Changed { sync: "s2".into(), ..pb::Changed::default() }));
    assert_eq!(run.shut, [FIRST]);
    assert_eq!(run.told().len(), 1);
}

#[test]
fn f38_another_connection_that_fails_leaves_the_first_one_as_it_is() {
    let failed = Gone::Failed("no answer".to_owned());
    let unwelcome = closed(CloseCode::Unauthenticated);
    for (name, greeted, gone) in
        [("not open", false, &failed), ("no answer", true, &failed), ("refused for good", true, &unwelcome)]
    {
        let mut run = Run::trying();
        if greeted {
            run.core.opened(SECOND, run.now);
            run.drain();
        }
        run.gone(SECOND, gone);
        run.advance(Duration::from_secs(20));
        assert_eq!((run.core.link(), run.opened.len(), run.told().len()), (Some(FIRST), 2, 1), "{name}");
    }
    let mut run = Run::trying();
    run.core.opened(SECOND, run.now);
    run.drain();
    run.reply("connect", FrameBody::Error(pb::Error { code: 201, ..pb::Error::default() }));
    assert_eq!((run.core.link(), run.shut, run.events.len()), (Some(FIRST), vec![SECOND], 1), "refused by an answer");
}

/// The server ends the session of a device that has come again: before the client has heard that it has.
#[test]
fn f38_a_session_that_the_server_ends_for_its_successor_is_not_missed() {
    let mut run = Run::trying();
    run.core.opened(SECOND, run.now);
    run.drain();
    run.gone(FIRST, &closed(CloseCode::Replaced));
    assert_eq!((run.core.link(), run.told().len()), (None, 1), "the app is told nothing");
    run.welcome(SECOND);
    assert_eq!((run.core.link(), run.told().len(), run.opened.len()), (Some(SECOND), 1, 2));
    assert_eq!(run.sent("sync"), 2, "it may have missed something");
}

#[test]
fn f38_a_successor_that_then_fails_too_is_missed() {
    let mut run = Run::trying();
    run.core.opened(SECOND, run.now);
    run.drain();
    run.gone(FIRST, &closed(CloseCode::Replaced));
    run.gone(SECOND, &Gone::Failed("reset".to_owned()));
    assert!(matches!(run.told()[1], Event::Disconnected { retry_in: Some(_), .. }), "{:?}", run.told());
    run.advance(Duration::from_secs(120));
    assert!(run.opened.len() > 2, "it is tried again");
    run.welcome(LinkId(run.opened.len() as u64));
    assert!(matches!(run.told().last(), Some(Event::Connected { .. })), "and the app hears that it is back");
}

#[test]
fn without_a_session_another_connection_is_just_the_next_try() {
    let mut run = Run::live();
    run.gone(FIRST, &Gone::Failed("reset".to_owned()));
    assert_eq!(run.opened.len(), 1, "it would wait");
    run.core.try_another(run.now);
    run.drain();
    assert_eq!(run.opened.len(), 2);
    run.gone(SECOND, &Gone::Failed("reset".to_owned()));
    run.advance(Duration::from_secs(120));
    assert!(run.opened.len() > 2);
}
