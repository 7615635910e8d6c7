//! Who talks to whom: conversations and their members, drawn from a scenario. Pure.

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::scenario::{Population, Scenario};

/// A conversation's number in the plan.
pub type Conv = u32;
/// A client's number in the plan.
pub type ClientNo = u32;

/// The kinds of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Two clients.
    Direct,
    /// Any number.
    Group,
    /// Everybody; only the first member writes.
    Channel,
}

/// A conversation to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it is.
    pub kind: Kind,
    /// Its members; the first one makes it.
    pub members: Vec<ClientNo>,
}

/// All conversations of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By number.
    pub conversations: Vec<Planned>,
}

impl Plan {
    /// Draws the plan of a scenario: the same for the same seed.
    #[must_use]
    pub fn draw(scenario: &Scenario) -> Self {
        let Population { paired, grouped, group_sizes, channel } = &scenario.population;
        let mut rng = StdRng::seed_from_u64(scenario.seed ^ 0x706c_616e);
        let mut conversations = Vec::new();
        let mut clients: Vec<ClientNo> = (0..scenario.clients).collect();

        clients.shuffle(&mut rng);
        for pair in clients[..count(scenario.clients, *paired)].chunks_exact(2) {
            conversations.push(Planned { kind: Kind::Direct, members: pair.to_vec() });
        }
        clients.shuffle(&mut rng);
        let mut rest = &clients[..count(scenario.clients, *grouped)];
        let weights: f64 = group_sizes.iter().map(|size| size.weight).sum();
        while rest.len() > 1 && weights > 0.0 {
            let mut at = rng.random::<f64>() * weights;
            let drawn = group_sizes.iter().find(|size| {
                at -= size.weight;
                at < 0.0
            });
            let members = drawn.or(group_sizes.last()).map_or(2, |size| size.members.max(2)) as usize;
            let (group, others) = rest.split_at(members.min(rest.len()));
            conversations.push(Planned { kind: Kind::Group, members: group.to_vec() });
            rest = others;
        }
        if *channel && scenario.clients > 0 {
            conversations.push(Planned { kind: Kind::Channel, members: (0..scenario.clients).collect() });
        }
        Self { conversations }
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
}

fn count(clients: u32, share: f64) -> usize {
    (f64::from(clients) * share.clamp(0.0, 1.0)).round() as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
        assert_eq!(Plan::draw(&Scenario::idle(5, Duration::ZERO)), Plan::default());
    }
}
