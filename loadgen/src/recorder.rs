//! What was measured: histograms and counts of one thread and one interval, merged without loss.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as Reader, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest time recorded as itself; longer ones count as this much: an hour, in microseconds.
const TIME_US_MAX: u64 = 3_600_000_000;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// Events counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counts {
            /// Adds what another one counted.
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)+ }
        }
    };
}

counts! {
    /// Messages whose intended time came.
    intended;
    /// Of these, not sent: the session was down or had too many commands in flight.
    unsent;
    /// Messages written to a socket.
    sent;
    /// Messages answered with SENT.
    acknowledged;
    /// Messages answered with ERROR.
    refused;
    /// Messages whose answer was lost with their connection.
    cut_off;
    /// Messages pushed to a session that did not have them.
    delivered;
    /// Messages read from the log because no push had brought them.
    caught_up;
    /// Pushes of what was pushed to the session before.
    duplicated;
    /// Pushes that came after a later one of the same conversation.
    reordered;
    /// Messages whose content is not what was sent.
    garbled;
    /// CHANGED pushes with `more`: the server left something out.
    behind;
    /// ACKs sent.
    marks;
    /// Receipts, typing, presence and the like received.
    other_pushes;
    /// Bytes received.
    received_bytes;
    /// Connections established, reconnects included.
    connected;
    /// Connections that failed before they were a session.
    connect_failures;
    /// Sessions that ended by themselves.
    dropped;
    /// Times that a session went on from another address.
    migrated;
    /// Sessions that were ended on purpose: asleep, gone for the day, in a storm, between networks.
    left;
    /// And those that came back from it.
    returned;
    /// Messages that answered others, of agents and bots.
    answers;
}

/// Histograms in microseconds, with counts and errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorder {
    /// From the intended time of a message to its SENT.
    #[serde(serialize_with = "told", deserialize_with = "heard")]
    pub ack: Histogram<u64>,
    /// From the intended time of a message to each push of it.
    #[serde(serialize_with = "told", deserialize_with = "heard")]
    pub delivery: Histogram<u64>,
    /// From the intended time of a message to its write.
    #[serde(serialize_with = "told", deserialize_with = "heard")]
    pub late: Histogram<u64>,
    /// From opening a connection to WELCOME.
    #[serde(serialize_with = "told", deserialize_with = "heard")]
    pub connect: Histogram<u64>,
    /// The rest.
    pub counts: Counts,
    /// ERRORs by their code.
    pub errors: BTreeMap<u32, u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        // Three digits; grows with what is recorded.
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self {
            ack: histogram(),
            delivery: histogram(),
            late: histogram(),
            connect: histogram(),
            counts: Counts::default(),
            errors: BTreeMap::new(),
        }
    }
}

impl Recorder {
    /// Adds what another recorder holds, without loss.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.ack, &other.ack),
            (&mut self.delivery, &other.delivery),
            (&mut self.late, &other.late),
            (&mut self.connect, &other.connect),
        ] {
            mine.add(theirs).expect("histograms that grow take every value");
        }
        self.counts.add(&other.counts);
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }
}

/// A histogram as text: HdrHistogram's V2 form in base64. Nothing is lost by it.
fn told<S: Serializer>(histogram: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| serde::ser::Error::custom(format!("{error:?}")))?;
    to.serialize_str(&STANDARD.encode(bytes))
}

/// A histogram from its text.
fn heard<'de, D: Deserializer<'de>>(from: D) -> Result<Histogram<u64>, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
    let histogram = Reader::new().deserialize::<u64, _>(&mut &*bytes);
    let histogram = histogram.map_err(|error| serde::de::Error::custom(format!("no histogram: {error:?}")))?;
    // One of our own making, so that it grows with what is added.
    let mut own = Histogram::new(3).expect("three digits are allowed");
    own.add(&histogram).map_err(|error| serde::de::Error::custom(format!("no histogram of ours: {error:?}")))?;
    Ok(own)
}

/// Records the time from `from_ns` to `to_ns`.
pub fn record(histogram: &mut Histogram<u64>, from_ns: u64, to_ns: u64) {
    let us = (to_ns.saturating_sub(from_ns) / 1000).min(TIME_US_MAX);
    histogram.record(us).expect("a histogram that grows takes every value");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merging_parts_is_recording_the_whole(
            values in prop::collection::vec((0..TIME_US_MAX * 2, 0..4usize, 1..600u32), 0..200), parts in 1..5usize,
        ) {
            let mut whole = Recorder::default();
            let mut split = vec![Recorder::default(); parts];
            for (at, (us, which, code)) in values.iter().enumerate() {
                for recorder in [&mut whole, &mut split[at % parts]] {
                    let histogram = match which {
                        0 => &mut recorder.ack,
                        1 => &mut recorder.delivery,
                        2 => &mut recorder.late,
                        _ => &mut recorder.connect,
                    };
                    record(histogram, 5, 5 + us.saturating_mul(1000));
                    recorder.counts.sent += 1;
                    *recorder.errors.entry(*code).or_default() += 1;
                }
            }
            let mut merged = Recorder::default();
            split.iter().for_each(|part| merged.merge(part));
            // What went over a wire is the same.
            let merged: Recorder = serde_json::from_str(&serde_json::to_string(&merged).unwrap()).unwrap();
            prop_assert_eq!(merged.counts, whole.counts);
            prop_assert_eq!(&merged.errors, &whole.errors);
            for (a, b) in [
                (&merged.ack, &whole.ack), (&merged.delivery, &whole.delivery),
                (&merged.late, &whole.late), (&merged.connect, &whole.connect),
            ] {
                prop_assert_eq!(a, b);
                prop_assert_eq!(a.max(), b.max());
            }
        }
    }

    #[test]
    fn a_time_is_kept_to_three_digits_and_never_below_nothing() {
        let mut recorder = Recorder::default();
        record(&mut recorder.ack, 1_000_000, 0);
        assert_eq!(recorder.ack.max(), 0);
        record(&mut recorder.ack, 0, 123_456_789_000);
        let max = recorder.ack.max();
        assert!(max.abs_diff(123_456_789) <= 123_457, "{max}");
    }
}
