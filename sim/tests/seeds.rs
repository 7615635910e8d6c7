//! Seeds that every run of the tests tries, those that once failed among them.
//!
//! In debug builds the shards check their own invariants after every input as well.

use roost_sim::{Fault, FaultCounts, Outcome, Plan, run, seeds};

/// Seeds of every run, from 0 on.
const SEEDS: u64 = 200;

fn well(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    let seed = plan.seed;
    assert!(
        outcome.violations.is_empty(),
        "{}\n{:#?}\nto repeat it: cargo xtask sim replay --seed {seed}   ({plan:?})",
        outcome.history,
        outcome.violations
    );
    outcome
}

#[test]
fn fair_weather_delivers_everything() {
    for seed in 0..3 {
        let outcome = well(&Plan { faults: false, ..Plan::of(seed) });
        assert!(outcome.acknowledged > 40 && outcome.shown > outcome.acknowledged, "{outcome:?}");
        assert_eq!(outcome.faults.total(), 0);
    }
}

#[test]
fn a_session_that_moves_is_one_session_to_its_app() {
    let (mut moves, mut followed) = (0, 0);
    for seed in 0..20 {
        let outcome = well(&Plan { faults: false, moving: true, ..Plan::of(seed) });
        moves += outcome.moves;
        followed += outcome.followed;
    }
    assert!(moves > 100 && followed > 20, "{moves} moves, {followed} addresses followed");
}

#[test]
fn f14_f18_nothing_acknowledged_is_lost_doubled_or_reordered_and_every_kind_of_fault_happens() {
    let (mut faults, mut acknowledged, mut memberships) = (FaultCounts::default(), 0, 0);
    let (mut native, mut moves, mut followed) = (0, 0, 0);
    for seed in 0..SEEDS {
        let outcome = well(&Plan::of(seed));
        faults += &outcome.faults;
        acknowledged += outcome.acknowledged;
        memberships += outcome.memberships;
        native += outcome.native;
        moves += outcome.moves;
        followed += outcome.followed;
    }
    println!("{SEEDS} seeds, {acknowledged} acknowledged, {memberships} changes of membership, faults:\n{faults}");
    println!("{native} sessions by QUIC, {moves} handed over, {followed} addresses followed");
    let never: Vec<&str> = faults.iter().filter(|(_, count)| *count == 0).map(|(fault, _)| fault.name()).collect();
    assert!(never.is_empty(), "in {SEEDS} seeds these never happened: {never:?}");
    assert!(faults.of(Fault::WritesLost) > SEEDS / 10, "the fsync boundary is hardly tried");
    assert!(acknowledged > 50 * SEEDS && memberships > SEEDS, "{acknowledged} {memberships}");
    assert!(native > 4 * SEEDS && moves > 2 * SEEDS && followed > SEEDS / 10, "{native} {moves} {followed}");
}

#[test]
fn the_seeds_that_once_failed_are_well() {
    for once in seeds::once_failed() {
        well(&Plan::of(once.seed));
    }
}

#[test]
fn f18_a_larger_deployment_is_well_too() {
    for seed in 1000..1003 {
        well(&Plan { people: 8, nodes: Some(4), acts: 200, ..Plan::of(seed) });
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        let plan = Plan { acts: 60, ..Plan::of(seed) };
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(first, second, "seed {seed}: something depends on chance that is not the seed's");
    }
}
