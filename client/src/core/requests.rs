//! What the app has asked and waits for: each ends with an answer, an error or its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use roost_wire::{FrameBody, pb};

/// Names a request of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Debug)]
struct Request {
    body: FrameBody,
    deadline: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Flying,
    Later(Instant),
}

/// The app's requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    requests: BTreeMap<Ticket, Request>,
    ready: BTreeSet<Ticket>,
    later: BTreeSet<(Instant, Ticket)>,
    deadlines: BTreeSet<(Instant, Ticket)>,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn push(&mut self, ticket: Ticket, body: FrameBody, deadline: Instant) {
        self.requests.insert(ticket, Request { body, deadline, state: State::Ready });
        self.ready.insert(ticket);
        self.deadlines.insert((deadline, ticket));
    }

    /// True if what is asked holds for one session only: watches and subscriptions.
    pub(crate) fn is_of_session(&self, ticket: Ticket) -> bool {
        use FrameBody::{Subscribe, Unsubscribe, Unwatch, Watch};
        let body = self.requests.get(&ticket).map(|request| &request.body);
        matches!(body, Some(Watch(_) | Unwatch(_) | Subscribe(_) | Unsubscribe(_)))
    }

    /// What is asked; `None` if it is over.
    pub(crate) fn get(&self, ticket: Ticket) -> Option<&FrameBody> {
        self.requests.get(&ticket).map(|request| &request.body)
    }

    /// The next request to put on the wire, which is then in flight.
    pub(crate) fn next(&mut self) -> Option<(Ticket, FrameBody)> {
        let ticket = self.ready.pop_first()?;
        let request = self.requests.get_mut(&ticket)?;
        request.state = State::Flying;
        Some((ticket, request.body.clone()))
    }

    /// The request is over; returns what was asked. `None` if it was over before.
    pub(crate) fn finish(&mut self, ticket: Ticket) -> Option<FrameBody> {
        let request = self.requests.remove(&ticket)?;
        self.deadlines.remove(&(request.deadline, ticket));
        self.ready.remove(&ticket);
        if let State::Later(at) = request.state {
            self.later.remove(&(at, ticket));
        }
        Some(request.body)
    }

    /// The server refused it for a passing reason: ask again at `at`, if that is in time. False if it is not.
    pub(crate) fn retry(&mut self, ticket: Ticket, at: Instant) -> bool {
        let Some(request) = self.requests.get_mut(&ticket) else { return true };
        if at >= request.deadline {
            return false;
        }
        request.state = State::Later(at);
        self.later.insert((at, ticket));
        true
    }

    /// The connection is gone. True if the request waits for the next one; false if it may not be repeated.
    pub(crate) fn lost(&mut self, ticket: Ticket) -> bool {
        let Some(request) = self.requests.get_mut(&ticket) else { return true };
        if !repeatable(&request.body) {
            return false;
        }
        request.state = State::Ready;
        self.ready.insert(ticket);
        true
    }

    /// Requests whose moment has come may go; returns those whose time is over.
    pub(crate) fn wake(&mut self, now: Instant) -> Vec<Ticket> {
        while let Some((at, ticket)) = self.later.first().copied()
            && at <= now
        {
            self.later.pop_first();
            if let Some(request) = self.requests.get_mut(&ticket) {
                request.state = State::Ready;
                self.ready.insert(ticket);
            }
        }
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, ticket)| *ticket).collect()
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let earliest = |set: &BTreeSet<(Instant, Ticket)>| set.first().map(|(at, _)| *at);
        earliest(&self.later).into_iter().chain(earliest(&self.deadlines)).min()
    }

    pub(crate) fn drain(&mut self) -> Vec<Ticket> {
        std::mem::take(self).requests.into_keys().collect()
    }
}

/// Whether carrying it out twice does no harm.
fn repeatable(body: &FrameBody) -> bool {
    match body {
        FrameBody::Create(create) => create.kind() == pb::Kind::Direct,
        _ => true,
    }
}

/// How long a command that was refused for a passing reason waits if the server does not say.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// How long a refused command waits: what the server says, else a little.
pub(crate) fn pause(error: &pb::Error, otherwise: Duration) -> Duration {
    if error.retry_after_ms == 0 { otherwise } else { Duration::from_millis(u64::from(error.retry_after_ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(kind: pb::Kind) -> FrameBody {
        FrameBody::Create(pb::Create { kind: kind.into(), ..pb::Create::default() })
    }

    #[test]
    fn f38_what_may_not_be_repeated_is_not() {
        let (mut requests, deadline) = (Requests::default(), Instant::now() + Duration::from_secs(1));
        requests.push(Ticket(1), create(pb::Kind::Direct), deadline);
        requests.push(Ticket(2), create(pb::Kind::Group), deadline);
        while requests.next().is_some() {}
        assert!(requests.lost(Ticket(1)) && !requests.lost(Ticket(2)));
        assert_eq!(requests.next().map(|(ticket, _)| ticket), Some(Ticket(1)));
    }

    #[test]
    fn subscriptions_and_watches_belong_to_a_session() {
        let (mut requests, deadline) = (Requests::default(), Instant::now() + Duration::from_secs(1));
        requests.push(Ticket(1), FrameBody::Subscribe(pb::Subscribe { channel: "news".into() }), deadline);
        requests.push(Ticket(2), FrameBody::Watch(pb::Watch { users: vec!["u_ada".into()] }), deadline);
        requests.push(Ticket(3), create(pb::Kind::Direct), deadline);
        let of_session = [1, 2, 3, 4].map(|ticket| requests.is_of_session(Ticket(ticket)));
        assert_eq!(of_session, [true, true, false, false]);
    }

    #[test]
    fn every_request_ends_at_its_time() {
        let (mut requests, now) = (Requests::default(), Instant::now());
        let deadline = now + Duration::from_secs(10);
        requests.push(Ticket(1), create(pb::Kind::Direct), deadline);
        assert!(requests.next().is_some());
        assert!(!requests.retry(Ticket(1), deadline), "too late to try again");
        assert!(requests.retry(Ticket(1), now + Duration::from_secs(1)));
        assert_eq!(requests.next_wake(), Some(now + Duration::from_secs(1)));
        assert!(requests.wake(now + Duration::from_secs(2)).is_empty());
        assert!(requests.next().is_some());
        assert_eq!(requests.wake(deadline), [Ticket(1)]);
        assert!(requests.finish(Ticket(1)).is_some());
        assert_eq!((requests.len(), requests.next_wake()), (0, None));
    }
}
