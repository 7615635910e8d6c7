//! Whether the server is still there.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Run, Stopped, What, probe};

/// How long nobody may be live of those that are held before the server counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Where it was.
pub(super) struct Where {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    /// Whoever listens there answers to TCP.
    pub(super) by_tcp: bool,
    /// Since when nobody is live.
    pub(super) gone_since: Option<Instant>,
}

impl Run<'_> {
    /// Gives up when it is gone for long: a hold of hours is not waited for.
    pub(super) fn look_for_server(&mut self, what: What) -> Result<(), Stopped> {
        let held = matches!(what, What::Hold | What::Subscribe | What::Publish | What::Echo);
        if !held || self.live() > 0 || self.counts().lost == 0 {
            self.server.gone_since = None;
            return Ok(());
        }
        if self.server.gone_since.get_or_insert_with(Instant::now).elapsed() < GONE_AFTER {
            return Ok(());
        }
        let (host, seconds) = (&self.server.host, GONE_AFTER.as_secs());
        self.outcome.gone = Some(format!("{host} went away in the middle: for {seconds} s no session was live"));
        Err(Stopped)
    }

    /// Whether it is there at the end, where there should be sessions.
    pub(super) fn look_at_the_end(&mut self) {
        let lost = self.live() == 0 && self.counts().lost > 0 && !self.plan.drain;
        if self.outcome.gone.is_none() && lost && self.server.by_tcp && probe(self.server.address, "").is_err() {
            let host = &self.server.host;
            self.outcome.gone = Some(format!("{host} went away in the middle: no session was left at the end"));
        }
    }
}
