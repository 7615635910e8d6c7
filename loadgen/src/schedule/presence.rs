//! When a client leaves and comes back: by the phases, which say how many are there, and by its sleep.

use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Course, share_of};
use crate::clock::ns;
use crate::plan::{ClientNo, Plan};
use crate::scenario::{Scenario, Sleeps};

/// Where presence changes at once, everybody has a moment of its own within this time: many do not come in one.
const AT_ONCE_NS: u64 = 1_000_000_000;
/// A sleep, and a time awake, takes at least this.
const SLEEP_NS_MIN: f64 = 1e6;

/// The comings and goings of one client, as times since the load began.
#[derive(Debug)]
pub(crate) struct Presence {
    /// By the phases: when it is there, and when not, in rising order; the first one at 0.
    by_phase: Vec<(u64, bool)>,
    next_phase: usize,
    sleep: Option<Sleep>,
    there: bool,
    awake: bool,
    /// What was told last.
    told: bool,
}

#[derive(Debug)]
struct Sleep {
    of: Sleeps,
    rng: StdRng,
    next_ns: u64,
}

impl Presence {
    fn new(course: &Course, rank: f64, seed: u64, sleeps: Option<Sleeps>) -> Self {
        let mut by_phase = Vec::new();
        let mut there = true;
        let mut turn = |at: u64, now: bool| {
            if now != there {
                there = now;
                by_phase.push((at, now));
            }
        };
        for leg in &course.legs {
            let (from, to) = leg.online;
            let (a, b) = (rank < from, rank < to);
            if from == to {
                // At once, but for those who come or go by it: at the beginning of the load nobody waits.
                let spread = AT_ONCE_NS.min(leg.to_ns - leg.from_ns);
                let at =
                    if leg.from_ns == 0 { 0 } else { leg.from_ns + (share_of(seed ^ 0x6f6e) * spread as f64) as u64 };
                turn(at, b);
            } else {
                turn(leg.from_ns, a);
                let time = (leg.to_ns - leg.from_ns) as f64;
                turn(leg.from_ns + (time * (rank - from) / (to - from)).clamp(0.0, time) as u64, b);
            }
        }
        let sleep = sleeps.map(|of| {
            let mut sleep = Sleep { of, rng: StdRng::seed_from_u64(seed), next_ns: 0 };
            sleep.next_ns = sleep.draw(true);
            sleep
        });
        Self { by_phase, next_phase: 0, sleep, there: true, awake: true, told: true }
    }

    /// The next time that it leaves or comes back, and whether it is there then. The first of two at a time that end where it
    /// was is left out.
    pub(crate) fn next(&mut self) -> Option<(u64, bool)> {
        loop {
            let phase = self.by_phase.get(self.next_phase).copied();
            let sleep = self.sleep.as_ref().map(|sleep| sleep.next_ns);
            let at = match (phase, sleep) {
                (None, None) => return None,
                (Some((at, there)), sleep) if sleep.is_none_or(|sleep| at <= sleep) => {
                    self.there = there;
                    self.next_phase += 1;
                    at
                }
                (_, Some(at)) => {
                    self.awake = !self.awake;
                    let awake = self.awake;
                    let sleep = self.sleep.as_mut()?;
                    sleep.next_ns = at.saturating_add(sleep.draw(awake));
                    at
                }
                (Some(_), None) => unreachable!("the arm above takes it"),
            };
            let now = self.there && self.awake;
            if now != self.told {
                self.told = now;
                return Some((at, now));
            }
            // Who sleeps through the rest of the load after having left for good would turn here for ever.
            if !self.there && self.next_phase >= self.by_phase.len() {
                return None;
            }
        }
    }
}

impl Sleep {
    /// How long it stays awake, or asleep.
    fn draw(&mut self, awake: bool) -> u64 {
        let mean = ns(if awake { self.of.awake } else { self.of.asleep }) as f64;
        (-(1.0 - self.rng.random::<f64>()).ln() * mean).max(SLEEP_NS_MIN) as u64
    }
}

/// The comings and goings of everybody, made when they are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Presences {
    course: Arc<Course>,
    seed: u64,
}

impl Presences {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        Self { course: Arc::new(Course::of(scenario)), seed: scenario.seed }
    }

    /// `None`: it is always there.
    pub(crate) fn of_client(&self, scenario: &Scenario, plan: &Plan, client: ClientNo) -> Option<Presence> {
        let sleeps = scenario.crowd_of(client).1.sleeps;
        if sleeps.is_none() && !self.course.has_absence() {
            return None;
        }
        // All devices of a user come and go together, but sleep by themselves.
        let rank = share_of(self.seed ^ 0x7261_6e6b ^ u64::from(plan.user_of(client)) << 20);
        let seed = super::mixed(self.seed ^ 0x736c_6565 ^ u64::from(client) << 24);
        Some(Presence::new(&self.course, rank, seed, sleeps))
    }
}

/// Who of some clients is there, at times that only rise.
#[derive(Debug, Default)]
pub(crate) struct Attendance {
    of: HashMap<ClientNo, Attends>,
}

/// One of them.
#[derive(Debug)]
struct Attends {
    presence: Presence,
    there: bool,
    next: Option<(u64, bool)>,
}

impl Attendance {
    pub(crate) fn add(&mut self, client: ClientNo, mut presence: Presence) {
        let next = presence.next();
        self.of.insert(client, Attends { presence, there: true, next });
    }

    pub(crate) fn is_there(&mut self, client: ClientNo, at_ns: u64) -> bool {
        let Some(Attends { presence, there, next }) = self.of.get_mut(&client) else { return true };
        while let Some((turn_ns, now)) = *next
            && turn_ns <= at_ns
        {
            *there = now;
            *next = presence.next();
        }
        *there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Phase;

    fn ramp(from: f64, to: f64, seconds: u64) -> [Phase; 2] {
        let at = |online, gradual, hold| Phase { online, gradual, ..Phase::steady(Duration::from_secs(hold)) };
        [at(from, false, 10), at(to, true, seconds)]
    }

    #[test]
    fn as_many_are_there_as_the_phases_say() {
        let mut scenario = Scenario::idle(1000, Duration::ZERO);
        scenario.phases = [ramp(0.2, 0.8, 10), ramp(0.5, 0.0, 10)].concat();
        let (plan, presences) = (Plan::draw(&scenario), Presences::of(&scenario));
        let mut all = Attendance::default();
        (0..1000).for_each(|client| all.add(client, presences.of_client(&scenario, &plan, client).unwrap()));
        for (second, share) in [(0, 0.2), (9, 0.2), (15, 0.5), (20, 0.8), (22, 0.5), (35, 0.25), (40, 0.0)] {
            let there = (0..1000).filter(|client| all.is_there(*client, second * 1_000_000_000)).count();
            // Five deviations.
            assert!((there as f64 - share * 1000.0).abs() < 80.0, "{second}: {there}");
        }
    }

    #[test]
    fn sleepers_turn_about_as_often_as_their_times_say() {
        let mut scenario = Scenario::idle(100, Duration::from_secs(1000));
        let (awake, asleep) = (Duration::from_secs(6), Duration::from_secs(4));
        scenario.crowds[0].sleeps = Some(Sleeps { awake, asleep });
        let (plan, presences) = (Plan::draw(&scenario), Presences::of(&scenario));
        let (mut turns, mut there) = (0, 0);
        for client in 0..100 {
            let (mut presence, mut last, mut now) = (presences.of_client(&scenario, &plan, client).unwrap(), 0, true);
            while let Some((at, next)) = presence.next().filter(|(at, _)| *at < 1_000_000_000_000) {
                assert!(at >= last && next != now);
                there += if now { at - last } else { 0 };
                (turns, last, now) = (turns + 1, at, next);
            }
        }
        assert!((18_000..22_000).contains(&turns), "{turns}");
        let share = there as f64 / 1e14;
        assert!((0.57..0.63).contains(&share), "{share}");
    }

    #[test]
    fn who_has_left_for_good_has_no_further_turns() {
        let mut scenario = Scenario::idle(10, Duration::ZERO);
        scenario.phases = ramp(1.0, 0.0, 10).to_vec();
        scenario.crowds[0].sleeps = Some(Sleeps { awake: Duration::from_secs(1), asleep: Duration::from_secs(1) });
        let (plan, presences) = (Plan::draw(&scenario), Presences::of(&scenario));
        for client in 0..10 {
            let mut presence = presences.of_client(&scenario, &plan, client).unwrap();
            let last = std::iter::from_fn(|| presence.next()).last().unwrap();
            assert!(!last.1 && last.0 <= 20_000_000_000, "{last:?}");
        }
    }
}
