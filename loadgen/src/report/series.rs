//! The load second by second. A second's recorder is kept while threads may still add to it, then only its summary.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::recorder::Recorder;

/// How many seconds are open at once: threads tell within a fraction of one.
const OPEN_MAX: usize = 4;
/// Seconds kept. Later ones are added to the last: a report of days is not read by the second.
const SECONDS_MAX: u64 = 24 * 3600;

/// What happened in one second of the load, at the generator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Second {
    /// Counted from 0.
    pub second: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    pub errors: u64,
    pub ack_p99_us: u64,
    pub delivery_p50_us: u64,
    pub delivery_p99_us: u64,
    pub delivery_max_us: u64,
}

/// All seconds so far.
#[derive(Debug, Default)]
pub(crate) struct Series {
    closed: Vec<Second>,
    open: BTreeMap<u64, Recorder>,
}

impl Series {
    /// Adds what a thread measured in a second.
    pub(crate) fn add(&mut self, second: u64, recorder: Recorder) {
        let second = second.min(SECONDS_MAX);
        if let Some(late) = self.closed.iter_mut().find(|closed| closed.second == second) {
            // Of a thread that was stuck: its counts still count.
            late.sent += recorder.counts.sent;
            late.acknowledged += recorder.counts.acknowledged;
            late.delivered += recorder.counts.delivered;
            late.errors += recorder.errors.values().sum::<u64>();
            return;
        }
        match self.open.get_mut(&second) {
            Some(open) => open.merge(&recorder),
            None => {
                self.open.insert(second, recorder);
            }
        }
        while self.open.len() > OPEN_MAX {
            self.close_first();
        }
    }

    /// A second that is still open.
    pub(crate) fn peek(&self, second: u64) -> Option<&Recorder> {
        self.open.get(&second)
    }

    /// Nothing more comes.
    pub(crate) fn close(&mut self) {
        while !self.open.is_empty() {
            self.close_first();
        }
    }

    /// In rising order.
    pub(crate) fn seconds(&self) -> &[Second] {
        &self.closed
    }

    fn close_first(&mut self) {
        let Some((second, recorder)) = self.open.pop_first() else { return };
        self.closed.push(Second {
            second,
            sent: recorder.counts.sent,
            acknowledged: recorder.counts.acknowledged,
            delivered: recorder.counts.delivered,
            errors: recorder.errors.values().sum(),
            ack_p99_us: recorder.ack.value_at_quantile(0.99),
            delivery_p50_us: recorder.delivery.value_at_quantile(0.5),
            delivery_p99_us: recorder.delivery.value_at_quantile(0.99),
            delivery_max_us: recorder.delivery.max(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::record;

    fn recorder(delivered: u64, us: u64) -> Recorder {
        let mut recorder = Recorder::default();
        recorder.counts.delivered = delivered;
        record(&mut recorder.delivery, 0, us * 1000);
        recorder
    }

    #[test]
    fn threads_add_up_and_a_late_one_still_counts() {
        let mut series = Series::default();
        series.add(0, recorder(3, 10));
        series.add(0, recorder(4, 30));
        for second in 1..=OPEN_MAX as u64 {
            series.add(second, recorder(1, 1));
        }
        series.add(0, recorder(5, 1000));
        series.close();
        let seconds = series.seconds();
        assert_eq!(seconds.len(), OPEN_MAX + 1);
        assert_eq!((seconds[0].delivered, seconds[0].delivery_max_us), (12, 30));
        assert!(seconds.iter().enumerate().all(|(at, second)| second.second == at as u64));
    }
}
