//! What holds between two inputs. Checked in debug builds at the end of each: what was touched always, everything only
//! while the shard is small.

use roost_wire::link::SessionKey;

use super::Shard;
use crate::clock::NEVER;
use crate::policy;
use crate::session::{BenchPath, Connection, Phase, Stage};

/// Shards up to this many slots are checked as a whole.
const SLOTS_CHECKED: usize = 16;

impl Shard {
    pub(super) fn debug_check(&self, touched: Option<SessionKey>) {
        if let Some(key) = touched {
            self.check_one(key);
        }
        if self.slots.len() <= SLOTS_CHECKED {
            self.check_all();
        }
    }

    /// Everything that holds of the shard as a whole.
    pub(super) fn check_all(&self) {
        let keys = (0..self.slots.slots()).filter_map(|slot| self.slots.key_at(slot));
        let (mut live, mut memberships, mut strangers) = (0, 0, 0);
        for key in keys {
            self.check_one(key);
            strangers += usize::from(self.slots.get(key).is_some_and(|conn| conn.stranger));
            let Some(session) = self.slots.get(key).and_then(Connection::session) else { continue };
            live += usize::from(session.user().is_some());
            memberships += session.joined.as_ref().map_or(0, |joined| joined.len());
        }
        assert_eq!(live, self.live_sessions, "live sessions are counted");
        assert_eq!(strangers, self.strangers.count, "strangers are counted");
        assert!(strangers <= self.config.unauthenticated_max, "strangers are limited");
        assert_eq!(memberships, self.topics.memberships(), "both sides of the topics have the same number");
    }

    fn check_one(&self, key: SessionKey) {
        let Some(conn) = self.slots.get(key) else { return };
        let outbound = &conn.outbound;
        let queued: usize = outbound.chunks().map(<[u8]>::len).sum();
        assert_eq!(queued, outbound.bytes(), "{key:?}: queued bytes are counted");
        assert!(outbound.chunks().all(|chunk| !chunk.is_empty()), "{key:?}: no empty frame is queued");
        assert_eq!(outbound.is_empty(), outbound.bytes() == 0, "{key:?}: an empty queue is empty");
        let deadline = conn.deadline(&self.times);
        let is_stranger = match &conn.stage {
            Stage::Head(_) => true,
            Stage::Http(http) => !http.answered,
            Stage::Session(session) => matches!(session.phase, Phase::AwaitConnect(_)),
            Stage::Closing(_) | Stage::Dead => false,
        };
        assert_eq!(conn.stranger, is_stranger, "{key:?}: who has not said who he is counts as a stranger");
        let armed = self.wheel.armed(key.slot());
        assert!(armed <= deadline, "{key:?}: due at {deadline}, its timer is armed for {armed}");
        match &conn.stage {
            Stage::Dead => {
                assert!(outbound.is_empty() && armed == NEVER, "{key:?}: the dead want nothing");
            }
            Stage::Session(session) => {
                let (config, live) = (&self.config, matches!(session.phase, Phase::Live(_)));
                assert!(live || !session.behind, "{key:?}: only live sessions can be behind");
                let may_join = live || session.bench_path() == Some(BenchPath::Broadcast);
                assert!(may_join || session.joined.is_none(), "{key:?}: only live sessions join topics");
                assert!(live || session.commands_in_flight == 0, "{key:?}: only live sessions command");
                assert!(
                    !session.behind || !policy::is_drained(config, outbound),
                    "{key:?}: who has drained is told to catch up"
                );
                assert!(
                    u32::from(session.commands_in_flight) <= config.commands_in_flight_max,
                    "{key:?}: commands in flight are limited"
                );
                assert!(!conn.paused || !policy::is_under(config, outbound), "{key:?}: who has read is read again");
                if let Some(joined) = &session.joined {
                    assert!(self.topics.agrees(key.slot(), joined), "{key:?}: session and topics agree");
                }
            }
            Stage::Http(http) => {
                let window = self.config.http_window_bytes;
                assert!(conn.paused || http.untaken_bytes <= window, "{key:?}: the window is kept");
                assert!(!http.done || !outbound.is_empty(), "{key:?}: what is done and written is closed");
            }
            Stage::Head(_) | Stage::Closing(_) => {
                assert!(!conn.paused, "{key:?}: it is read");
            }
        }
    }
}
