//! Every queue within its limit, after every step.

use roost_edge_core::{Shard, ShardConfig};
use roost_router::RouterConfig;

use super::World;
use crate::model::About;
use crate::node::Node;

/// Replies and words of the edge's own that may stand in a queue beside pushes: GOAWAY, CHANGED, close frames.
const OWN_FRAMES_MAX: usize = 8;

/// Sessions that have ended and whose commands are not answered yet.
const ENDED_MAX: usize = 4;

impl World {
    pub(super) fn check_limits(&mut self) {
        let mut broken: Vec<(About, String)> = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            broken.extend(
                check_node(node, &self.setup.router).map(|what| (About::all(), format!("node {number}: {what}"))),
            );
        }
        for ((number, key), conn) in &self.served {
            let Some(conn) = self.conns.get(conn) else { continue };
            let shard = |node: &Node| check_outbound(&node.shards[usize::from(key.shard())], *key);
            if let Some(what) = self.nodes[*number].as_ref().and_then(shard) {
                broken.push((About::client(conn.client), format!("client {}: {what}", conn.client)));
            }
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

impl World {
    /// What waits for fan-out, when the mail of `number` has just come in.
    pub(super) fn check_fanout(&mut self, number: usize) {
        let Some(node) = &self.nodes[number] else { return };
        let broken = node.shards.iter().zip(&node.metrics).find_map(|(shard, metrics)| {
            let metrics = metrics.snapshot();
            let waiting = metrics.fanout_items_queued - metrics.fanout_items_done;
            // Replies may still come for sessions that have ended.
            let sessions = shard.connections() + ENDED_MAX;
            let max = shard.config().fanout_items_max + sessions * replies_max(shard.config());
            (waiting > max as u64).then(|| format!("node {number}: {waiting} items wait for fan-out, above {max}"))
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

/// Items about one session that are no deliveries.
const fn replies_max(config: &ShardConfig) -> usize {
    config.commands_in_flight_max as usize + OWN_FRAMES_MAX
}

fn check_outbound(shard: &Shard, key: roost_wire::link::SessionKey) -> Option<String> {
    let (outbound, config) = (shard.outbound(key)?, shard.config());
    // What the edge answers by itself stops at twice the limit; a reply per command in flight may stand behind it.
    let frames_max = 2 * config.outbound_frames_max + replies_max(config);
    let bytes_max = config.reply_bytes_max.max(2 * config.outbound_bytes_max)
        + roost_wire::limits::SERVER_FRAME_BYTES_MAX
        + replies_max(config) * 4096;
    let (frames, bytes) = (outbound.len(), outbound.bytes());
    (frames > frames_max || bytes > bytes_max)
        .then(|| format!("{frames} frames and {bytes} B wait, above {frames_max} and {bytes_max}"))
}
