//! What a seed decides before anything happens: how large the deployment is, how tight its limits, which faults come.

use std::time::Duration;

use roost_client::Start;
use roost_edge_core::ShardConfig;
use roost_router::RouterConfig;

use crate::fault::Fault;
use crate::rng::Stream;
use crate::world::Plan;

/// A deployment.
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    /// Of each kind.
    pub(crate) shards: u16,
    /// Clients, in the order of their people; the last ones are second devices.
    pub(crate) clients: Vec<usize>,
    pub(crate) router: RouterConfig,
    pub(crate) shard: ShardConfig,
    pub(crate) client: roost_client::Config,
    /// Bytes under way in one direction of a connection.
    pub(crate) window_bytes: usize,
    /// Faults that come, each with the mean pause between two.
    pub(crate) faults: Vec<(Fault, Duration)>,
}

impl Setup {
    pub(crate) fn draw(plan: &Plan) -> Self {
        let mut rng = Stream::new(plan.seed, "setup");
        let nodes = plan.nodes.unwrap_or_else(|| [1, 2, 2, 3, 3][rng.below(5)]);
        let shards = 1 + rng.below(2) as u16;
        let second = rng.below(plan.people);
        let tight = rng.chance(50);
        let mut shard = ShardConfig { sends_per_second: 0, ..ShardConfig::default() };
        if tight {
            shard.outbound_frames_max = 8 + rng.below(8);
            shard.outbound_bytes_max = 4096;
            shard.reply_bytes_max = 16 * 1024;
            shard.commands_in_flight_max = 16;
            shard.fanout_slice = 1 + rng.below(4);
            shard.fanout_items_max = 8 + rng.below(24);
        }
        let one_of = |rng: &mut Stream, usual: usize, rare: usize| if rng.chance(60) { usual } else { rare };
        let defaults = RouterConfig::default();
        let router = RouterConfig {
            index_threshold: one_of(&mut rng, defaults.index_threshold, 2),
            interest_threshold: one_of(&mut rng, defaults.interest_threshold, 3),
            conversations_cached_max: one_of(&mut rng, defaults.conversations_cached_max, 1),
            recent_entries_max: one_of(&mut rng, defaults.recent_entries_max, 2),
            users_cached_max: one_of(&mut rng, defaults.users_cached_max, 1),
            ..defaults
        };
        let client = roost_client::Config {
            start: Start::First,
            backoff_cap: Duration::from_secs(10),
            outbox_entries_max: one_of(&mut rng, 1000, 6),
            ..roost_client::Config::default()
        };
        Self {
            nodes,
            shards,
            clients: (0..plan.people).chain([second]).collect(),
            router,
            shard,
            client,
            window_bytes: if tight { 2048 } else { 64 * 1024 },
            faults: match plan {
                Plan { moving: true, .. } => MOVES.map(|fault| (fault, Duration::from_secs(1))).to_vec(),
                Plan { faults: true, .. } => draw_faults(plan.seed),
                _ => Vec::new(),
            },
        }
    }

    /// Whether `fault` comes in this run.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(known, _)| *known == fault)
    }
}

/// What is nothing wrong.
const MOVES: [Fault; 2] = [Fault::Move, Fault::AddressChange];

/// Each kind comes in two of three runs, more or less often: so each is met alone, and all are met together.
fn draw_faults(seed: u64) -> Vec<(Fault, Duration)> {
    let draw = |fault: &Fault| {
        let mut rng = Stream::new(seed, &format!("how often: {}", fault.name()));
        let mean = match fault {
            // A client that moves is one of six, and what is met in the middle of it is the question.
            Fault::Move | Fault::MoveCut | Fault::AddressChange => rng.ms(1_000, 10_000),
            _ => rng.ms(4_000, 40_000),
        };
        rng.chance(66).then_some((*fault, mean))
    };
    Fault::ALL.iter().filter_map(draw).collect()
}
