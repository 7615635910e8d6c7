//! Which load to try next, and what the tries say: without a clock, without I/O.
//!
//! The load rises by a factor until it is too much, then the gap is halved (by ratio) until it is narrow, then what held
//! is tried again until it held often enough. A measurement is noisy: what fails once is tried again before it counts,
//! and what held in the search and fails when it is to be confirmed is too much after all.
//!
//! Invariants:
//! - the answer held in most of its runs, and no load that is known to be too much is below it;
//! - the search ends: after [`Settings::runs_max`] runs at the latest.

use serde::{Deserialize, Serialize};

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The load to begin with.
    pub(crate) from: f64,
    /// No more than this is tried.
    pub(crate) to: Option<f64>,
    /// By what the load rises at first; above 1.
    pub(crate) growth: f64,
    /// How far apart what holds and what is too much may be in the end, as a share.
    pub(crate) precision: f64,
    /// Runs of the answer in all, of which two in three must hold.
    pub(crate) confirmations: u32,
    /// Runs in all.
    pub(crate) runs_max: u32,
}

/// Why a load is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Nothing was too much yet.
    Climb,
    /// Everything was too much yet.
    Descend,
    /// It was not clear.
    Again,
    /// Between what held and what was too much.
    Bisect,
    /// It is to be the answer.
    Confirm,
}

impl Purpose {
    /// For people, and in `capacity.json`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Climb => "climb",
            Self::Descend => "descend",
            Self::Again => "again",
            Self::Bisect => "bisect",
            Self::Confirm => "confirm",
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Judged {
    /// Every objective was met.
    Held,
    /// One was not, or something was lost.
    Failed,
    /// The generator was the limit: it says nothing about the server, but more cannot be tried.
    Generator,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Run with this load.
    Run(f64, Purpose),
    /// The search is over.
    Over,
}

/// What keeps the answer from being higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// More did not meet the objectives.
    Objective,
    /// More was too much for the generator: the server may carry more.
    Generator,
    /// More was not asked for.
    Asked,
    /// Even the least load that was tried was too much.
    Nothing,
    /// There were no more runs.
    Runs,
    /// Somebody stopped the search.
    Stopped,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The highest load that holds; `None` if none does.
    pub(crate) load: Option<f64>,
    /// The lowest load that was too much; `None` if none was.
    pub(crate) above: Option<f64>,
    pub(crate) bound: Bound,
    /// Runs with this load, and those of them that held.
    pub(crate) runs: u32,
    pub(crate) held: u32,
    /// It held as often as it was to.
    pub(crate) confirmed: bool,
}

/// Below this part of the first load it is not worth going on.
const DESCENT_MAX: f64 = 1000.0;

#[derive(Clone, Copy, Debug)]
struct Level {
    load: f64,
    held: u32,
    failed: u32,
    generator: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Open,
    Holds,
    TooMuch,
}

impl Level {
    const fn runs(self) -> u32 {
        self.held + self.failed + self.generator
    }

    /// Once is enough for what holds, twice for what does not; else two in three.
    const fn decision(self) -> Decision {
        let against = self.failed + self.generator;
        match (self.held, against) {
            (0, 0 | 1) | (1, 1) => Decision::Open,
            (held, against) if held >= against * 2 => Decision::Holds,
            _ => Decision::TooMuch,
        }
    }
}

/// A search on its way.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    settings: Settings,
    /// In rising order.
    levels: Vec<Level>,
    runs: u32,
    stopped: bool,
}

impl Search {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self { settings, levels: Vec::new(), runs: 0, stopped: false }
    }

    /// Nothing more will be tried.
    pub(crate) const fn stop(&mut self) {
        self.stopped = true;
    }

    /// What to do next. The same until a run is [told](Self::tell).
    pub(crate) fn next(&self) -> Next {
        if self.stopped || self.runs >= self.settings.runs_max {
            return Next::Over;
        }
        self.next_ignoring_runs()
    }

    fn next_ignoring_runs(&self) -> Next {
        if let Some(open) = self.levels.iter().find(|level| level.decision() == Decision::Open) {
            return Next::Run(open.load, Purpose::Again);
        }
        let Settings { from, to, growth, .. } = self.settings;
        match (self.holds(), self.too_much()) {
            (None, None) => Next::Run(to.map_or(from, |to| from.min(to)), Purpose::Climb),
            (None, Some(high)) => match round(high.load / growth) {
                load if load < from / DESCENT_MAX || load >= high.load || load < 1.0 => Next::Over,
                load => Next::Run(load, Purpose::Descend),
            },
            (Some(low), None) => match to {
                Some(to) if low.load >= to => self.confirm(low),
                _ => {
                    let load = round(low.load * growth).max(low.load + 1.0);
                    Next::Run(to.map_or(load, |to| load.min(to)), Purpose::Climb)
                }
            },
            (Some(low), Some(high)) => {
                let between = round((low.load * high.load).sqrt());
                let narrow = high.load <= low.load * (1.0 + self.settings.precision);
                if narrow || between <= low.load || between >= high.load {
                    return self.confirm(low);
                }
                Next::Run(between, Purpose::Bisect)
            }
        }
    }

    /// A run with `load` came to this.
    pub(crate) fn tell(&mut self, load: f64, judged: Judged) {
        self.runs += 1;
        let at = self.levels.partition_point(|level| level.load < load);
        if self.levels.get(at).is_none_or(|level| level.load > load) {
            self.levels.insert(at, Level { load, held: 0, failed: 0, generator: 0 });
        }
        let level = &mut self.levels[at];
        match judged {
            Judged::Held => level.held += 1,
            Judged::Failed => level.failed += 1,
            Judged::Generator => level.generator += 1,
        }
    }

    /// What is known now.
    pub(crate) fn found(&self) -> Found {
        let (low, high) = (self.holds(), self.too_much());
        let exhausted = self.runs >= self.settings.runs_max && self.next_ignoring_runs() != Next::Over;
        let bound = match (low, high) {
            _ if self.stopped => Bound::Stopped,
            (None, _) => Bound::Nothing,
            _ if exhausted => Bound::Runs,
            (_, Some(high)) if high.generator >= high.failed => Bound::Generator,
            (_, Some(_)) => Bound::Objective,
            (_, None) => Bound::Asked,
        };
        let (runs, held) = low.map_or((0, 0), |low| (low.runs(), low.held));
        Found {
            load: low.map(|low| low.load),
            above: high.map(|high| high.load),
            bound,
            runs,
            held,
            confirmed: runs >= self.settings.confirmations && low.is_some(),
        }
    }

    fn confirm(&self, low: Level) -> Next {
        if low.runs() < self.settings.confirmations { Next::Run(low.load, Purpose::Confirm) } else { Next::Over }
    }

    /// The lowest load that is too much.
    fn too_much(&self) -> Option<Level> {
        self.levels.iter().find(|level| level.decision() == Decision::TooMuch).copied()
    }

    /// The highest load that holds below what is too much.
    fn holds(&self) -> Option<Level> {
        let below = self.levels.iter().take_while(|level| level.decision() != Decision::TooMuch);
        below.filter(|level| level.decision() == Decision::Holds).last().copied()
    }
}

/// A load that people can say: three digits.
pub(crate) fn round(load: f64) -> f64 {
    if load < 100.0 {
        return load.round();
    }
    let unit = 10f64.powf(load.log10().floor() - 2.0);
    (load / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const SETTINGS: Settings =
        Settings { from: 100.0, to: None, growth: 2.0, precision: 0.1, confirmations: 3, runs_max: 60 };

    /// Searches a server that `judge` stands for.
    fn search(settings: Settings, mut judge: impl FnMut(f64) -> Judged) -> (Found, Vec<(f64, Purpose)>) {
        let (mut search, mut tried) = (Search::new(settings), Vec::new());
        while let Next::Run(load, purpose) = search.next() {
            tried.push((load, purpose));
            assert!(tried.len() as u32 <= settings.runs_max, "it does not end");
            search.tell(load, judge(load));
        }
        (search.found(), tried)
    }

    fn knee(at: f64) -> impl FnMut(f64) -> Judged {
        move |load| if load <= at { Judged::Held } else { Judged::Failed }
    }

    #[test]
    fn it_climbs_bisects_and_confirms() {
        let (found, tried) = search(SETTINGS, knee(1000.0));
        assert_eq!(tried[..4].iter().map(|(load, _)| *load).collect::<Vec<_>>(), [100.0, 200.0, 400.0, 800.0]);
        assert_eq!(tried[4], (1600.0, Purpose::Climb));
        assert_eq!(tried[5], (1600.0, Purpose::Again), "what fails is tried again");
        assert!(tried[6].1 == Purpose::Bisect && tried.last().unwrap().1 == Purpose::Confirm);
        assert_eq!((found.bound, found.runs, found.held, found.confirmed), (Bound::Objective, 3, 3, true));
        assert!(found.load.unwrap() <= 1000.0 && found.above.unwrap() > 1000.0);
    }

    #[test]
    fn the_generator_ends_the_search_upward_and_is_named() {
        let judge = |load| if load > 700.0 { Judged::Generator } else { Judged::Held };
        let (found, tried) = search(SETTINGS, judge);
        assert_eq!(found.bound, Bound::Generator);
        assert!(found.load.unwrap() <= 700.0);
        assert!(tried.iter().all(|(load, _)| *load <= 800.0), "nothing above what it could not do: {tried:?}");
    }

    #[test]
    fn no_more_is_tried_than_was_asked_for() {
        let (found, tried) = search(Settings { to: Some(500.0), ..SETTINGS }, knee(1e9));
        assert_eq!((found.load, found.bound, found.above), (Some(500.0), Bound::Asked, None));
        assert!(tried.iter().all(|(load, _)| *load <= 500.0) && found.confirmed);
    }

    #[test]
    fn a_server_that_carries_less_than_the_first_load_is_met_from_above() {
        let (found, tried) = search(SETTINGS, knee(30.0));
        assert!(tried.iter().any(|(_, purpose)| *purpose == Purpose::Descend));
        assert!((27.0..=30.0).contains(&found.load.unwrap()), "{found:?}");
        let (found, _) = search(SETTINGS, knee(0.0));
        assert_eq!((found.load, found.bound), (None, Bound::Nothing));
    }

    #[test]
    fn what_held_once_and_fails_when_it_is_confirmed_is_too_much() {
        let mut lucky = true;
        // Above 500 it holds the first time only.
        let judge = |load: f64| match load {
            ..=500.0 => Judged::Held,
            ..=1000.0 if std::mem::take(&mut lucky) => Judged::Held,
            _ => Judged::Failed,
        };
        let (found, _) = search(SETTINGS, judge);
        assert!((450.0..=500.0).contains(&found.load.unwrap()), "{found:?}");
    }

    #[test]
    fn a_search_that_was_stopped_says_what_it_knew() {
        let mut search = Search::new(SETTINGS);
        for load in [100.0, 200.0] {
            search.tell(load, Judged::Held);
        }
        search.stop();
        assert_eq!(search.next(), Next::Over);
        let found = search.found();
        assert_eq!((found.load, found.bound, found.confirmed), (Some(200.0), Bound::Stopped, false));
    }

    #[test]
    fn verdicts_that_are_wrong_now_and_then_rarely_lead_astray() {
        let mut astray = 0;
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let judge = |load| {
                let wrong = rng.random::<f64>() < 0.05;
                if (load <= 3000.0) ^ wrong { Judged::Held } else { Judged::Failed }
            };
            let (found, _) = search(SETTINGS, judge);
            astray += u32::from(!found.load.is_some_and(|load| (2500.0..=3300.0).contains(&load)));
        }
        assert!(astray <= 15, "{astray} of 300");
    }

    proptest! {
        #[test]
        fn the_knee_is_found_within_the_precision(at in 2.0f64..5_000_000.0, from in 1.0f64..10_000.0) {
            let (found, _) = search(Settings { from, ..SETTINGS }, knee(at));
            let load = found.load.unwrap();
            prop_assert!(load <= at, "{found:?}");
            let above = found.above.unwrap();
            prop_assert!(above > at);
            // Whole numbers and three digits allow no less where loads are small.
            prop_assert!(above <= load * 1.1 || above - load <= 1.0 || round((load * above).sqrt()) <= load, "{found:?}");
            prop_assert!(found.confirmed && found.bound == Bound::Objective);
        }

        #[test]
        fn noise_moves_the_answer_by_no_more_than_itself(at in 50.0f64..100_000.0, seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let judge = |load: f64| {
                // What is measured is off by up to 8 %.
                let noise = 1.0 + (rng.random::<f64>() - 0.5) * 0.16;
                if load * noise <= at { Judged::Held } else { Judged::Failed }
            };
            let (found, _) = search(SETTINGS, judge);
            let load = found.load.unwrap();
            prop_assert!(load <= at * 1.09 + 1.0 && load >= at / 1.09 / 1.11 - 2.0, "{at}: {found:?}");
        }

        #[test]
        fn whatever_it_is_told_it_ends_and_the_answer_held(verdicts in prop::collection::vec(0..3u8, 200)) {
            let mut verdicts = verdicts.into_iter();
            let mut told: Vec<(f64, Judged)> = Vec::new();
            let judge = |load: f64| {
                let judged = match verdicts.next().unwrap_or(1) {
                    0 => Judged::Held,
                    1 => Judged::Failed,
                    _ => Judged::Generator,
                };
                told.push((load, judged));
                judged
            };
            let (found, tried) = search(SETTINGS, judge);
            prop_assert!(tried.len() <= 60);
            if let Some(load) = found.load {
                let of: Vec<_> = told.iter().filter(|(at, _)| *at == load).collect();
                let held = of.iter().filter(|(_, judged)| *judged == Judged::Held).count();
                prop_assert!(held * 3 >= of.len() * 2);
                prop_assert!(found.above.is_none_or(|above| above > load));
            }
        }
    }
}
