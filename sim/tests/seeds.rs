//! Seeds that every run of the tests tries, and those that once failed.

use roost_sim::{Fault, FaultCounts, Outcome, Plan, run, seeds};

fn well(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    assert!(outcome.violations.is_empty(), "{plan:?}\n{}\n{:#?}", outcome.history, outcome.violations);
    outcome
}

#[test]
fn fair_weather_delivers_everything() {
    for seed in 0..3 {
        let outcome = well(&Plan { faults: false, ..Plan::of(seed) });
        assert!(outcome.acknowledged > 40 && outcome.shown > 3 * outcome.acknowledged, "{outcome:?}");
        assert_eq!(outcome.faults.total(), 0);
    }
}
