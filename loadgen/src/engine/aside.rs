//! What happens beside the load: clients of the SDK, deploys, and whether the server is there at all.

use std::net::TcpStream;
use std::time::Instant;

use super::{GONE_AFTER, LOOK_EVERY, PROBE_WITHIN, Run, RunError, Stopped};
use crate::schedule::Course;
use crate::sdk;

impl Run<'_> {
    /// Starts clients of the real SDK, and waits until they are in.
    pub(super) fn start_sdk(&mut self) -> Result<Result<(), Stopped>, RunError> {
        let Some(setup) = self.sdk_setup.take() else { return Ok(Ok(())) };
        self.progress.phase("starting clients of the SDK");
        let mut sdk = sdk::Running::start(&self.shared, &self.names, setup)?;
        let mut ready = Ok(());
        while ready.is_ok() && !sdk.is_ready() {
            ready = self.rest(LOOK_EVERY);
        }
        self.sdk = Some(sdk);
        Ok(ready)
    }

    /// Whether the server is there at the end, where there should be sessions.
    pub(super) fn look_for_server(&mut self) {
        let wanted = Course::of(&self.shared.scenario).online_at_end() > 0.0;
        if self.outcome.partial.is_none() && wanted && self.outcome.held == 0 && self.outcome.total.counts.dropped > 0 {
            let target = &self.shared.target;
            let there = TcpStream::connect_timeout(&target.address, PROBE_WITHIN).is_ok();
            if !there || self.shared.scenario.transport.is_quic() {
                self.outcome.partial =
                    Some(format!("{} went away in the middle: no session was left at the end", target.host));
            }
        }
    }

    /// Starts the server anew when it is time.
    pub(super) fn deploy(&mut self) -> Result<(), Stopped> {
        if !self.deploying && self.deploys.pop_front_if(|at| *at <= Instant::now()).is_some() {
            (self.deploying, self.deployed) = (true, true);
        }
        let Some(deployer) = self.deployer.as_mut().filter(|_| self.deploying) else { return Ok(()) };
        match deployer() {
            Ok(None) => Ok(()),
            Ok(Some(pid)) => {
                (self.server_pid, self.deploying) = (pid, false);
                Ok(())
            }
            Err(why) => {
                self.deploying = false;
                self.outcome.partial = Some(format!("the server did not come back from a deploy: {why}"));
                Err(Stopped)
            }
        }
    }

    /// Gives up when the server is gone for long.
    pub(super) fn look_who_is_there(&mut self) -> Result<(), Stopped> {
        let loading = self.load_from.is_some_and(|from| from <= Instant::now());
        let there = self.live.iter().any(|live| *live > 0) || self.outcome.total.counts.dropped == 0;
        if !loading || there || self.deploying {
            self.gone_since = None;
            return Ok(());
        }
        if self.gone_since.get_or_insert_with(Instant::now).elapsed() < GONE_AFTER {
            return Ok(());
        }
        let (host, seconds) = (&self.shared.target.host, GONE_AFTER.as_secs());
        self.outcome.partial = Some(format!("{host} went away in the middle: for {seconds} s no session was live"));
        Err(Stopped)
    }
}
