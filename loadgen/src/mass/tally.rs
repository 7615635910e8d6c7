//! What the clients of a thread did and met, counted and timed.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::recorder::Recorder;

use super::gaps::{Gap, LISTED_MAX};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// Events counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Counts { $($(#[doc = $doc])+ pub(crate) $name: u64,)+ }

        impl Counts {
            /// Adds what another one counted.
            pub(crate) const fn add(&mut self, other: &Self) { $(self.$name += other.$name;)+ }
        }
    };
}

counts! {
    /// Connections begun.
    begun;
    /// Connections that became sessions.
    entered;
    /// Connections that did not, for whatever reason.
    attempts_failed;
    /// Of these, those that were answered with a status other than 101.
    turned_away;
    /// Of these, those that were told when to come back.
    told_when;
    /// Clients given up: they failed too often, or were told not to come back.
    given_up;
    /// Sessions that ended and should not have.
    lost;
    /// Heartbeats sent.
    beats_sent;
    /// Heartbeats answered.
    beats_answered;
    /// Heartbeats without an answer in time.
    beats_unanswered;
    /// Subscriptions that the server confirmed.
    subscribed;
    /// Subscriptions for which the server was too busy, and which were asked for once more.
    subscribes_repeated;
    /// Messages published.
    published;
    /// Publishes that the server answered.
    acknowledged;
    /// Messages pushed: each once to each client.
    pushed;
    /// Messages left out between two that were pushed.
    missing;
    /// Messages pushed once more.
    doubled;
    /// Messages pushed after a later one.
    reordered;
    /// Pushes that hold something else than was sent, or were for somebody else.
    garbled;
    /// Times that the server said it had left pushes out.
    behind;
    /// Texts that came back.
    echoed;
    /// Times that a session went on from another address.
    migrated;
    /// Sessions that were asked to go elsewhere.
    goaways;
    /// ERRORs.
    refused;
    /// Bytes received.
    received_bytes;
}

/// Counts and times of one thread and one interval, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    /// From the intended beginning of a connection to the session.
    pub(crate) setup: Histogram<u64>,
    /// From the intended beginning to the real one, where nothing but this generator held it up.
    pub(crate) late: Histogram<u64>,
    /// From the intended time of a heartbeat to its answer.
    pub(crate) beat: Histogram<u64>,
    /// From the intended time of a message to each push of it.
    pub(crate) delivery: Histogram<u64>,
    /// From the intended time of a publish to its SENT; from a text to its echo.
    pub(crate) answer: Histogram<u64>,
    /// First and last push of each publish, in ns of the run's clock.
    pub(crate) spreads: BTreeMap<u32, Spread>,
    /// What clients were not pushed, when the last message had had its time.
    pub(crate) losses: Vec<Gap>,
    /// ERRORs by their code.
    pub(crate) errors: BTreeMap<u32, u64>,
    /// Ended connections by reason.
    pub(crate) ends: BTreeMap<String, u64>,
}

/// When a publish reached the first and the last client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) intended_ns: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) pushed: u64,
}

/// Publishes whose first and last push are kept; of later ones only the histogram knows.
const SPREADS_MAX: usize = 4096;

impl Default for Tally {
    fn default() -> Self {
        // Three digits; grows with what is recorded.
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self {
            counts: Counts::default(),
            setup: histogram(),
            late: histogram(),
            beat: histogram(),
            delivery: histogram(),
            answer: histogram(),
            spreads: BTreeMap::new(),
            losses: Vec::new(),
            errors: BTreeMap::new(),
            ends: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// A push of the publish `serial` arrived.
    pub(crate) fn arrived(&mut self, serial: u32, intended_ns: u64, now_ns: u64) {
        if let Some(spread) = self.spreads.get_mut(&serial) {
            spread.last_ns = now_ns;
            spread.pushed += 1;
        } else if self.spreads.len() < SPREADS_MAX {
            let spread = Spread { intended_ns, first_ns: now_ns, last_ns: now_ns, pushed: 1 };
            self.spreads.insert(serial, spread);
        }
    }

    /// A connection ended.
    pub(crate) fn ended(&mut self, why: &str) {
        match self.ends.get_mut(why) {
            Some(count) => *count += 1,
            None => drop(self.ends.insert(why.to_owned(), 1)),
        }
    }

    /// Adds what another one holds, without loss.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (mine, theirs) in [
            (&mut self.setup, &other.setup),
            (&mut self.late, &other.late),
            (&mut self.beat, &other.beat),
            (&mut self.delivery, &other.delivery),
            (&mut self.answer, &other.answer),
        ] {
            mine.add(theirs).expect("histograms that grow take every value");
        }
        for (serial, theirs) in &other.spreads {
            let mine = self.spreads.entry(*serial).or_insert(Spread { pushed: 0, ..*theirs });
            mine.first_ns = mine.first_ns.min(theirs.first_ns);
            mine.last_ns = mine.last_ns.max(theirs.last_ns);
            mine.pushed += theirs.pushed;
        }
        let room = LISTED_MAX.saturating_sub(self.losses.len());
        self.losses.extend(other.losses.iter().take(room));
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        for (why, count) in &other.ends {
            *self.ends.entry(why.clone()).or_default() += count;
        }
    }
}

/// As chat clients would tell it. A text that came back counts as a delivery.
impl From<&Tally> for Recorder {
    fn from(tally: &Tally) -> Self {
        let counts = tally.counts;
        let mut recorder = Self {
            connect: tally.setup.clone(),
            late: tally.late.clone(),
            errors: tally.errors.clone(),
            ..Self::default()
        };
        if counts.echoed > 0 {
            recorder.delivery = tally.answer.clone();
        } else {
            (recorder.ack, recorder.delivery) = (tally.answer.clone(), tally.delivery.clone());
        }
        recorder.counts.connected = counts.entered;
        recorder.counts.sent = counts.published;
        recorder.counts.acknowledged = counts.acknowledged;
        recorder.counts.delivered = counts.pushed + counts.echoed;
        recorder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::record;

    #[test]
    fn merging_parts_is_tallying_the_whole() {
        let mut whole = Tally::default();
        let mut parts = [Tally::default(), Tally::default(), Tally::default()];
        for at in 0..60_u64 {
            for tally in [&mut whole, &mut parts[at as usize % 3]] {
                tally.counts.pushed += 1;
                record(&mut tally.delivery, 0, at * 1_000_000);
                tally.arrived((at % 4) as u32, 5, 100 + at);
                tally.ended(if at % 2 == 0 { "even" } else { "odd" });
                *tally.errors.entry((at % 5) as u32).or_default() += 1;
            }
        }
        let mut merged = Tally::default();
        parts.iter().for_each(|part| merged.merge(part));
        assert_eq!(merged.counts, whole.counts);
        assert_eq!((&merged.spreads, &merged.errors, &merged.ends), (&whole.spreads, &whole.errors, &whole.ends));
        assert_eq!(merged.delivery, whole.delivery);
        assert_eq!(merged.spreads[&1], Spread { intended_ns: 5, first_ns: 101, last_ns: 157, pushed: 15 });
    }
}
