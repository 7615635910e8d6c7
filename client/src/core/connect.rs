//! Getting connected, staying connected, moving, giving up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use roost_wire::code::should_reconnect;
use roost_wire::limits::{USERS_PER_COMMAND_MAX, WATCHES_MAX};
use roost_wire::{CloseCode, ConvId, Encoding, FrameBody, UserId, pb};

use super::frames;
use super::link::{Asked, Beat, Link, Stage};
use super::requests::{PAUSE, pause};
use super::sync::SyncState;
use super::{Core, Effect, Event, Gone, LinkId};
use crate::error::{EndReason, RequestError, SendError};
use crate::url::Url;

/// Most addresses of a GOAWAY that are kept.
const URLS_MAX: usize = 16;

/// A CONNECT without an answer has reached the server by then, or never will.
const RIVAL_FOR: Duration = Duration::from_secs(60);

/// Where and when to connect next.
#[derive(Debug)]
pub(crate) struct Connecting {
    base: Url,
    /// Addresses a GOAWAY named, tried before the base.
    urls: VecDeque<Url>,
    /// When to open the next connection.
    at: Option<Instant>,
    /// When the connection that was moved away from is closed, whatever it still owes.
    leave_by: Option<Instant>,
    /// When a connection was lost whose CONNECT has no answer, in this life or at the end of an earlier one. The server
    /// may hold it for the newer one of this device.
    rival: Option<Instant>,
    /// The server ended the session for the connection that is coming: the app need not hear of either.
    handed_over: bool,
}

impl Connecting {
    pub(crate) const fn new(base: Url) -> Self {
        Self { base, urls: VecDeque::new(), at: None, leave_by: None, rival: None, handed_over: false }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.at.into_iter().chain(self.leave_by).min()
    }

    /// An earlier life of this client ended a moment ago at the latest: what it had sent may still be on its way.
    pub(crate) fn had_rival(&mut self, now: Instant) {
        self.rival = Some(now);
    }
}

impl Core {
    /// Opens the next connection.
    pub(crate) fn open(&mut self, now: Instant) {
        self.connecting.at = None;
        if self.ended || self.coming.is_some() {
            return;
        }
        self.links += 1;
        let id = LinkId(self.links);
        self.coming = Some(Link::new(id, now));
        let url = self.connecting.urls.pop_front().unwrap_or_else(|| self.connecting.base.clone());
        self.effects.push_back(Effect::Open { link: id, url });
    }

    pub(crate) fn connect_if_due(&mut self, now: Instant) {
        if self.connecting.at.is_some_and(|at| at <= now) {
            self.open(now);
        }
        if self.connecting.leave_by.is_some_and(|at| at <= now) {
            self.leave(now);
        }
    }

    /// The connection of the session; `None` while there is none.
    #[must_use]
    pub fn link(&self) -> Option<LinkId> {
        self.current.as_ref().map(|link| link.id)
    }

    /// The app knows better than the back-off (the network is back, the user asks): try now.
    pub fn retry_now(&mut self, now: Instant) {
        if self.current.is_none() {
            self.open(now);
        } else {
            // Is the connection still there? The answer, or its absence, will tell.
            self.ping(now);
        }
        self.settle(now);
    }

    /// There may be a better way to the server than the one in use (another network, another transport): a second connection is
    /// opened, and serves once it is a session; nothing is lost between them. If it fails, the first one stays.
    pub fn try_another(&mut self, now: Instant) {
        if self.current.is_some() && self.coming.is_none() {
            self.open(now);
            if let Some(coming) = &mut self.coming {
                coming.spare = true;
            }
        } else {
            self.retry_now(now);
        }
        self.settle(now);
    }

    /// The transport of `link` is open: CONNECT goes out. The server's HELLO need not be awaited.
    pub fn opened(&mut self, link: LinkId, now: Instant) {
        let Some(coming) = self.coming.as_mut().filter(|coming| coming.id == link) else { return };
        coming.stage = Stage::Greeting;
        let rid = coming.ask(Asked::Connect, now);
        let connect = pb::Connect {
            token: self.identity.token.clone().unwrap_or_default(),
            guest: match &self.identity.token {
                Some(_) => String::new(),
                None => self.identity.guest.clone().unwrap_or_default(),
            },
            device: self.identity.device.clone(),
            sync: self.sync.token.clone(),
        };
        let payload = frames::encode(self.encoding, rid, FrameBody::Connect(connect));
        self.effects.push_back(Effect::Transmit { link, payload });
    }

    /// WELCOME: the coming connection serves from now on.
    pub(crate) fn welcomed(&mut self, welcome: pb::Welcome, now: Instant) {
        let Some(mut link) = self.coming.take() else { return };
        link.welcomed(&welcome, &mut self.random, now);
        if !welcome.token.is_empty() {
            self.identity.token = Some(welcome.token);
        }
        self.user = UserId::new(&welcome.user).ok();
        self.name = welcome.name;
        self.connecting.urls.clear();
        self.connecting.at = None;
        let moved = match self.current.replace(link) {
            Some(old) => self.begin_leaving(old, now),
            None => std::mem::take(&mut self.connecting.handed_over),
        };
        if !moved && let Some(user) = self.user.clone() {
            let (name, session) = (self.name.clone(), welcome.session);
            self.event(Event::Connected { fresh: welcome.fresh, user, name, session });
        }
        // First subscribe, then read what was missed: nothing can fall between.
        self.resubscribe(now);
        if welcome.fresh && self.sync.complete {
            self.sync.token = welcome.sync;
            self.sync.state = SyncState::Idle;
        } else {
            self.sync.want();
        }
    }

    /// A new session watches nobody and is subscribed to nothing yet.
    fn resubscribe(&mut self, now: Instant) {
        self.refused.clear();
        self.watch_again(now);
        let channels: Vec<ConvId> = self.channels.keys().cloned().collect();
        channels.into_iter().for_each(|channel| self.subscribe_again(channel, now));
    }

    fn watch_again(&mut self, now: Instant) {
        let watched: Vec<String> = self.watched.iter().take(WATCHES_MAX).cloned().collect();
        for users in watched.chunks(USERS_PER_COMMAND_MAX) {
            let _ = self.ask(Asked::Watch, FrameBody::Watch(pb::Watch { users: users.to_vec() }), now);
        }
    }

    fn subscribe_again(&mut self, channel: ConvId, now: Instant) {
        let subscribe = pb::Subscribe { channel: channel.to_string() };
        let _ = self.ask(Asked::Subscribe(channel), FrameBody::Subscribe(subscribe), now);
    }

    /// The new session was refused what the app has. Where the reason passes it is asked for again: nobody else would.
    pub(crate) fn refused_again(&mut self, asked: Asked, error: &pb::Error, now: Instant) {
        if error.retryable {
            let wait = pause(error, PAUSE);
            self.refused.push((now + wait + self.random.up_to(wait / 4), asked));
        }
    }

    /// Asks again for what was refused, once its time has come.
    pub(crate) fn ask_refused(&mut self, now: Instant) {
        while let Some(place) = self.refused.iter().position(|(at, _)| *at <= now) {
            match self.refused.swap_remove(place).1 {
                Asked::Watch => self.watch_again(now),
                // Unless the app has left it since.
                Asked::Subscribe(channel) if self.channels.contains_key(&channel) => self.subscribe_again(channel, now),
                _ => {}
            }
        }
    }

    /// `old` keeps answering what it was asked until the new connection has synced.
    fn begin_leaving(&mut self, mut old: Link, now: Instant) -> bool {
        let requests = &self.requests;
        let given_up = old.await_only(|asked| match asked {
            Asked::Send(_) => true,
            // What is asked for a session is asked for the new one: it would not have it otherwise.
            Asked::Request(ticket) => !requests.is_of_session(*ticket),
            _ => false,
        });
        for asked in given_up {
            self.lost_one(asked, now);
        }
        self.sync.lost();
        self.marks.lost(now);
        if let Some(older) = self.leaving.replace(old) {
            self.abandon(older, CloseCode::Normal.number(), now);
        }
        self.connecting.leave_by = Some(now + self.config.answer_within);
        true
    }

    /// Closes the connection that was moved away from, once nothing is owed on it.
    pub(crate) fn leave_if_done(&mut self, now: Instant) {
        let synced = self.sync.state == SyncState::Idle;
        if self.leaving.as_ref().is_some_and(|old| synced && !old.is_owed()) {
            self.leave(now);
        }
    }

    fn leave(&mut self, now: Instant) {
        self.connecting.leave_by = None;
        if let Some(old) = self.leaving.take() {
            self.abandon(old, CloseCode::Normal.number(), now);
            self.pump(now);
        }
    }

    /// Shuts a connection; what it owes is asked again elsewhere.
    fn abandon(&mut self, mut link: Link, code: u16, now: Instant) {
        self.effects.push_back(Effect::Shut { link: link.id, code });
        for asked in link.unanswered() {
            self.lost_one(asked, now);
        }
    }

    /// The connection is over.
    pub fn closed(&mut self, link: LinkId, gone: &Gone, now: Instant) {
        if self.ended {
            return;
        }
        if self.leaving.as_ref().is_some_and(|old| old.id == link) {
            self.connecting.leave_by = None;
            if let Some(mut old) = self.leaving.take() {
                old.unanswered().into_iter().for_each(|asked| self.lost_one(asked, now));
            }
        } else if let Some(coming) = self.coming.take_if(|coming| coming.id == link) {
            self.never_came(&coming, gone, now);
        } else if let Some(current) = self.current.take_if(|current| current.id == link) {
            self.lost(current, gone, now);
        }
        self.settle(now);
    }

    /// A connection ended before its WELCOME.
    fn never_came(&mut self, coming: &Link, gone: &Gone, now: Instant) {
        let greeted = coming.stage == Stage::Greeting;
        let by_ourselves = greeted && self.is_replaced_by_ourselves(gone.code(), now);
        if greeted && gone.code() != Some(CloseCode::Replaced.number()) {
            self.connecting.rival = Some(now);
        }
        if coming.spare && self.current.is_some() {
            return;
        }
        let fatal = match gone {
            Gone::Closed { code: Some(code), reason } if greeted && !by_ourselves && !should_reconnect(Some(*code)) => {
                Some(EndReason::Code { code: *code, reason: reason.clone() })
            }
            // Not to be confused with a proxy whose server is away (502, 503, 504) or new (404).
            Gone::Status { status: status @ (400 | 401 | 403 | 426), .. } => Some(EndReason::Status(*status)),
            _ => None,
        };
        if let Some(reason) = fatal {
            return self.end_because(gone, reason);
        }
        let asked = match gone {
            Gone::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        if gone.code() == Some(CloseCode::Overloaded.number()) {
            self.backoff.slow_down();
        }
        self.retry_later(gone, asked, now);
    }

    /// The serving connection ended.
    fn lost(&mut self, mut link: Link, gone: &Gone, now: Instant) {
        for asked in link.unanswered() {
            self.lost_one(asked, now);
        }
        self.sync.lost();
        self.marks.lost(now);
        if now.saturating_duration_since(link.since) >= self.config.stable_after {
            self.backoff.reset();
        }
        let code = gone.code();
        let replaced = code == Some(CloseCode::Replaced.number());
        if replaced && self.coming.as_ref().is_some_and(|coming| coming.stage == Stage::Greeting) {
            self.connecting.handed_over = true;
            return;
        }
        if !should_reconnect(code) && !self.is_replaced_by_ourselves(code, now) {
            let reason = match gone {
                Gone::Closed { reason, .. } => reason.clone(),
                other => other.reason(),
            };
            return self.end_because(gone, EndReason::Code { code: code.unwrap_or_default(), reason });
        }
        if code == Some(CloseCode::Overloaded.number()) {
            self.backoff.slow_down();
        }
        self.retry_later(gone, None, now);
    }

    /// The server closes the old connection of a device when a new one comes. That is no reason to stop if the new one
    /// is ours: under way, or lost before its WELCOME. Each lost one explains one such close, so that two apps that go
    /// by the name of one device do not replace each other for ever.
    fn is_replaced_by_ourselves(&mut self, code: Option<u16>, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < RIVAL_FOR;
        code == Some(CloseCode::Replaced.number())
            && (self.coming.is_some() || self.connecting.rival.take().is_some_and(recent))
    }

    /// Plans the next try and tells the app.
    fn retry_later(&mut self, gone: &Gone, asked: Option<Duration>, now: Instant) {
        let told = self.current.is_none();
        self.connecting.handed_over = false;
        if self.coming.is_none() {
            let mut delay = self.backoff.next(&mut self.random);
            if let Some(asked) = asked {
                // The server names the least; the jitter stays, for everybody was told the same.
                delay += asked.min(self.config.backoff_cap);
            }
            self.connecting.at = Some(now + delay);
        }
        if told {
            let retry_in = self.connecting.at.map(|at| at.saturating_duration_since(now)).or(Some(Duration::ZERO));
            self.event(Event::Disconnected { code: gone.code(), retry_in, reason: gone.reason() });
        }
    }

    fn end_because(&mut self, gone: &Gone, reason: EndReason) {
        self.event(Event::Disconnected { code: gone.code(), retry_in: None, reason: gone.reason() });
        self.end(reason);
    }

    /// CONNECT was refused.
    pub(crate) fn refused(&mut self, error: pb::Error, now: Instant) {
        let Some(mut link) = self.coming.take() else { return };
        link.unanswered();
        self.effects.push_back(Effect::Shut { link: link.id, code: CloseCode::Normal.number() });
        if link.spare && self.current.is_some() {
            return;
        }
        let gone = Gone::Failed(format!("{} (error {})", error.message, error.code));
        if error.retryable {
            let asked = (error.retry_after_ms > 0).then(|| pause(&error, Duration::ZERO));
            self.retry_later(&gone, asked, now);
        } else {
            self.end_because(&gone, EndReason::Refused(error));
        }
    }

    /// The server asks to move: at the slot it gives, to an address it names.
    pub(crate) fn goaway(&mut self, link: LinkId, goaway: &pb::Goaway, now: Instant) {
        if self.current.as_ref().is_none_or(|current| current.id != link) || self.coming.is_some() {
            return; // Already on the way.
        }
        // Whoever came by TLS is not sent on without it: tokens go that way.
        let secret = self.connecting.base.is_tls();
        let urls = goaway.urls.iter().take(URLS_MAX).filter_map(|url| Url::parse(url).ok());
        self.connecting.urls = urls.filter(|url| url.is_tls() || !secret).collect();
        let slot = match goaway.deadline_ms {
            0 => goaway.slot_ms,
            deadline => goaway.slot_ms.min(deadline),
        };
        self.connecting.at = Some(now + Duration::from_millis(u64::from(slot)));
    }

    /// Heartbeats of all connections.
    pub(crate) fn beat(&mut self, now: Instant) {
        let (connect, answer) = (self.config.connect_within, self.config.answer_within);
        let links = [&mut self.current, &mut self.coming, &mut self.leaving];
        let mut dead = Vec::new();
        let mut ping = false;
        for (place, link) in links.into_iter().enumerate() {
            let Some(link) = link else { continue };
            match link.beat(connect, answer, &mut self.random, now) {
                Beat::None => {}
                // A connection that is about to be left need not be kept alive.
                Beat::Ping => ping |= place == 0,
                Beat::Dead => dead.push(link.id),
            }
        }
        if ping {
            self.ping(now);
        }
        for link in dead {
            self.effects.push_back(Effect::Shut { link, code: CloseCode::GoingAway.number() });
            self.closed(link, &Gone::Failed("no answer in time".to_owned()), now);
        }
    }

    fn ping(&mut self, now: Instant) {
        self.marks.pinged();
        self.tell(FrameBody::Ping(pb::Ping {}), now);
    }

    /// What was asked on a connection that is gone, or that is left, will get no answer from it.
    fn lost_one(&mut self, asked: Asked, now: Instant) {
        match asked {
            Asked::Send(cmid) => self.outbox.lost(&cmid),
            Asked::Request(ticket) | Asked::Head(_, Some(ticket)) => {
                if !self.requests.lost(ticket) {
                    self.requests.finish(ticket);
                    self.effects.push_back(Effect::Answer { ticket, result: Err(RequestError::Unknown) });
                }
            }
            Asked::Fetch(conv, after) if self.order.is_asked(&conv, after) => self.order.fetch_later(&conv, now),
            // The conversation was left since.
            Asked::Fetch(..) => {}
            // Asked again on every new connection.
            Asked::Connect | Asked::Sync | Asked::Watch | Asked::Subscribe(_) | Asked::Head(_, None) => {}
        }
    }

    /// Stops for good.
    pub(crate) fn end(&mut self, reason: EndReason) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for link in [self.current.take(), self.coming.take(), self.leaving.take()].into_iter().flatten() {
            self.effects.push_back(Effect::Shut { link: link.id, code: CloseCode::Normal.number() });
        }
        for ticket in self.requests.drain() {
            self.effects.push_back(Effect::Answer { ticket, result: Err(RequestError::Ended) });
        }
        for record in self.outbox.drain() {
            self.effects.push_back(Effect::Sent { cmid: record.cmid, result: Err(SendError::Ended) });
        }
        self.event(Event::Ended(reason));
    }

    /// A message of the server that is none: the connection is of no use.
    pub(crate) fn broken(&mut self, link: LinkId, now: Instant) {
        let code = if self.encoding == Encoding::Json { CloseCode::Unsupported } else { CloseCode::Protocol };
        self.effects.push_back(Effect::Shut { link, code: code.number() });
        self.closed(link, &Gone::Failed("the server sent what is no frame".to_owned()), now);
    }
}
