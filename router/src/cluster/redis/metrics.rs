//! What the way through Redis counts: names, each with its unit, in one place.

crate::counters! {
    /// Counters of the way through Redis.
    RedisMetrics;
    up: Gauge = "roost_redis_up", "1 while Redis answers and this node is on the table.";
    deaf: Gauge = "roost_redis_deaf", "1 while this node does not hear what it sends to itself.";
    out_of_memory: Gauge = "roost_redis_out_of_memory", "1 while Redis refuses to write for want of memory.";
    clock_skew: Gauge = "roost_redis_clock_skew_milliseconds", "How far the clocks of this node and of Redis are apart.";
    nodes: Gauge = "roost_redis_nodes", "Nodes on the table, this one included.";
    downs: Counter = "roost_redis_downs_total", "Times Redis stopped answering.";
    resubscribes: Counter = "roost_redis_resubscribes_total", "Times the channels were subscribed to again: after a reconnect, or because nothing was heard.";
    queued_parcels: Gauge = "roost_redis_queued_parcels", "Parcels waiting to be sent.";
    queued_bytes: Gauge = "roost_redis_queued_bytes", "Bytes waiting to be sent, about.";
    parcels_overflowed: Counter = "roost_redis_parcels_overflowed_total", "Parcels lost because too many waited.";
    parcels_aged: Counter = "roost_redis_parcels_aged_total", "Parcels lost because they waited too long.";
    parcels_too_large: Counter = "roost_redis_parcels_too_large_total", "Parcels lost because they were too large.";
    parcels_sent: Counter = "roost_redis_parcels_sent_total", "Parcels sent, each once whatever the number of nodes.";
    messages_sent: Counter = "roost_redis_messages_sent_total", "Messages sent, one for each batch of parcels and node.";
    bytes_sent: Counter = "roost_redis_bytes_sent_total", "Bytes of the messages sent.";
    messages_failed: Counter = "roost_redis_messages_failed_total", "Times Redis did not take a message.";
    messages_held: Gauge = "roost_redis_held_messages", "Messages that did not arrive and are tried again.";
    messages_unheard: Counter = "roost_redis_messages_unheard_total", "Messages lost because nobody received them in time.";
    messages_heard: Counter = "roost_redis_messages_heard_total", "Messages of other nodes that arrived.";
    parcels_heard: Counter = "roost_redis_parcels_heard_total", "Parcels of other nodes that arrived and could be read.";
    messages_refused: Counter = "roost_redis_messages_refused_total", "Messages that could not be read: broken, too large, or of another version.";
    parcels_refused: Counter = "roost_redis_parcels_refused_total", "Parcels in a message that could not be read.";
    messages_overflowed: Counter = "roost_redis_messages_overflowed_total", "Messages lost because too many waited to be heard.";
    messages_lagged: Counter = "roost_redis_messages_lagged_total", "Messages lost before they could wait, because they came too fast.";
    leases_lost: Counter = "roost_redis_leases_lost_total", "Leases that ended while they were held.";
    config_version: Gauge = "roost_redis_config_version", "The version of the shared settings that was read last, 0 if there are none.";
    config_refused: Counter = "roost_redis_config_refused_total", "Versions of the shared settings that could not be used.";
    bridge_published: Counter = "roost_redis_bridge_published_total", "Publishes in Redis that were passed on to a channel.";
    bridge_refused: Counter = "roost_redis_bridge_refused_total", "Publishes in Redis that were no publishes to a channel.";
    bridge_failed: Counter = "roost_redis_bridge_failed_total", "Publishes in Redis that the router did not take.";
    bridge_overflowed: Counter = "roost_redis_bridge_overflowed_total", "Publishes in Redis lost because too many were under way.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::names_follow_the_rules;

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        names_follow_the_rules(&RedisMetrics::default().snapshot(), "roost_redis_");
    }
}
