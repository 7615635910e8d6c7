//! The load second by second. A second's histograms are kept while threads may still add to it, then only its summary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recorder::Recorder;

/// How many seconds are open at once: threads tell within a fraction of one.
const OPEN_MAX: usize = 4;
/// Seconds kept. Later ones are added to the last: a report of days is not read by the second.
const SECONDS_MAX: u64 = 24 * 3600;

/// What happened in one second of the load, at the generator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Second {
    /// Counted from 0.
    pub second: u64,
    /// Sessions at its end; `None` if nobody told.
    pub live: Option<u64>,
    /// Sessions that came about.
    pub connected: u64,
    pub sent: u64,
    /// Messages whose time came and that could not be sent.
    pub unsent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    pub errors: u64,
    pub ack_p50_us: u64,
    pub ack_p99_us: u64,
    pub delivery_p50_us: u64,
    pub delivery_p99_us: u64,
    pub delivery_p999_us: u64,
    pub delivery_max_us: u64,
}

/// All seconds so far.
#[derive(Debug, Default)]
pub(crate) struct Series {
    closed: Vec<Second>,
    open: BTreeMap<u64, Recorder>,
    live: BTreeMap<u64, u64>,
}

impl Series {
    /// Adds what a thread measured in a second.
    pub(crate) fn add(&mut self, second: u64, recorder: Recorder) {
        let second = second.min(SECONDS_MAX);
        if let Some(late) = self.closed.iter_mut().rev().find(|closed| closed.second == second) {
            // Of a thread that was stuck: its counts still count.
            late.connected += recorder.counts.connected;
            late.sent += recorder.counts.sent;
            late.unsent += recorder.counts.unsent;
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

    /// So many sessions are live in that second, all threads together.
    pub(crate) fn live(&mut self, second: u64, live: u64) {
        let second = second.min(SECONDS_MAX);
        self.live.insert(second, live);
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
        self.closed.sort_by_key(|second| second.second);
        self.fill();
        // Nobody tells while nothing changes.
        let mut known = None;
        for second in &mut self.closed {
            known = self.live.get(&second.second).copied().or(known);
            second.live = known;
        }
    }

    /// What was delivered in the seconds whose middle lies in a stretch of the load.
    pub(crate) fn delivered_between(&self, from_s: f64, to_s: f64) -> u64 {
        let inside = |second: &&Second| (from_s..to_s).contains(&(second.second as f64 + 0.5));
        self.closed.iter().filter(inside).map(|second| second.delivered).sum()
    }

    /// In rising order.
    pub(crate) fn seconds(&self) -> &[Second] {
        &self.closed
    }

    /// A second of which nobody told anything had nothing in it.
    fn fill(&mut self) {
        let last = self.closed.last().map(|second| second.second).max(self.live.keys().last().copied());
        let Some(last) = last else { return };
        let mut told = std::mem::take(&mut self.closed).into_iter().peekable();
        for second in 0..=last {
            let here = told.next_if(|told| told.second == second);
            self.closed.push(here.unwrap_or_else(|| Second { second, ..Second::default() }));
        }
    }

    fn close_first(&mut self) {
        let Some((second, recorder)) = self.open.pop_first() else { return };
        self.closed.push(Second {
            second,
            live: None,
            connected: recorder.counts.connected,
            sent: recorder.counts.sent,
            unsent: recorder.counts.unsent,
            acknowledged: recorder.counts.acknowledged,
            delivered: recorder.counts.delivered,
            errors: recorder.errors.values().sum(),
            ack_p50_us: recorder.ack.value_at_quantile(0.5),
            ack_p99_us: recorder.ack.value_at_quantile(0.99),
            delivery_p50_us: recorder.delivery.value_at_quantile(0.5),
            delivery_p99_us: recorder.delivery.value_at_quantile(0.99),
            delivery_p999_us: recorder.delivery.value_at_quantile(0.999),
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
        series.live(1, 7);
        series.close();
        let seconds = series.seconds();
        assert_eq!(seconds.len(), OPEN_MAX + 1);
        assert_eq!((seconds[0].delivered, seconds[0].delivery_max_us), (12, 30));
        assert_eq!((seconds[0].live, seconds[1].live, seconds[2].live), (None, Some(7), Some(7)));
        assert!(seconds.iter().enumerate().all(|(at, second)| second.second == at as u64));
    }

    #[test]
    fn a_second_of_which_nobody_told_is_one_with_nothing_in_it() {
        let mut series = Series::default();
        series.add(1, recorder(3, 10));
        series.add(4, recorder(2, 10));
        series.close();
        assert_eq!((series.delivered_between(0.0, 2.0), series.delivered_between(1.6, 5.0)), (3, 2));
        let delivered: Vec<u64> = series.seconds().iter().map(|second| second.delivered).collect();
        assert_eq!(delivered, [0, 3, 0, 0, 2]);
        let mut none = Series::default();
        none.close();
        assert!(none.seconds().is_empty());
    }
}
