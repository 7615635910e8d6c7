//! Every queue within its limit, after every step.

use roost_edge_core::{Outbound, Shard, ShardMetrics};
use roost_router::RouterConfig;
use roost_wire::link::SessionKey;

use super::World;
use crate::model::About;
use crate::node::Node;

/// Words of the edge's own that may stand in a queue beside pushes and replies: HELLO, GOAWAY, CHANGED, PONG, a close.
const OWN_FRAMES_MAX: usize = 8;

impl World {
    pub(super) fn check_limits(&mut self) {
        let mut broken: Vec<(About, String)> = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            broken.extend(
                check_node(node, &self.setup.router).map(|what| (About::all(), format!("node {number}: {what}"))),
            );
        }
        let sockets = self.served.iter().filter_map(|(served, conn)| Some((*served, self.conns.get(conn)?.client)));
        let lanes = self.nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.as_ref()?)));
        let lanes =
            lanes.flat_map(|(number, node)| node.native.iter().map(move |(key, client)| ((number, *key), *client)));
        for ((number, key), client) in sockets.chain(lanes).collect::<Vec<_>>() {
            let Some(node) = &mut self.nodes[number] else { continue };
            let shard = &node.shards[usize::from(key.shard())];
            if shard.outbound(key).is_none_or(Outbound::is_empty) {
                node.owed.remove(&key);
            }
            let owed = node.owed.get(&key).copied().unwrap_or(0);
            if let Some(what) = check_outbound(shard, key, owed) {
                broken.push((About::client(client), format!("client {client}: {what}")));
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            let Node { native, shards, .. } = node;
            native.retain(|key, _| shards[usize::from(key.shard())].outbound(*key).is_some());
        }
        for (number, client) in self.clients.iter().enumerate() {
            let Some(core) = &client.core else { continue };
            let (has, max) = (core.outbox_len(), self.setup.client.outbox_entries_max);
            // What an earlier life left is taken whatever the limit.
            if has > max {
                broken.push((About::client(number), format!("client {number}: {has} messages in an outbox of {max}")));
            }
        }
        for (about, what) in broken {
            self.model.violated(&about, what);
        }
    }
}

/// What may wait for fan-out on a shard once a batch of mail has come in.
pub(super) struct FanoutBound {
    waiting: usize,
    /// Items of the batch that are no deliveries: these always fit.
    pub(super) others: usize,
}

impl FanoutBound {
    /// Before the batch.
    pub(super) fn new(metrics: &ShardMetrics) -> Self {
        Self { waiting: waiting(metrics), others: 0 }
    }
}

fn waiting(metrics: &ShardMetrics) -> usize {
    let metrics = metrics.snapshot();
    (metrics.fanout_items_queued - metrics.fanout_items_done) as usize
}

impl World {
    /// What waits for fan-out, when the mail of `number` has just come in: deliveries stop at the limit.
    pub(super) fn check_fanout(&mut self, number: usize, bounds: &[FanoutBound]) {
        let Some(node) = &self.nodes[number] else { return };
        let broken = node.shards.iter().zip(&node.metrics).zip(bounds).find_map(|((shard, metrics), bound)| {
            let (waiting, max) = (waiting(metrics), shard.config().fanout_items_max.max(bound.waiting) + bound.others);
            (waiting > max).then(|| format!("node {number}: {waiting} items wait for fan-out, above {max}"))
        });
        if let Some(what) = broken {
            self.model.violated(&About::all(), what);
        }
    }
}

fn check_node(node: &Node, config: &RouterConfig) -> Option<String> {
    let metrics = node.router_metrics();
    let of = |name: &str| metrics.get(name).unwrap_or(f64::NAN);
    for (name, max) in
        [("roost_router_queued_commands", config.appends_queued_total_max), ("roost_router_tasks", config.tasks_max)]
    {
        let has = of(name);
        // A metric that is gone is a broken check.
        if has.is_nan() || has > max as f64 {
            return Some(format!("{name} is {has}, above {max}"));
        }
    }
    None
}

/// Pushes stop at the limit; only replies and what the edge says by itself stand in a queue beyond it.
fn check_outbound(shard: &Shard, key: SessionKey, owed: usize) -> Option<String> {
    let (outbound, config) = (shard.outbound(key)?, shard.config());
    let frames_max = config.outbound_frames_max + owed + OWN_FRAMES_MAX;
    let bytes_max = config.reply_bytes_max.max(config.outbound_bytes_max)
        + roost_wire::limits::SERVER_FRAME_BYTES_MAX
        + (config.commands_in_flight_max as usize + OWN_FRAMES_MAX) * 4096;
    let (frames, bytes) = (outbound.len(), outbound.bytes());
    (frames > frames_max || bytes > bytes_max)
        .then(|| format!("{frames} frames and {bytes} B wait, above {frames_max} and {bytes_max}"))
}
