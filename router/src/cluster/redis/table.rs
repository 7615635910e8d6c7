//! The table of live nodes, as Redis keeps it: who they are, and where.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::NodeId;

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It holds connections and hears no parcels: a router tells it what to say.
    Edge,
    /// It hears parcels.
    Router,
    /// Both.
    #[default]
    All,
}

impl NodeRole {
    /// Whether it hears parcels.
    #[must_use]
    pub const fn routes(self) -> bool {
        matches!(self, Self::Router | Self::All)
    }
}

/// What a node says of itself when it joins.
#[derive(Clone, Debug, Default)]
pub struct NodeSpec {
    /// Its name: one that no other node has, and the same after a restart.
    pub name: String,
    /// What it does.
    pub role: NodeRole,
    /// Where clients connect, for people; empty if nowhere.
    pub listen: String,
    /// Where edges and back ends reach it by gRPC, `host:port`; empty if nowhere.
    pub grpc: String,
    /// Its release.
    pub version: String,
}

/// A node on the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// The number of its life.
    pub incarnation: u64,
    /// What it does.
    pub role: NodeRole,
    /// Where clients connect.
    #[serde(default)]
    pub listen: String,
    /// Where it is reached by gRPC.
    #[serde(default)]
    pub grpc: String,
    /// Its release.
    #[serde(default)]
    pub version: String,
    /// The lowest version of the bus that it takes part in.
    pub bus_min: u32,
    /// The highest.
    pub bus_max: u32,
    /// When it joined, by its clock, in ms since the Unix epoch.
    #[serde(default)]
    pub started_ms: u64,
    /// Its clock when it last said that it lives, in ms since the Unix epoch.
    #[serde(default)]
    pub clock_ms: u64,
}

impl NodeInfo {
    /// Its number, which follows from its name.
    #[must_use]
    pub fn id(&self) -> NodeId {
        node_id(&self.name)
    }

    /// Whether it and a node of these versions have one in common.
    pub(crate) fn understands(&self, (min, max): (u32, u32)) -> bool {
        self.bus_min <= max && min <= self.bus_max
    }
}

/// The number of the node with this name: the same everywhere and always.
#[must_use]
pub fn node_id(name: &str) -> NodeId {
    let hash = Sha256::digest(name.as_bytes());
    let first = hash.first_chunk().expect("a hash has 32 bytes");
    NodeId(u64::from_be_bytes(*first))
}

/// All nodes that were live when Redis was last asked, by name; this one among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTable {
    nodes: Vec<NodeInfo>,
}

impl NodeTable {
    pub(crate) fn new(mut nodes: Vec<NodeInfo>) -> Arc<Self> {
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Arc::new(Self { nodes })
    }

    /// All of them.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Those that hear parcels.
    pub fn routers(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|node| node.role.routes())
    }

    /// The node with this number. `None`: it is not live.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_number_follows_from_its_name_for_ever() {
        assert_eq!(node_id("a").to_string(), "ca978112ca1bbdca");
        assert_ne!(node_id("a"), node_id("b"));
    }

    #[test]
    fn a_newer_nodes_entry_is_read_with_what_is_known_of_it() {
        let told = r#"{"name":"a","incarnation":7,"role":"all","bus_min":1,"bus_max":3,"moon":"full"}"#;
        let info: NodeInfo = serde_json::from_str(told).unwrap();
        assert!(info.understands((3, 4)) && info.understands((1, 1)) && !info.understands((4, 5)));
        let table = NodeTable::new(vec![NodeInfo { role: NodeRole::Edge, name: "b".into(), ..info.clone() }, info]);
        assert_eq!(table.nodes().len(), 2);
        assert_eq!(table.routers().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(table.get(node_id("b")).unwrap().role, NodeRole::Edge);
        assert!(table.get(node_id("c")).is_none());
    }
}
