//! From what people write to what is run.

use std::time::Duration;

use super::spec::{self, Engine, Kind, Spec, Time};
use super::{
    Answers, Arrivals, Channel, Crowd, Cut, Event, GroupSize, Load, Phase, Population, Protocol, Scenario, Shares,
    Sleeps,
};
#[cfg(target_os = "linux")]
use crate::lines::Impairment;
#[cfg(target_os = "linux")]
use crate::mass::plan::{self as mass, Plan};
#[cfg(target_os = "linux")]
use crate::scenario::Dialect;
use crate::threshold::Threshold;

/// Sizes of groups that are told apart: of more, neighbours stand for each other.
const GROUP_SIZES_MAX: u32 = 32;
/// How long it takes somebody to answer of whom nothing else is said.
const ANSWER_AFTER: Duration = Duration::from_secs(1);

/// What fits the clients that are to run it.
#[derive(Clone, Debug)]
pub(crate) enum Compiled {
    Full(Box<Scenario>),
    #[cfg(target_os = "linux")]
    Lean(Box<Plan>),
}

/// Sessions at the fullest, before they are whole numbers.
pub(crate) fn clients(spec: &Spec) -> f64 {
    spec.population.iter().map(|one| users(one) * f64::from(one.devices)).sum()
}

/// Users of a population that have sessions.
fn users(population: &spec::Population) -> f64 {
    (population.users * population.connected).round().max(1.0)
}

impl Spec {
    /// So many times as many users, and messages that do not follow from them.
    pub(crate) fn scale(&mut self, by: f64) {
        self.population.iter_mut().for_each(|population| population.users *= by);
        self.behaviour.values_mut().filter_map(|one| one.rate.as_mut()).for_each(|rate| *rate *= by);
    }

    /// So many sessions at the fullest; the populations keep their ratios.
    pub(crate) fn with_clients(&mut self, wanted: u32) {
        let by = f64::from(wanted)
            / self.population.iter().map(|one| one.users * one.connected * f64::from(one.devices)).sum::<f64>();
        self.population.iter_mut().for_each(|population| population.users *= by);
    }

    /// So many messages per second at a pace of 1; the behaviours keep their ratios. False if nobody sends any by time.
    pub(crate) fn with_rate(&mut self, wanted: f64) -> bool {
        let mut lean = self.phase.iter_mut().filter(|phase| phase.kind == Kind::Broadcast);
        if let Some(phase) = lean.next() {
            let hold = f64::from(phase.publishes.unwrap_or(1)) / phase.rate.unwrap_or(1.0);
            phase.rate = Some(wanted);
            phase.publishes = Some((hold * wanted).round().max(1.0) as u32);
            return true;
        }
        let now = self.rates().iter().map(|(rate, _)| rate).sum::<f64>();
        if self.clients == Engine::Lean || self.arrivals == spec::Arrivals::Closed || now <= 0.0 {
            return false;
        }
        let by = wanted / now;
        for behaviour in self.behaviour.values_mut() {
            behaviour.rate.iter_mut().for_each(|rate| *rate *= by);
            behaviour.think.iter_mut().for_each(|think| think.0 = think.0.div_f64(by));
        }
        true
    }

    /// All of it in so long.
    pub(crate) fn with_length(&mut self, wanted: Duration) {
        let now = self.length();
        if now.is_zero() {
            return;
        }
        let by = wanted.as_secs_f64() / now.as_secs_f64();
        for phase in &mut self.phase {
            phase.hold.0 = phase.hold.0.mul_f64(by);
            if let Some(window) = &mut phase.window {
                window.0 = window.0.mul_f64(by.min(1.0));
            }
            if let (Some(publishes), true) = (&mut phase.publishes, phase.kind == Kind::Broadcast) {
                *publishes = (f64::from(*publishes) * by).round().max(1.0) as u32;
            }
        }
    }

    /// How long the load takes.
    pub(crate) fn length(&self) -> Duration {
        let broadcast = |phase: &spec::Phase| match phase.publishes.filter(|_| phase.kind == Kind::Broadcast) {
            Some(publishes) => Duration::from_secs_f64(f64::from(publishes) / phase.rate.unwrap_or(1.0)),
            None => phase.hold.0,
        };
        self.phase.iter().map(broadcast).sum()
    }

    /// Messages per second of each population at a pace of 1, and its users.
    fn rates(&self) -> Vec<(f64, f64)> {
        let of = |population: &spec::Population| {
            let here = users(population);
            let behaviour = population.behaviour.as_ref().and_then(|name| self.behaviour.get(name));
            let alike = self.population.iter().filter(|other| other.behaviour == population.behaviour).map(users);
            let rate = match behaviour.map(|one| (one.think, one.rate)) {
                Some((Some(think), _)) if !think.0.is_zero() => here / think.0.as_secs_f64(),
                Some((_, Some(rate))) => rate * here / alike.sum::<f64>(),
                _ => 0.0,
            };
            (rate, here)
        };
        self.population.iter().map(of).collect()
    }

    /// What is run. It must be without faults.
    pub(crate) fn compile(&self) -> Compiled {
        #[cfg(target_os = "linux")]
        if self.clients == Engine::Lean {
            return Compiled::Lean(Box::new(self.plan()));
        }
        Compiled::Full(Box::new(self.scenario()))
    }

    fn scenario(&self) -> Scenario {
        let crowds: Vec<Crowd> =
            self.population.iter().zip(self.rates()).map(|(one, (rate, _))| self.crowd(one, rate)).collect();
        let hold = self.length();
        let sends = crowds.iter().any(|crowd| crowd.sends_per_second > 0.0);
        let load = match self.arrivals {
            spec::Arrivals::Closed => {
                let think = self.behaviour.values().find_map(|one| one.think).unwrap_or_default();
                Load::Closed { think: think.0, hold }
            }
            _ if !sends => Load::Idle { hold },
            spec::Arrivals::Poisson => Load::Open { arrivals: Arrivals::Poisson, hold },
            spec::Arrivals::Uniform => Load::Open { arrivals: Arrivals::Constant, hold },
        };
        let first = &crowds[0];
        Scenario {
            name: self.name.clone(),
            protocol: Protocol::Roost,
            transport: first.transport,
            migrating: first.migrating,
            #[cfg(target_os = "linux")]
            impairment: first.impairment,
            clients: crowds.iter().map(Crowd::clients).sum(),
            connects_per_second: self.connect_rate.round() as u32,
            population: self.graph.population(),
            load,
            phases: self.phases(),
            body_bytes: self.bytes as usize,
            marks_after: self.marks_after.0,
            grace: self.grace.0,
            sdk_share: self.sdk_share,
            thresholds: self.thresholds(),
            seed: self.seed,
            crowds,
        }
    }

    fn crowd(&self, population: &spec::Population, sends_per_second: f64) -> Crowd {
        let network = population.network.as_ref().and_then(|name| self.network.get(name)).cloned().unwrap_or_default();
        let behaviour =
            population.behaviour.as_ref().and_then(|name| self.behaviour.get(name)).cloned().unwrap_or_default();
        let answers = behaviour.answers.filter(|share| *share > 0.0);
        Crowd {
            name: population.name.clone(),
            users: users(population) as u32,
            devices: population.devices,
            transport: population.transport,
            migrating: network.migrating,
            #[cfg(target_os = "linux")]
            impairment: impairment(&network),
            sends_per_second,
            shares: Shares { direct: behaviour.direct, group: behaviour.group, channel: behaviour.channel },
            sleeps: behaviour
                .awake
                .zip(behaviour.asleep)
                .map(|(awake, asleep)| Sleeps { awake: awake.0, asleep: asleep.0 }),
            answers: answers
                .map(|share| Answers { share, after: behaviour.after.map_or(ANSWER_AFTER, |after| after.0) }),
        }
    }

    fn phases(&self) -> Vec<Phase> {
        let mut online = 1.0;
        let phase = |phase: &spec::Phase| {
            let drains = phase.kind == Kind::Drain;
            online = phase.online.unwrap_or(if drains { 0.0 } else { online });
            let event = match phase.kind {
                Kind::Ramp => Event::Ramp,
                Kind::Burst => Event::Burst,
                Kind::Storm => Event::Storm {
                    share: phase.share.unwrap_or(1.0),
                    how: phase.how.unwrap_or(Cut::Rst),
                    window: phase.window.map_or(phase.hold.0 / 4, |window| window.0),
                },
                Kind::Deploy => Event::Deploy,
                Kind::Network => Event::Network { share: phase.share.unwrap_or(0.5) },
                Kind::Drain => Event::Drain,
                Kind::Steady | Kind::Broadcast | Kind::Echo => Event::Steady,
            };
            let bursts = phase.kind == Kind::Burst;
            Phase {
                name: phase.name.clone(),
                event,
                hold: phase.hold.0,
                pace: phase.pace.unwrap_or(if drains {
                    0.0
                } else if bursts {
                    5.0
                } else {
                    1.0
                }),
                online,
                gradual: matches!(phase.kind, Kind::Ramp | Kind::Drain),
                together: phase.together.unwrap_or(if bursts { 10 } else { 1 }),
            }
        };
        self.phase.iter().map(phase).collect()
    }

    fn thresholds(&self) -> Vec<Threshold> {
        self.thresholds.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

#[cfg(target_os = "linux")]
fn impairment(network: &spec::Network) -> Impairment {
    Impairment { delay: network.delay.0, jitter: network.jitter.0, loss: network.loss }
}

impl spec::Graph {
    fn population(&self) -> Population {
        let channel = Channel { subscribers: self.subscribers, publishers: self.publishers };
        Population {
            partners: self.partners,
            groups: self.groups,
            group_sizes: if self.groups > 0.0 { self.sizes() } else { Vec::new() },
            channels: vec![channel; self.channels as usize],
        }
    }

    /// Groups of k members are as common as `k^-zipf`. Of many sizes, some stand for their neighbours.
    fn sizes(&self) -> Vec<GroupSize> {
        let weight = |size: u32| f64::from(size).powf(-self.group_zipf);
        let (min, max) = (self.group_min, self.group_max);
        let mut sizes: Vec<GroupSize> = Vec::new();
        if max - min < GROUP_SIZES_MAX {
            sizes.extend((min..=max).map(|members| GroupSize { members, weight: weight(members) }));
        } else {
            let ratio = (f64::from(max + 1) / f64::from(min)).powf(1.0 / f64::from(GROUP_SIZES_MAX));
            let (mut from, mut edge) = (min, f64::from(min));
            while from <= max {
                edge *= ratio;
                let to = (edge.round() as u32).clamp(from + 1, max + 1);
                let total: f64 = (from..to).map(weight).sum();
                let mean = (from..to).map(|size| f64::from(size) * weight(size)).sum::<f64>() / total;
                sizes.push(GroupSize { members: mean.round() as u32, weight: total });
                from = to;
            }
        }
        let total: f64 = sizes.iter().map(|size| size.weight).sum();
        // Few digits, so that they are read as they were written.
        sizes.iter_mut().for_each(|size| size.weight = (size.weight / total * 1e9).round() / 1e9);
        sizes
    }
}

#[cfg(target_os = "linux")]
impl Spec {
    fn plan(&self) -> Plan {
        let population = &self.population[0];
        let network = population.network.as_ref().and_then(|name| self.network.get(name)).cloned().unwrap_or_default();
        let connections = users(population) as u32;
        let of = |kind| self.phase.iter().find(move |phase| phase.kind == kind);
        let given = |phase: &spec::Phase| Some(phase.hold.0).filter(|hold| !hold.is_zero());
        let connects_per_second = match of(Kind::Ramp).and_then(given) {
            Some(hold) => (f64::from(connections) / hold.as_secs_f64()).max(1.0),
            None => self.connect_rate,
        };
        let broadcast = of(Kind::Broadcast).map(|phase| mass::Broadcast {
            publishes: phase.publishes.unwrap_or(1),
            publishes_per_second: phase.rate.unwrap_or(1.0),
            burst: phase.together.unwrap_or(1),
            body_bytes: self.bytes as usize,
        });
        let echo = of(Kind::Echo).map(|phase| mass::Echo { hold: phase.hold.0, body_bytes: self.bytes as usize });
        let storm = of(Kind::Storm).map(|phase| {
            let took = Duration::from_secs_f64((f64::from(connections) / connects_per_second).max(1.0));
            mass::Storm {
                how: phase.how.unwrap_or(Cut::Rst),
                window: phase.window.or(given(phase).map(Time)).map_or(took, |window| window.0),
            }
        });
        Plan {
            name: self.name.clone(),
            // There is nothing that a Roost session would send back.
            protocol: if echo.is_some() { Dialect::Plain } else { Dialect::Roost },
            connections,
            connects_per_second,
            heartbeat: self.heartbeat.0,
            transport: population.transport,
            migrating: network.migrating,
            impairment: impairment(&network),
            tickets: self.tickets,
            hold: of(Kind::Steady).map_or(Duration::ZERO, |phase| phase.hold.0),
            broadcast,
            echo,
            storm,
            drain: of(Kind::Drain).is_some(),
            grace: self.grace.0,
            thresholds: self.thresholds(),
            seed: self.seed,
        }
    }
}
