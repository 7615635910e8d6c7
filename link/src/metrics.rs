//! What both sides of the link count.

use roost_router::counters;

counters! {
    /// What an edge counts of its links to routers.
    EdgeMetrics;
    routers: Gauge = "roost_link_routers", "Routers that take commands of this edge.";
    attached: Counter = "roost_link_attached_total", "Links to routers that were made.";
    attach_failed: Counter = "roost_link_attach_failed_total", "Attempts to link to a router that failed.";
    lost: Counter = "roost_link_lost_total", "Links to routers that ended, in good order or not.";
    goodbyes: Counter = "roost_link_goodbyes_total", "Routers that said they were about to end.";
    commands: Counter = "roost_link_commands_total", "Commands sent to routers.";
    answered_lost: Counter = "roost_link_answered_lost_total", "Commands answered with 502 or 503 because their router was gone.";
    answered_late: Counter = "roost_link_answered_late_total", "Commands answered with 502 because their router did not answer in time.";
    replies_stray: Counter = "roost_link_replies_stray_total", "Replies to commands that were answered before.";
    up_full: Counter = "roost_link_up_full_total", "Commands answered with 503 because too much waited for a router.";
    no_router: Counter = "roost_link_no_router_total", "Commands and CONNECTs answered with 503 because there was no router.";
    resumed: Counter = "roost_link_resumed_total", "Sessions brought to another router.";
    adrift: Gauge = "roost_link_adrift_sessions", "Sessions that wait to be brought to another router.";
    pushes: Counter = "roost_link_pushes_total", "Pushes that came from routers, each for any number of sessions.";
    stale: Counter = "roost_link_stale_total", "Things told by routers about sessions that are not theirs any more.";
    garbled: Counter = "roost_link_garbled_total", "Items from routers that made no sense and were ignored.";
}

counters! {
    /// What a router counts of the edges attached to it, and of calls.
    RouterMetrics;
    edges: Gauge = "roost_link_edges", "Edges that are attached.";
    edges_attached: Counter = "roost_link_edges_attached_total", "Edges that attached themselves.";
    edges_refused: Counter = "roost_link_edges_refused_total", "Edges that were refused: no certificate, no common version, no room, or leaving.";
    edges_lost: Counter = "roost_link_edges_lost_total", "Edges that fell silent or broke off.";
    up_items: Counter = "roost_link_up_items_total", "Items that came from edges.";
    down_items: Counter = "roost_link_down_items_total", "Items sent to edges.";
    down_pushes: Counter = "roost_link_down_pushes_total", "Pushes sent to edges, each once whatever its audience there.";
    down_dropped: Counter = "roost_link_down_dropped_total", "Pushes dropped because too much waited for an edge.";
    up_garbled: Counter = "roost_link_up_garbled_total", "Items from edges that made no sense and were ignored.";
    orphans: Counter = "roost_link_orphans_total", "Sessions accepted for an edge that had gone.";
    handshakes_failed: Counter = "roost_link_handshakes_failed_total", "Connections refused because of TLS.";
    calls: Counter = "roost_link_calls_total", "Calls of the API that were let in.";
    calls_refused: Counter = "roost_link_calls_refused_total", "Calls of the API without a valid service token, or too many.";
}

#[cfg(test)]
mod tests {
    use roost_router::metrics::{Kind, Snapshot};

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let samples = [EdgeMetrics::default().snapshot(), RouterMetrics::default().snapshot()];
        let mut seen = std::collections::BTreeSet::new();
        for sample in samples.iter().flat_map(Snapshot::iter) {
            assert!(sample.name.starts_with("roost_link_"), "{}", sample.name);
            assert_eq!(sample.name.ends_with("_total"), sample.kind == Kind::Counter, "{}", sample.name);
            assert!(seen.insert(sample.name), "{}", sample.name);
        }
        assert!(!seen.is_empty());
    }
}
