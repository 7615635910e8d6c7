//! What must hold between steps, and in the end.

use std::time::Duration;

use roost_edge_core::Outbound;
use roost_wire::CloseCode;

use super::super::peer::Http;
use super::World;

/// Largest reply of the router, in bytes of any encoding.
const REPLY_BYTES_MAX: usize = 4300;
/// What the edge answers by itself has at most so many bytes: a PONG of 125, an error with its text.
const ANSWER_BYTES_MAX: usize = 512;
/// Envelopes that one job of fan-out may have taken out of its queue.
const JOB_ENVELOPES_MAX: u64 = 16;

impl World {
    /// Every queue is within its limit.
    pub(crate) fn check_limits(&self) {
        let config = self.shard.config();
        let replies = config.commands_in_flight_max as usize;
        // HELLO and its head, WELCOME, CHANGED, a close frame; a GOAWAY for each drain.
        let few = 5 + self.drains;
        let frames_max = 2 * config.outbound_frames_max + replies + few;
        let bytes_max = (2 * config.outbound_bytes_max).max(config.reply_bytes_max)
            + replies * REPLY_BYTES_MAX
            + (1 + few) * ANSWER_BYTES_MAX;
        for peer in self.peers.iter().filter(|peer| peer.http == Http::None) {
            let Some(outbound) = self.shard.outbound(peer.key) else { continue };
            assert!(outbound.len() <= frames_max, "{:?}: {} frames wait", peer.key, outbound.len());
            assert!(outbound.bytes() <= bytes_max, "{:?}: {} B wait", peer.key, outbound.bytes());
        }
        assert!(self.shard.connections() <= config.connections_max);
        let counted = self.metrics.snapshot();
        let waiting = counted.fanout_items_queued - counted.fanout_items_done;
        let waiting_max = config.fanout_items_max as u64 + JOB_ENVELOPES_MAX + self.controls;
        assert!(waiting <= waiting_max, "{waiting} items wait for fan-out");
    }

    /// Everybody reads: who was owed a push has it, or was told to fetch it.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            self.turns();
            self.obey_effects();
            for index in 0..self.peers.len() {
                while self.peers[index].write_wanted && self.shard.outbound(self.peers[index].key).is_some() {
                    self.write(index, usize::MAX);
                    self.obey_effects();
                }
            }
            // Who waits for a paced walk over the sessions gets its CHANGED soon.
            let soon = self.now + Duration::from_millis(20);
            if self.shard.next_deadline().is_none_or(|next| next > soon) {
                break;
            }
            self.pass(20);
            self.obey_effects();
        }
        for peer in self.peers.iter().filter(|peer| peer.is_reader()) {
            let waits = self.shard.outbound(peer.key).map_or(0, Outbound::bytes);
            assert!(peer.owed.is_empty(), "{:?} misses {:?}, {waits} B wait", peer.key, peer.owed);
        }
    }

    /// Everything is let go, whoever reads.
    pub(crate) fn close_all(&mut self, reads: bool) {
        self.stopping = true;
        self.shard.close_all(CloseCode::GoingAway, self.now);
        for index in 0..self.peers.len() {
            self.turns();
            self.obey_effects();
            if reads {
                self.write(index, usize::MAX);
            }
        }
        self.pass(120_000);
        self.obey_effects();
        assert_eq!((self.shard.connections(), self.shard.sessions()), (0, 0), "all are gone");
        assert_eq!(self.shard.next_deadline(), None, "nothing is timed");
        for peer in &self.peers {
            assert!(!peer.attached, "{:?} was not let go", peer.key);
            assert!(matches!(peer.http, Http::None | Http::Over), "{:?}: its stream has an end", peer.key);
            assert_eq!(peer.gone, peer.accepted, "{:?}: gone as often as accepted", peer.key);
        }
        let counted = self.metrics.snapshot();
        assert_eq!(counted.connections_opened, counted.connections_closed);
        assert_eq!(counted.sessions_opened, counted.sessions_closed);
        assert_eq!(counted.topics_joined, counted.topics_left);
        assert_eq!(counted.fanout_items_queued, counted.fanout_items_done);
    }
}
