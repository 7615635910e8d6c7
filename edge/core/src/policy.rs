//! What happens to a push whose reader is slow, and when a reader that floods us is not read any more.
//!
//! The ladder: above half of its limits a queue takes no ephemeral pushes; a durable push that does not fit marks the
//! session *behind*, and no push is queued until the queue has drained to a quarter: then one CHANGED tells the client
//! to catch up from the log; a reader that takes nothing at all is closed.

use roost_wire::link::Lane;

use crate::{Outbound, ShardConfig};

/// What to do with a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Queue it.
    Queue,
    /// Forget it: it would be stale when read.
    Drop,
    /// Hold it back: the session is behind from now on, and reads it from the log later.
    Withhold,
}

/// Judges a push of `bytes` for a session with the queue `outbound`.
pub(crate) fn push(config: &ShardConfig, lane: Lane, behind: bool, outbound: &Outbound, bytes: usize) -> Step {
    let bytes_then = outbound.bytes() + bytes;
    let frames_then = outbound.len() + 1;
    let fits = |share: usize| {
        bytes_then <= config.outbound_bytes_max / share && frames_then <= config.outbound_frames_max / share
    };
    match lane {
        Lane::Ephemeral if !behind && fits(2) => Step::Queue,
        Lane::Ephemeral => Step::Drop,
        Lane::Durable if !behind && fits(1) => Step::Queue,
        Lane::Durable => Step::Withhold,
    }
}

/// Drained to a quarter: a session that is behind may catch up.
pub(crate) fn is_drained(config: &ShardConfig, outbound: &Outbound) -> bool {
    outbound.bytes() <= config.outbound_bytes_max / 4 && outbound.len() <= config.outbound_frames_max / 4
}

/// So much waits that the session is not read any more. Replies always fit, so they may bring a queue here.
pub(crate) fn is_over(config: &ShardConfig, outbound: &Outbound) -> bool {
    outbound.bytes() > config.outbound_bytes_max || outbound.len() > config.outbound_frames_max
}

/// Little enough waits to read the session again.
pub(crate) fn is_under(config: &ShardConfig, outbound: &Outbound) -> bool {
    outbound.bytes() <= config.outbound_bytes_max / 2 && outbound.len() <= config.outbound_frames_max / 2
}

/// Twice the limit: what the edge answers by itself (PONG, its own errors) is not queued beyond it, because one buffer
/// of input can ask for more of these than anybody would read.
pub(crate) fn is_flooded(config: &ShardConfig, outbound: &Outbound) -> bool {
    outbound.bytes() >= 2 * config.outbound_bytes_max || outbound.len() >= 2 * config.outbound_frames_max
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn each_rung_of_the_ladder() {
        let config = ShardConfig { outbound_bytes_max: 4096, outbound_frames_max: 8, ..ShardConfig::default() };
        use Lane::{Durable, Ephemeral};
        for (name, lane, behind, frames, frame_bytes, bytes, step) in [
            ("empty", Durable, false, 0, 0, 100, Step::Queue),
            ("exactly full", Durable, false, 1, 4000, 96, Step::Queue),
            ("a byte too much", Durable, false, 1, 4000, 97, Step::Withhold),
            ("eighth frame", Durable, false, 7, 1, 1, Step::Queue),
            ("ninth frame", Durable, false, 8, 1, 1, Step::Withhold),
            ("larger than the queue", Durable, false, 0, 0, 4097, Step::Withhold),
            ("behind, though empty", Durable, true, 0, 0, 1, Step::Withhold),
            ("ephemeral up to half", Ephemeral, false, 1, 2000, 48, Step::Queue),
            ("ephemeral above half", Ephemeral, false, 1, 2000, 49, Step::Drop),
            ("ephemeral fifth frame", Ephemeral, false, 4, 1, 1, Step::Drop),
            ("ephemeral while behind", Ephemeral, true, 0, 0, 1, Step::Drop),
        ] {
            let mut outbound = Outbound::default();
            for _ in 0..frames {
                outbound.push(Bytes::from(vec![0; frame_bytes]));
            }
            assert_eq!(push(&config, lane, behind, &outbound, bytes), step, "{name}");
        }
    }
}
