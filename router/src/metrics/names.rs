//! Names of the metrics, each with its unit, in one place.

crate::counters! {
    /// The router's counters.
    RouterMetrics;
    sessions: Gauge = "roost_router_sessions", "Sessions that are registered.";
    connects: Counter = "roost_router_connects_total", "CONNECTs that were accepted.";
    connects_refused: Counter = "roost_router_connects_refused_total", "CONNECTs that were refused.";
    connects_fresh: Counter = "roost_router_connects_fresh_total", "CONNECTs whose client had missed nothing.";
    replaced: Counter = "roost_router_sessions_replaced_total", "Sessions closed for a newer one of the same device.";
    adopted: Counter = "roost_router_sessions_adopted_total", "Live sessions that an edge brought from another router.";
    guests: Counter = "roost_router_guests_total", "Guests that were made.";
    commands: Counter = "roost_router_commands_total", "Commands taken, of every kind.";
    errors: Counter = "roost_router_errors_total", "Commands answered with an error.";
    overloads: Counter = "roost_router_overloads_total", "Commands refused because a queue was full.";
    appends: Counter = "roost_router_appends_total", "Batches that were appended.";
    entries: Counter = "roost_router_entries_total", "Entries that were appended.";
    append_conflicts: Counter = "roost_router_append_conflicts_total", "Appends that met another head.";
    append_unknowns: Counter = "roost_router_append_unknowns_total", "Appends whose outcome had to be read from the log.";
    append_doubts: Counter = "roost_router_append_doubts_total", "Appends whose outcome stayed unknown (502).";
    duplicates: Counter = "roost_router_duplicates_total", "Resends answered with the earlier entry.";
    resend_reads: Counter = "roost_router_resend_reads_total", "Reads of the log on behalf of a resend.";
    store_errors: Counter = "roost_router_store_errors_total", "Store operations that failed.";
    deliveries: Counter = "roost_router_deliveries_total", "Sessions that durable pushes were addressed to by key.";
    topic_pushes: Counter = "roost_router_topic_pushes_total", "Durable pushes addressed to a topic, per shard.";
    queued: Gauge = "roost_router_queued_commands", "Commands waiting at conversations.";
    tasks: Gauge = "roost_router_tasks", "Commands under way outside of conversations' queues.";
    conversations: Gauge = "roost_router_conversations_cached", "Conversations in memory.";
    conversations_loaded: Counter = "roost_router_conversations_loaded_total", "Conversations read from the store.";
    conversations_evicted: Counter = "roost_router_conversations_evicted_total", "Conversations dropped from memory.";
    marks: Counter = "roost_router_marks_total", "Marks written.";
    marks_dropped: Counter = "roost_router_marks_dropped_total", "Marks dropped because too many waited.";
    receipts: Counter = "roost_router_receipts_total", "Receipts pushed.";
    typing: Counter = "roost_router_typing_total", "TYPING passed on.";
    typing_dropped: Counter = "roost_router_typing_dropped_total", "TYPING dropped: too often, or too many members.";
    presence_pushes: Counter = "roost_router_presence_pushes_total", "Changes of presence told to watchers.";
    parcels_posted: Counter = "roost_router_parcels_posted_total", "Parcels posted to the other nodes, heartbeats included.";
    parcels_heard: Counter = "roost_router_parcels_heard_total", "Parcels of other nodes that arrived.";
    parcel_duplicates: Counter = "roost_router_parcel_duplicates_total", "Parcels of other nodes that came again, or after they were given up.";
    parcels_stale: Counter = "roost_router_parcels_stale_total", "Parcels of an earlier life of another node, or after it left.";
    parcel_gaps: Counter = "roost_router_parcel_gaps_total", "Times a parcel of another node was missed, for good or for a moment.";
    node_silences: Counter = "roost_router_node_silences_total", "Times another node fell silent.";
    bus_doubts: Counter = "roost_router_bus_doubts_total", "Times parcels of another node were lost, or may have been.";
    roster_checks: Counter = "roost_router_roster_checks_total", "Times what is known of a conversation was compared with the store.";
    nodes: Gauge = "roost_router_nodes", "Other nodes that are heard.";
    users_elsewhere: Gauge = "roost_router_users_elsewhere", "Users known to be on other nodes.";
    users_elsewhere_dropped: Counter = "roost_router_users_elsewhere_dropped_total", "Users on other nodes that were not remembered for want of room.";
    last_seen_dropped: Counter = "roost_router_last_seen_dropped_total", "Times of last presence not written.";
}
