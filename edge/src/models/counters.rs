//! Counters that one thread writes without a locked instruction, and others read.

use std::sync::Arc;
use std::time::Duration;

use super::explore;
use crate::metrics::LoopMetrics;

#[test]
fn readers_never_see_a_counter_go_back_and_the_last_sum_is_exact() {
    explore(None, || {
        let metrics = Arc::new(LoopMetrics::default());
        let writer = {
            let metrics = metrics.clone();
            loom::thread::spawn(move || {
                metrics.wrote(1);
                metrics.turned(Duration::from_nanos(1), true, 3);
                metrics.wrote(1);
            })
        };
        let (first, second) = (metrics.snapshot(0), metrics.snapshot(0));
        assert!(first.writes <= second.writes && first.turns <= second.turns, "{first:?} then {second:?}");
        writer.join().unwrap();
        let last = metrics.snapshot(0);
        assert_eq!((last.writes, last.turns, last.turns_exhausted), (2, 1, 1));
        assert_eq!(last.busy, Duration::from_nanos(1));
    });
}

#[test]
fn the_acceptor_never_thinks_a_shard_freer_than_it_is_by_more_than_what_it_just_took() {
    explore(None, || {
        let metrics = Arc::new(LoopMetrics::default());
        let shard = {
            let metrics = metrics.clone();
            loom::thread::spawn(move || {
                metrics.taken();
                metrics.turned(Duration::ZERO, false, 1);
            })
        };
        assert!(metrics.load(1) <= 2, "one connection, counted at most twice on its way");
        shard.join().unwrap();
        assert_eq!(metrics.load(1), 1);
    });
}
