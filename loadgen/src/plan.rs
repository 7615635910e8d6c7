//! Who talks to whom: users, their conversations and the members of these, drawn from a scenario. Pure.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use crate::scenario::{Channel, Population, Scenario};

/// A conversation's number in the plan.
pub type Conv = u32;
/// A client's number in the plan.
pub type ClientNo = u32;
/// A user's number in the plan.
pub type UserNo = u32;

/// The kinds of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Two users.
    Direct,
    /// Any number.
    Group,
    /// Whoever subscribes; only the first members write.
    Channel,
}

/// A conversation to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it is.
    pub kind: Kind,
    /// The clients of its members; the first one makes it.
    pub members: Vec<ClientNo>,
    /// How many of them write: the first ones.
    pub writers: u32,
}

/// All conversations of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By number.
    pub conversations: Vec<Planned>,
    /// The user of each client.
    users: Vec<UserNo>,
}

impl Plan {
    /// Draws the plan of a scenario: the same for the same seed.
    #[must_use]
    pub fn draw(scenario: &Scenario) -> Self {
        let Population { partners, groups, group_sizes, channels } = &scenario.population;
        let mut rng = StdRng::seed_from_u64(scenario.seed ^ 0x706c_616e);
        let (clients_of, users) = devices(scenario);
        let mut order: Vec<UserNo> = (0..clients_of.len() as UserNo).collect();
        let mut plan = Self { conversations: Vec::new(), users };
        let clients = |users: &[UserNo]| users.iter().flat_map(|user| clients_of[*user as usize].clone()).collect();

        // Rounds of pairing: in each a user gets one partner more.
        let mut known = HashSet::new();
        for share in rounds(*partners) {
            order.shuffle(&mut rng);
            for pair in order[..count(order.len(), share)].chunks_exact(2) {
                if known.insert((pair[0].min(pair[1]), pair[0].max(pair[1]))) {
                    plan.add(Kind::Direct, clients(pair), u32::MAX);
                }
            }
        }
        drop(known);
        let weights: f64 = group_sizes.iter().map(|size| size.weight).sum();
        for share in rounds(*groups) {
            order.shuffle(&mut rng);
            let mut rest = &order[..count(order.len(), share)];
            while rest.len() > 1 && weights > 0.0 {
                let mut at = rng.random::<f64>() * weights;
                let drawn = group_sizes.iter().find(|size| {
                    at -= size.weight;
                    at < 0.0
                });
                let members = drawn.or(group_sizes.last()).map_or(2, |size| size.members.max(2)) as usize;
                let (group, others) = rest.split_at(members.min(rest.len()));
                plan.add(Kind::Group, clients(group), u32::MAX);
                rest = others;
            }
        }
        for Channel { subscribers, publishers } in channels {
            let mut members: Vec<UserNo> = (0..order.len() as UserNo).collect();
            if *subscribers < 1.0 {
                members.shuffle(&mut rng);
                members.truncate(count(order.len(), *subscribers));
            }
            if !members.is_empty() {
                plan.add(Kind::Channel, clients(&members), *publishers);
            }
        }
        plan
    }

    fn add(&mut self, kind: Kind, members: Vec<ClientNo>, writers: u32) {
        let writers = writers.min(members.len() as u32);
        self.conversations.push(Planned { kind, members, writers });
    }

    /// The user of a client.
    #[must_use]
    pub fn user_of(&self, client: ClientNo) -> UserNo {
        self.users[client as usize]
    }

    /// The conversations of each client, by client number.
    #[must_use]
    pub fn by_client(&self, clients: u32) -> Vec<Vec<Conv>> {
        let mut of = vec![Vec::new(); clients as usize];
        for (conv, planned) in self.conversations.iter().enumerate() {
            for member in &planned.members {
                of[*member as usize].push(conv as Conv);
            }
        }
        of
    }

    /// A hash of all of it: another plan has another.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for planned in &self.conversations {
            hash.update([planned.kind as u8]);
            hash.update(planned.writers.to_le_bytes());
            hash.update((planned.members.len() as u64).to_le_bytes());
            planned.members.iter().for_each(|member| hash.update(member.to_le_bytes()));
        }
        self.users.iter().for_each(|user| hash.update(user.to_le_bytes()));
        hash.finalize().into()
    }
}

/// The clients of each user, and the user of each client.
fn devices(scenario: &Scenario) -> (Vec<std::ops::Range<ClientNo>>, Vec<UserNo>) {
    let (mut clients_of, mut users) = (Vec::new(), Vec::with_capacity(scenario.clients as usize));
    for crowd in &scenario.crowds {
        for _ in 0..crowd.users {
            let first = users.len() as ClientNo;
            users.extend(std::iter::repeat_n(clients_of.len() as UserNo, crowd.devices as usize));
            clients_of.push(first..users.len() as ClientNo);
        }
    }
    (clients_of, users)
}

/// `number` as that many times everybody, and the rest of them once.
fn rounds(number: f64) -> impl Iterator<Item = f64> {
    let whole = number.max(0.0).floor();
    let rest = number.max(0.0) - whole;
    std::iter::repeat_n(1.0, whole as usize).chain((rest > 0.0).then_some(rest))
}

fn count(of: usize, share: f64) -> usize {
    (of as f64 * share.clamp(0.0, 1.0)).round() as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Crowd;

    #[test]
    fn everybody_is_paired_once_and_groups_have_their_size() {
        let scenario = Scenario::quick(100, 10.0, Duration::from_secs(1));
        let plan = Plan::draw(&scenario);
        assert_eq!(plan, Plan::draw(&scenario), "the same seed gives the same plan");
        let of = plan.by_client(100);
        let kinds = |kind| plan.conversations.iter().filter(move |planned| planned.kind == kind);
        assert_eq!(kinds(Kind::Direct).count(), 50);
        assert_eq!(kinds(Kind::Group).map(|group| group.members.len()).collect::<Vec<_>>(), [10; 5]);
        assert_eq!(of.iter().filter(|convs| convs.len() == 2).count(), 50);
        assert!(of.iter().all(|convs| (1..=2).contains(&convs.len())));
    }

    #[test]
    fn an_odd_client_stays_alone() {
        let plan = Plan::draw(&Scenario::sends(3, Duration::ZERO));
        assert_eq!(plan.conversations.len(), 1);
        assert!(Plan::draw(&Scenario::idle(5, Duration::ZERO)).conversations.is_empty());
    }

    #[test]
    fn another_seed_is_another_plan_and_has_another_hash() {
        let scenario = Scenario::quick(100, 10.0, Duration::from_secs(1));
        let other = Scenario { seed: 2, ..scenario.clone() };
        assert_eq!(Plan::draw(&scenario).hash(), Plan::draw(&scenario).hash());
        assert_ne!(Plan::draw(&scenario).hash(), Plan::draw(&other).hash());
    }

    #[test]
    fn users_have_their_partners_and_all_their_devices_are_members() {
        let mut scenario = Scenario::quick(200, 10.0, Duration::from_secs(1));
        scenario.population.partners = 2.5;
        scenario.population.groups = 0.0;
        scenario.population.channels = vec![Channel { subscribers: 0.25, publishers: 3 }];
        scenario.crowds =
            vec![Crowd { devices: 2, ..Crowd::everybody(60) }, Crowd { name: "others".into(), ..Crowd::everybody(80) }];
        let plan = Plan::draw(&scenario);
        let (channels, direct): (Vec<_>, Vec<_>) =
            plan.conversations.iter().partition(|planned| planned.kind == Kind::Channel);
        // 140 users with 2.5 partners each; a pair that is drawn twice is one.
        assert!((165..=175).contains(&direct.len()), "{}", direct.len());
        for planned in &direct {
            let users: HashSet<_> = planned.members.iter().map(|client| plan.user_of(*client)).collect();
            let devices = users.iter().map(|user| if *user < 60 { 2 } else { 1 }).sum::<usize>();
            assert_eq!((users.len(), planned.members.len()), (2, devices));
        }
        let users: HashSet<_> = channels[0].members.iter().map(|client| plan.user_of(*client)).collect();
        assert_eq!((channels.len(), users.len(), channels[0].writers), (1, 35, 3));
    }
}
