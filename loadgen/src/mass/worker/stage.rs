//! What a thread was told to do, and whether it is done.

use std::cmp::Reverse;
use std::io;

use roost_uring::fleet::Close;

use super::{Later, MILLISECOND, SECOND, Worker};
use crate::client::Stamp;
use crate::mass::arrivals::Arrivals;
use crate::mass::client::Phase;
use crate::mass::gaps::{Gap, LISTED_MAX};
use crate::mass::order::{Order, Publish};
use crate::pacer::Pacer;
use crate::recorder::record;
use crate::scenario::Arrivals as How;

/// How often a stage looks at all clients.
const LOOK_EVERY_NS: u64 = 100 * MILLISECOND;
/// Clients that a turn subscribes, speaks for, or drops.
const CLIENTS_PER_TURN: u32 = 1024;
/// Publishes of a turn.
const PUBLISHES_PER_TURN: u32 = 256;
/// How long closing at the end may take; a million sockets take the kernel half a minute.
const FINISH_WITHIN_NS: u64 = 120 * SECOND;

pub(super) enum Stage {
    Idle,
    Ramp,
    Hold { until_ns: u64, look_ns: u64 },
    Subscribe(Subscribe),
    Publish(Publishing),
    Echo(Echo),
    Storm(Storm),
    Drain { until_ns: u64 },
    Finish { next: u32, until_ns: u64, goodbye: bool },
}

pub(super) struct Subscribe {
    arrivals: Arrivals,
    asked: u64,
    confirmed: u64,
    until_ns: u64,
}

pub(super) struct Publishing {
    what: Publish,
    pacer: Pacer,
    /// Times at which one was due that are over.
    taken: u32,
    /// Of the next that is published: none is while the publisher is no session.
    next_serial: u32,
    answered: u32,
    /// Serials and intended times of those without an answer.
    unanswered: Vec<(u32, u64)>,
    subscribers: u64,
    pushed: u64,
    last_ns: u64,
}

pub(super) struct Echo {
    /// Clients that have not begun.
    next: u32,
    until_ns: u64,
    grace_ns: u64,
    open: u32,
}

pub(super) struct Storm {
    /// Clients from this one on are still there.
    next: u32,
    close: Close,
    per_second: f64,
    /// All were dropped: slots count from then.
    dropped: bool,
}

impl Stage {
    /// Whether a heartbeat that is due at this time is sent.
    pub(super) const fn beats(&self, due_ns: u64) -> bool {
        match self {
            Self::Hold { until_ns, .. } => due_ns < *until_ns,
            Self::Finish { .. } | Self::Drain { .. } => false,
            _ => true,
        }
    }

    /// Nothing was published before it is over.
    pub(super) const fn subscribes(&self) -> bool {
        matches!(self, Self::Subscribe(_))
    }

    /// Nobody comes back after it.
    pub(super) const fn is_last(&self) -> bool {
        matches!(self, Self::Drain { .. } | Self::Finish { .. })
    }
}

impl Worker {
    /// Begins what the main thread asks for.
    pub(super) fn begin(&mut self, order: Order, now: u64) {
        let count = self.crowd.len();
        self.stage_lost = 0;
        if matches!(order, Order::Drain { .. } | Order::Finish { .. }) {
            self.arrivals = Arrivals::nobody();
            self.later.retain(|Reverse((_, _, what))| matches!(what, Later::Leave(_)));
        }
        self.stage = match order {
            Order::Ramp { start_ns, per_second } => {
                self.arrivals = Arrivals::in_order(count, per_second, start_ns, self.seed);
                Stage::Ramp
            }
            Order::Hold { until_ns } => Stage::Hold { until_ns, look_ns: until_ns },
            Order::Subscribe { channel, start_ns, per_second, until_ns } => {
                self.voice.channel = channel;
                let arrivals = Arrivals::in_order(count, per_second, start_ns, self.seed);
                Stage::Subscribe(Subscribe { arrivals, asked: 0, confirmed: 0, until_ns })
            }
            Order::Publish(what) => {
                self.voice.body_bytes = what.body_bytes;
                let subscribers = (0..count).filter(|at| self.crowd.is_subscribed(*at)).count() as u64;
                let pacer =
                    |start_ns| Pacer::new(How::Constant, what.per_second, what.burst, start_ns, u64::MAX, self.seed);
                // There is one publisher: it need not begin at a random time, which may be a long wait.
                let offset_ns = pacer(0).peek().unwrap_or(0);
                let pacer = pacer(what.start_ns.saturating_sub(offset_ns));
                Stage::Publish(Publishing {
                    what,
                    pacer,
                    taken: 0,
                    next_serial: 0,
                    answered: 0,
                    unanswered: Vec::new(),
                    subscribers,
                    pushed: 0,
                    last_ns: what.start_ns,
                })
            }
            Order::Echo { body_bytes, until_ns, grace_ns } => {
                self.voice.body_bytes = body_bytes;
                Stage::Echo(Echo { next: 0, until_ns, grace_ns, open: 0 })
            }
            Order::Storm { reset, per_second } => {
                let close = if reset { Close::Reset } else { Close::Fin };
                Stage::Storm(Storm { next: 0, close, per_second, dropped: false })
            }
            Order::Drain { until_ns } => Stage::Drain { until_ns },
            Order::Finish { goodbye } => Stage::Finish { next: 0, until_ns: now + FINISH_WITHIN_NS, goodbye },
        };
    }

    /// It was told to end, and has.
    pub(super) const fn is_over(&self) -> bool {
        self.done && matches!(self.stage, Stage::Finish { .. })
    }

    /// When the stage wants to be looked at.
    pub(super) fn stage_due(&self, now: u64) -> u64 {
        match &self.stage {
            Stage::Idle | Stage::Ramp => u64::MAX,
            _ if self.done => u64::MAX,
            Stage::Hold { look_ns, .. } => *look_ns,
            Stage::Subscribe(subscribe) => subscribe.arrivals.due_ns().min(subscribe.until_ns),
            Stage::Publish(publishing) => match publishing.taken < publishing.what.count && self.number == 0 {
                true => publishing.pacer.peek().unwrap_or(u64::MAX),
                false => publishing.last_ns + publishing.what.grace_ns,
            },
            Stage::Echo(echo) if echo.next < self.crowd.len() => now,
            Stage::Echo(echo) => echo.until_ns,
            Stage::Storm(storm) if storm.next < self.crowd.len() => now,
            Stage::Finish { next, .. } if *next < self.crowd.len() => now,
            Stage::Storm(_) => u64::MAX,
            Stage::Drain { until_ns } | Stage::Finish { until_ns, .. } => *until_ns,
        }
    }

    /// Goes on with the stage, and sees whether it is done.
    pub(super) fn go_on(&mut self, now: u64) -> io::Result<()> {
        if self.done {
            return Ok(());
        }
        let mut stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let done = match &mut stage {
            Stage::Idle => Ok(false),
            Stage::Ramp => Ok(self.everybody_is_back()),
            Stage::Hold { until_ns, look_ns } => {
                if now < *look_ns {
                    Ok(false)
                } else {
                    *look_ns = now + LOOK_EVERY_NS;
                    let overdue = now >= *until_ns + self.patience_ns;
                    Ok(overdue || (0..self.crowd.len()).all(|at| self.crowd.awaits_pong(at).is_none()))
                }
            }
            Stage::Subscribe(subscribe) => self.subscribe_due(subscribe, now),
            Stage::Publish(publishing) => self.publish_due(publishing, now),
            Stage::Echo(echo) => self.echo_due(echo, now),
            Stage::Storm(storm) => self.drop_more(storm, now),
            Stage::Drain { until_ns } => Ok(now >= *until_ns || self.crowd.is_empty()),
            Stage::Finish { next, until_ns, goodbye } => self.close_more(next, *until_ns, *goodbye, now),
        };
        self.stage = stage;
        if done? {
            self.done = true;
            if let Stage::Publish(publishing) = &self.stage {
                self.tally.losses = self.losses(publishing.what.count);
            }
            self.tell(now, None);
        }
        Ok(())
    }

    /// Everybody is a session, or was given up; or as many were lost as there are: the server will never hold all.
    fn everybody_is_back(&self) -> bool {
        let settled = self.crowd.opening() == 0 && self.later.is_empty();
        self.arrivals.is_over() && (settled || self.stage_lost >= self.crowd.len())
    }

    // ---- the channel ----

    fn subscribe_due(&mut self, subscribe: &mut Subscribe, now: u64) -> io::Result<bool> {
        for _ in 0..CLIENTS_PER_TURN {
            let Some((at, _)) = subscribe.arrivals.take(now) else { break };
            self.out.clear();
            if self.crowd.subscribe(at, true, &mut self.voice, &mut self.out) {
                subscribe.asked += 1;
                if self.crowd.is_subscribed(at) {
                    subscribe.confirmed += 1;
                    self.tally.counts.subscribed += 1;
                }
                self.flush(at)?;
            }
        }
        Ok(now >= subscribe.until_ns || (subscribe.arrivals.is_over() && subscribe.confirmed >= subscribe.asked))
    }

    pub(super) fn subscribed(&mut self) {
        if let Stage::Subscribe(subscribe) = &mut self.stage {
            subscribe.confirmed += 1;
        }
    }

    /// A session that was lost while others were subscribed wants what comes from now on.
    pub(super) fn subscribe_again(&mut self, at: u32) -> io::Result<()> {
        let late = match &self.stage {
            Stage::Subscribe(subscribe) => subscribe.arrivals.is_over(),
            Stage::Publish(_) => true,
            _ => false,
        };
        if late {
            self.out.clear();
            self.crowd.subscribe(at, false, &mut self.voice, &mut self.out);
            self.flush(at)?;
        }
        Ok(())
    }

    fn publish_due(&mut self, publishing: &mut Publishing, now: u64) -> io::Result<bool> {
        // What is due at one time is one write: a burst that trickled in would be none.
        self.out.clear();
        for _ in 0..PUBLISHES_PER_TURN {
            if self.number != 0 || publishing.taken >= publishing.what.count {
                break;
            }
            let Some(intended_ns) = publishing.pacer.peek().filter(|intended| *intended <= now) else { break };
            publishing.pacer.take();
            record(&mut self.tally.late, intended_ns, now);
            publishing.taken += 1;
            publishing.last_ns = now;
            // Of what is published only: the n-th entry of the channel holds the n-th serial.
            let serial = publishing.next_serial;
            let stamp = Stamp { sender: 0, serial, intended_ns };
            if self.crowd.publish(0, stamp, &mut self.voice, &mut self.out) {
                publishing.next_serial += 1;
                self.tally.counts.published += 1;
                publishing.unanswered.push((serial, intended_ns));
            }
        }
        self.flush(0)?;
        if self.number != 0 {
            // How far the publisher is only its own thread knows: by the plan.
            let what = &publishing.what;
            publishing.last_ns = what.start_ns + (f64::from(what.count) / what.per_second * 1e9) as u64;
        } else if publishing.taken < publishing.what.count {
            return Ok(false);
        }
        let answered =
            self.number != 0 || !self.voice.speech.acknowledges() || publishing.answered >= publishing.what.count;
        let all = publishing.subscribers * u64::from(publishing.what.count);
        Ok((answered && publishing.pushed >= all) || now >= publishing.last_ns + publishing.what.grace_ns)
    }

    /// What sessions lack of `count` messages, which is too many if not all were published.
    fn losses(&self, count: u32) -> Vec<Gap> {
        let behind = (0..self.crowd.len()).filter_map(|at| self.crowd.behind(at, count));
        let open = behind.map(|(client, first_seq)| Gap { client, first_seq, last_seq: Gap::OPEN });
        let known = self.gaps.list();
        known.into_iter().chain(open).take(LISTED_MAX).collect()
    }

    pub(super) fn pushed(&mut self) {
        if let Stage::Publish(publishing) = &mut self.stage {
            publishing.pushed += 1;
        }
    }

    /// A publish was answered.
    pub(super) fn published(&mut self, serial: u32, now: u64) {
        if let Stage::Publish(publishing) = &mut self.stage
            && let Some(at) = publishing.unanswered.iter().position(|(sent, _)| *sent == serial)
        {
            let (_, intended_ns) = publishing.unanswered.swap_remove(at);
            publishing.answered += 1;
            record(&mut self.tally.answer, intended_ns, now);
        }
    }

    // ---- echo ----

    fn echo_due(&mut self, echo: &mut Echo, now: u64) -> io::Result<bool> {
        for _ in 0..CLIENTS_PER_TURN {
            if echo.next >= self.crowd.len() || now >= echo.until_ns {
                break;
            }
            let at = echo.next;
            echo.next += 1;
            echo.open += u32::from(self.say(at, now)?);
        }
        Ok((now >= echo.until_ns && echo.open == 0) || now >= echo.until_ns + echo.grace_ns)
    }

    /// A text came back: the next one goes.
    pub(super) fn echoed(&mut self, at: u32, now: u64) -> io::Result<()> {
        let Stage::Echo(echo) = &mut self.stage else { return Ok(()) };
        if now >= echo.until_ns {
            echo.open -= 1;
            return Ok(());
        }
        self.say(at, now).map(drop)
    }

    fn say(&mut self, at: u32, now: u64) -> io::Result<bool> {
        self.out.clear();
        let said = self.crowd.say(at, now, &mut self.voice, &mut self.out);
        if said {
            self.tally.counts.published += 1;
            self.flush(at)?;
        }
        Ok(said)
    }

    // ---- the end of many ----

    fn drop_more(&mut self, storm: &mut Storm, now: u64) -> io::Result<bool> {
        for _ in 0..CLIENTS_PER_TURN {
            if storm.next >= self.crowd.len() {
                break;
            }
            let at = storm.next;
            storm.next += 1;
            if matches!(self.crowd.phase(at), Phase::Gone | Phase::Closing) {
                continue;
            }
            self.crowd.closes(at);
            self.tally.ended("dropped by the storm");
            self.lines.close(at, storm.close)?;
        }
        if storm.next >= self.crowd.len() && !std::mem::replace(&mut storm.dropped, true) {
            // Who was on the way back has a slot like everybody.
            self.later.retain(|Reverse((_, _, what))| matches!(what, Later::Leave(_)));
            self.arrivals = Arrivals::in_slots(self.crowd.len(), storm.per_second, now, self.seed);
        }
        Ok(storm.dropped && self.everybody_is_back())
    }

    fn close_more(&mut self, next: &mut u32, until_ns: u64, goodbye: bool, now: u64) -> io::Result<bool> {
        for _ in 0..CLIENTS_PER_TURN {
            if *next >= self.crowd.len() {
                break;
            }
            let at = *next;
            *next += 1;
            let phase = self.crowd.phase(at);
            if matches!(phase, Phase::Gone | Phase::Closing) {
                continue;
            }
            if goodbye && phase == Phase::Live {
                self.out.clear();
                self.crowd.say_goodbye(&mut self.voice, &mut self.out);
                self.flush(at)?;
            }
            self.crowd.closes(at);
            // A reset leaves no TIME_WAIT behind, for a million of which nobody has room.
            self.lines.close(at, if goodbye { Close::Fin } else { Close::Reset })?;
        }
        Ok((*next >= self.crowd.len() && self.crowd.is_empty()) || now >= until_ns)
    }
}
