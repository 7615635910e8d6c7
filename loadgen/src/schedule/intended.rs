//! Every message that is meant to be sent, in the order of time.

use std::collections::HashMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Presences;
use super::course::{Course, Leg};
use super::presence::Attendance;
use crate::plan::{ClientNo, Conv, Kind, Plan};
use crate::scenario::{Arrivals, Load, Scenario};

/// Who may speak where, by crowd.
#[derive(Debug)]
pub(crate) struct Speakers {
    crowds: Vec<OfCrowd>,
    /// The direct conversation of a client, for a closed model.
    direct: HashMap<ClientNo, Conv>,
}

#[derive(Debug)]
struct OfCrowd {
    /// Direct, group, channel.
    kinds: [Vec<(ClientNo, Conv)>; 3],
    /// Messages per second to each kind, at a pace of 1.
    rates: [f64; 3],
}

impl Speakers {
    pub(crate) fn of(scenario: &Scenario, plan: &Plan) -> Self {
        let mut kinds: Vec<[Vec<_>; 3]> = scenario.crowds.iter().map(|_| Default::default()).collect();
        let bounds: Vec<u32> = scenario
            .crowds
            .iter()
            .scan(0, |end, crowd| {
                *end += crowd.clients();
                Some(*end)
            })
            .collect();
        let mut direct = HashMap::new();
        for (conv, planned) in plan.conversations.iter().enumerate() {
            let kind = match planned.kind {
                Kind::Direct => 0,
                Kind::Group => 1,
                Kind::Channel => 2,
            };
            for member in &planned.members[..planned.writers as usize] {
                let crowd = bounds.partition_point(|end| end <= member);
                kinds[crowd][kind].push((*member, conv as Conv));
                if kind == 0 {
                    direct.insert(*member, conv as Conv);
                }
            }
        }
        let crowds = scenario.crowds.iter().zip(kinds).map(|(crowd, kinds)| {
            let shares = [crowd.shares.direct, crowd.shares.group, crowd.shares.channel];
            // Kinds without speakers get nothing: their share goes to the others.
            let there = |kind: usize| if kinds[kind].is_empty() { 0.0 } else { shares[kind].max(0.0) };
            let sum: f64 = (0..3).map(there).sum();
            let rate = |kind| if sum > 0.0 { crowd.sends_per_second * there(kind) / sum } else { 0.0 };
            let rates = std::array::from_fn(rate);
            OfCrowd { kinds, rates }
        });
        Self { crowds: crowds.collect(), direct }
    }

    /// The direct conversation of a client.
    pub(crate) fn direct(&self, client: ClientNo) -> Option<Conv> {
        self.direct.get(&client).copied()
    }

    /// Those that have one.
    pub(crate) fn direct_clients(&self) -> impl Iterator<Item = ClientNo> {
        self.direct.keys().copied()
    }

    fn per_second(&self) -> f64 {
        self.crowds.iter().flat_map(|crowd| crowd.rates).sum()
    }

    /// Draws who speaks next, and where.
    fn draw(&self, total: f64, rng: &mut StdRng) -> Option<(ClientNo, Conv, Kind)> {
        let mut at = rng.random::<f64>() * total;
        let mut last = None;
        for (crowd, kind) in self.crowds.iter().flat_map(|crowd| (0..3).map(move |kind| (crowd, kind))) {
            let rate = crowd.rates[kind];
            if rate <= 0.0 {
                continue;
            }
            last = Some((crowd, kind));
            at -= rate;
            if at < 0.0 {
                break;
            }
        }
        let (crowd, kind) = last?;
        let speakers = &crowd.kinds[kind];
        let (client, conv) = *speakers.get(rng.random_range(0..speakers.len()))?;
        Some((client, conv, [Kind::Direct, Kind::Group, Kind::Channel][kind]))
    }
}

/// A message that is meant to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    /// Since the load began.
    pub(crate) at_ns: u64,
    pub(crate) client: ClientNo,
    pub(crate) conv: Conv,
    pub(crate) channel: bool,
}

/// All messages of an open model, as far as some of the clients send them.
#[derive(Debug)]
pub(crate) struct Intended {
    speakers: Arc<Speakers>,
    course: Course,
    arrivals: Arrivals,
    per_second: f64,
    rng: StdRng,
    leg: usize,
    /// The next time, since the load began. A double counts whole nanoseconds for a hundred days.
    at_ns: f64,
    /// How many more are due at that time.
    together: u32,
    /// Of every so many clients, the one that leaves this rest.
    mine: (u32, u32),
    there: Attendance,
    next: Option<Send>,
}

impl Intended {
    /// Of those clients whose number leaves the rest `mine.1` when it is divided by `mine.0`.
    pub(crate) fn new(scenario: &Scenario, plan: &Plan, speakers: Arc<Speakers>, mine: (u32, u32)) -> Self {
        let arrivals = match scenario.load {
            Load::Open { arrivals, .. } => arrivals,
            Load::Idle { .. } | Load::Closed { .. } => Arrivals::Poisson,
        };
        let open = matches!(scenario.load, Load::Open { .. });
        let per_second = if open { speakers.per_second() } else { 0.0 };
        let (presences, mut there) = (Presences::of(scenario), Attendance::default());
        for client in (mine.1..scenario.clients).step_by(mine.0 as usize) {
            if let Some(presence) = presences.of_client(scenario, plan, client) {
                there.add(client, presence);
            }
        }
        let rng = StdRng::seed_from_u64(scenario.seed ^ 0x7469_6d65);
        let course = Course::of(scenario);
        let (leg, at_ns, together, next) = (0, 0.0, 0, None);
        let mut intended =
            Self { speakers, course, arrivals, per_second, rng, leg, at_ns, together, mine, there, next };
        intended.enter();
        intended.next = intended.find();
        intended
    }

    /// The next one.
    pub(crate) const fn peek(&self) -> Option<&Send> {
        self.next.as_ref()
    }

    pub(crate) fn take(&mut self) -> Option<Send> {
        let next = self.next.take();
        self.next = self.find();
        next
    }

    /// The next one that is ours and whose sender is there.
    fn find(&mut self) -> Option<Send> {
        loop {
            let at_ns = self.time()?;
            let (client, conv, kind) = self.speakers.draw(self.per_second, &mut self.rng)?;
            if client % self.mine.0 == self.mine.1 && self.there.is_there(client, at_ns) {
                return Some(Send { at_ns, client, conv, channel: kind == Kind::Channel });
            }
        }
    }

    /// The next time at which somebody is meant to send.
    fn time(&mut self) -> Option<u64> {
        loop {
            let leg = *self.course.legs.get(self.leg)?;
            let most = self.per_second * leg.pace_max();
            if most <= 0.0 || self.at_ns >= leg.to_ns as f64 {
                self.leg += 1;
                self.enter();
                continue;
            }
            let at = self.at_ns;
            if self.together > 1 {
                self.together -= 1;
            } else {
                self.at_ns += self.gap(&leg, most);
                self.together = leg.together;
            }
            // Thinned: of those at the highest pace, as many as at the pace there is.
            let pace = leg.pace_at(at) / leg.pace_max();
            if self.arrivals == Arrivals::Constant || pace >= 1.0 || self.rng.random::<f64>() < pace {
                return Some(at as u64);
            }
        }
    }

    /// A phase begins.
    fn enter(&mut self) {
        let Some(leg) = self.course.legs.get(self.leg).copied() else { return };
        let most = self.per_second * leg.pace_max();
        self.together = leg.together;
        self.at_ns = leg.from_ns as f64;
        if most > 0.0 {
            self.at_ns += match self.arrivals {
                Arrivals::Poisson => self.gap(&leg, most),
                Arrivals::Constant => self.gap(&leg, most) * self.rng.random::<f64>(),
            };
        }
    }

    fn gap(&mut self, leg: &Leg, most: f64) -> f64 {
        let mean = 1e9 * f64::from(leg.together) / most;
        match self.arrivals {
            // `1 - x` is never 0, so the logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.rng.random::<f64>()).ln() * mean,
            // Where nobody sends, soon enough is soon enough to look again.
            Arrivals::Constant => {
                let slower = leg.pace_max() / leg.pace_at(self.at_ns).max(leg.pace_max() * 1e-3);
                mean * slower
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::scenario::{Crowd, Phase, Shares, Sleeps};
    use crate::schedule::Digest;

    const SECOND: u64 = 1_000_000_000;

    fn all(scenario: &Scenario, threads: u32) -> Vec<Send> {
        let plan = Plan::draw(scenario);
        let speakers = Arc::new(Speakers::of(scenario, &plan));
        let of = |thread| {
            let mut intended = Intended::new(scenario, &plan, Arc::clone(&speakers), (threads, thread));
            std::iter::from_fn(move || intended.take())
        };
        (0..threads).flat_map(of).collect()
    }

    fn phase(seconds: u64, pace: f64, gradual: bool) -> Phase {
        Phase { pace, gradual, ..Phase::steady(Duration::from_secs(seconds)) }
    }

    fn scenario(arrivals: Arrivals, phases: Vec<Phase>) -> Scenario {
        let hold = phases.iter().map(|phase| phase.hold).sum();
        let load = Load::Open { arrivals, hold };
        Scenario { load, phases, ..Scenario::quick(100, 1000.0, hold) }
    }

    #[test]
    fn each_phase_has_its_pace() {
        for arrivals in [Arrivals::Poisson, Arrivals::Constant] {
            let phases =
                vec![phase(10, 0.5, false), phase(10, 2.0, true), phase(10, 0.0, false), phase(10, 1.0, false)];
            let sends = all(&scenario(arrivals, phases), 1);
            let within = |from: u64, to: u64| {
                sends.iter().filter(|send| (from * SECOND..to * SECOND).contains(&send.at_ns)).count() as f64
            };
            for (from, to, wanted) in
                [(0, 10, 5000.0), (10, 20, 12_500.0), (19, 20, 1925.0), (20, 30, 0.0), (30, 40, 10_000.0)]
            {
                let found = within(from, to);
                assert!((found - wanted).abs() <= wanted * 0.07, "{arrivals:?} {from}: {found} for {wanted}");
            }
            assert!(sends.is_sorted_by_key(|send| send.at_ns));
        }
    }

    #[test]
    fn bursts_share_a_time_and_keep_the_rate() {
        let phases = vec![Phase { together: 8, ..phase(10, 1.0, false) }];
        let sends = all(&scenario(Arrivals::Constant, phases), 1);
        assert!((9990..=10_008).contains(&sends.len()), "{}", sends.len());
        assert!(sends.chunks(8).all(|burst| burst.iter().all(|send| send.at_ns == burst[0].at_ns)));
    }

    #[test]
    fn messages_go_where_the_shares_of_their_crowd_say_and_to_conversations_of_the_sender() {
        let mut scenario = scenario(Arrivals::Poisson, vec![phase(10, 1.0, false)]);
        let shares = Shares { direct: 3.0, group: 1.0, channel: 7.0 };
        scenario.crowds = vec![
            Crowd { sends_per_second: 900.0, shares, ..Crowd::everybody(20) },
            Crowd { sends_per_second: 100.0, ..Crowd::everybody(80) },
        ];
        let plan = Plan::draw(&scenario);
        let sends = all(&scenario, 1);
        let of_first: Vec<_> = sends.iter().filter(|send| send.client < 20).collect();
        assert!((8700..9300).contains(&of_first.len()), "{}", of_first.len());
        let kind = |send: &Send| plan.conversations[send.conv as usize].kind;
        // There is no channel: its share goes to the others.
        let direct = of_first.iter().filter(|send| kind(send) == Kind::Direct).count() as f64 / of_first.len() as f64;
        assert!((0.72..0.78).contains(&direct), "{direct}");
        assert!(sends.iter().all(|send| plan.conversations[send.conv as usize].members.contains(&send.client)));
    }

    #[test]
    fn who_is_not_there_says_nothing() {
        let awake = Sleeps { awake: Duration::from_secs(1), asleep: Duration::from_secs(3) };
        let mut sleepy = scenario(Arrivals::Poisson, vec![phase(100, 1.0, false)]);
        sleepy.crowds[0].sleeps = Some(awake);
        let sent = all(&sleepy, 1).len();
        assert!((24_000..28_000).contains(&sent), "{sent}");
        let mut half = scenario(Arrivals::Poisson, vec![Phase { online: 0.5, ..phase(10, 1.0, false) }]);
        half.clients = 100;
        let sent = all(&half, 1);
        let speakers: std::collections::HashSet<_> = sent.iter().map(|send| send.client).collect();
        assert!((30..70).contains(&speakers.len()), "{}", speakers.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_same_seed_gives_the_same_times_whatever_the_number_of_threads(
            seed: u64, threads in 1..5u32, poisson: bool, paces in prop::collection::vec((1..4u64, 0.0..2.0f64, any::<bool>()), 1..4),
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let phases = paces.iter().map(|(seconds, pace, gradual)| phase(*seconds, *pace, *gradual)).collect();
            let mut scenario = Scenario { seed, ..scenario(arrivals, phases) };
            scenario.crowds[0].sleeps = Some(Sleeps { awake: Duration::from_secs(2), asleep: Duration::from_secs(1) });
            let digest = |sends: &[Send]| {
                let mut digest = Digest::default();
                sends.iter().for_each(|send| digest.add(send));
                digest
            };
            let (one, many) = (all(&scenario, 1), all(&scenario, threads));
            let end = crate::clock::ns(scenario.load.hold());
            prop_assert!(one.iter().all(|send| send.at_ns < end) && one.is_sorted_by_key(|send| send.at_ns));
            prop_assert_eq!(one.len(), many.len());
            prop_assert_eq!(digest(&one), digest(&many));
            let other = all(&Scenario { seed: seed ^ 1, ..scenario }, 1);
            prop_assert!(one.is_empty() || digest(&one) != digest(&other));
        }
    }
}
