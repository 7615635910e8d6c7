//! What must hold after each step, and in the end.

use std::time::Duration;

use super::{AMPLIFICATION_MAX, FRIENDS, MOVE_BYTES, MOVES_MAX, Stranger, UNPROVEN_MAX, World, YOUNG_MAX};

impl World {
    /// What holds after each step.
    pub(in crate::quic) fn check(&self) {
        for (addr, Stranger { came_bytes, went_bytes, followed }) in &self.strangers {
            // One that a connection seems to have moved to is sent a whole datagram, to see whether it is there.
            let most = AMPLIFICATION_MAX * came_bytes + MOVE_BYTES * followed;
            assert!(
                *went_bytes <= most,
                "{addr} was sent {went_bytes} B for {came_bytes} B, followed {followed} times"
            );
        }
        // So moves are limited, by what comes and by time.
        let seconds = self.now.duration_since(self.began).as_secs() as usize;
        let most = self.heard_bytes * AMPLIFICATION_MAX / MOVE_BYTES + self.clients.len() * (MOVES_MAX + 1 + seconds);
        let moves = self.station.counted().migrations as usize;
        assert!(moves <= most, "{moves} moves, {most} may be");
        let (young, unproven) = self.station.young();
        assert!(young <= YOUNG_MAX && unproven <= UNPROVEN_MAX, "{young} without a stream, {unproven} may be forged");
        let (held, listed) = (self.station.held(), self.station.listed());
        let most = YOUNG_MAX + self.clients.len();
        assert!(held <= most, "{held} connections, {most} may be");
        assert!(listed <= 64 + 8 * most, "{listed} entries in lists of {held} connections");
        let counted = self.station.counted();
        assert_eq!(counted.opened - counted.closed, held as u64);
        for client in &self.clients[..FRIENDS] {
            assert!(client.caller.lost().is_none(), "a friend was lost: {:?}", client.caller.lost());
            let Some(key) = client.key else { continue };
            assert!(!self.told.ended.contains(&key), "the session of a friend has ended");
            let none = Vec::new();
            let told = self.told.received.get(&key).unwrap_or(&none);
            assert!(client.written.starts_with(told), "told what nobody said");
            assert!(self.queues[&key].1.starts_with(&client.read), "read what nobody wrote");
        }
    }

    /// Friends have all that was said; then everybody falls silent, and nothing is left.
    pub(in crate::quic) fn end(mut self) {
        for friend in 0..FRIENDS {
            self.talk(friend as u8, 77);
            self.answer(friend as u8, 1234);
        }
        // What was lost on the way is said again within this time, if anybody followed a friend to where it is not.
        self.pass(20_000);
        self.check();
        for client in &self.clients[..FRIENDS] {
            let key = client.key.expect("a friend has a session");
            assert_eq!(self.told.received[&key].len(), client.written.len(), "all that a friend said");
            assert_eq!(client.read.len(), self.queues[&key].1.len(), "all that a friend was told");
        }
        for _ in 0..10_000 {
            let Some(next) = self.station.next_deadline() else { break };
            self.now = next.max(self.now + Duration::from_millis(1));
            self.serve();
        }
        assert_eq!((self.station.held(), self.station.next_deadline()), (0, None), "nothing is left");
        let counted = self.station.counted();
        assert_eq!(counted.opened, counted.closed);
    }
}
