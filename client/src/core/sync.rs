//! SYNC: what changed while the client was away.

use std::time::Instant;

/// Where a SYNC stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncState {
    Idle,
    Wanted,
    Asked {
        /// Something changed meanwhile: ask again afterwards.
        again: bool,
    },
    /// Refused for a passing reason.
    Later(Instant),
}

/// The sync token and the SYNC under way.
#[derive(Debug)]
pub(crate) struct Sync {
    /// Everything that changed before it is known (not: fetched).
    pub(crate) token: String,
    pub(crate) state: SyncState,
    /// One ran to its end, so that an unknown conversation is a new one.
    pub(crate) complete: bool,
}

impl Sync {
    pub(crate) fn new(token: String) -> Self {
        Self { complete: !token.is_empty(), token, state: SyncState::Idle }
    }

    /// A SYNC is needed from now on.
    pub(crate) fn want(&mut self) {
        self.state = match self.state {
            SyncState::Asked { .. } => SyncState::Asked { again: true },
            SyncState::Later(at) => SyncState::Later(at),
            SyncState::Idle | SyncState::Wanted => SyncState::Wanted,
        };
    }

    /// A page of changes came, up to `token`. True if it was the last.
    pub(crate) fn page(&mut self, token: String, more: bool, rows: usize) -> bool {
        let again = self.state == SyncState::Asked { again: true };
        // A page that brings nothing and leads nowhere ends it: asking on would never end.
        let more = more && (rows > 0 || token != self.token);
        self.token = token;
        self.state = if more || again { SyncState::Wanted } else { SyncState::Idle };
        if !more {
            self.complete = true;
        }
        !more
    }

    /// The connection is gone or another one takes over: whatever was asked is to be asked again.
    pub(crate) fn lost(&mut self) {
        if self.state != SyncState::Idle {
            self.state = SyncState::Wanted;
        }
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        if let SyncState::Later(at) = self.state
            && at <= now
        {
            self.state = SyncState::Wanted;
        }
    }

    pub(crate) const fn next_wake(&self) -> Option<Instant> {
        if let SyncState::Later(at) = self.state { Some(at) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_for_until_the_last_and_no_longer() {
        let mut sync = Sync::new(String::new());
        for (name, token, more, rows, last, state) in [
            ("a page of several", "a", true, 2, false, SyncState::Wanted),
            ("the last", "b", false, 1, true, SyncState::Idle),
            ("leads nowhere", "b", true, 0, true, SyncState::Idle),
        ] {
            sync.state = SyncState::Asked { again: false };
            assert_eq!(sync.page(token.into(), more, rows), last, "{name}");
            assert_eq!(sync.state, state, "{name}");
        }
        sync.state = SyncState::Asked { again: false };
        sync.want();
        assert!(sync.page("c".into(), false, 0));
        assert_eq!(sync.state, SyncState::Wanted, "it changed meanwhile");
    }
}
