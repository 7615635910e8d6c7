//! What a run is asked, and what comes of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::driver::{Credentials, Target};
use crate::fleet::Peer;
use crate::host::process::Reading;
use crate::ledger::Judgement;
#[cfg(target_os = "linux")]
use crate::lines::Carrier;
use crate::recorder::Recorder;
use crate::report::PhaseMark;
use crate::report::series::Series;
use crate::scenario::Scenario;
use crate::sdk;

/// What to run, and against what.
pub(crate) struct Job {
    pub scenario: Scenario,
    pub target: Target,
    /// What carries the connections of each crowd.
    #[cfg(target_os = "linux")]
    pub carriers: Vec<Carrier>,
    pub credentials: Credentials,
    pub threads: u32,
    /// The server's process, if it is on this host and known.
    pub server_pid: Option<u32>,
    /// Called right before the load, with the moment of its first intended time. Seconds of the load are then kept
    /// whole.
    pub on_load: Option<OnLoad>,
    /// Others run the same load: who agrees with them on its start, and tells them what is measured.
    pub peer: Option<Box<dyn Peer>>,
    /// Asks the server to leave, and starts it anew. Needed where a phase has it.
    pub deployer: Option<Deployer>,
    /// How clients of the real SDK reach the server. Needed where the scenario has any.
    pub sdk: Option<sdk::Setup>,
}

/// See [`Job::deployer`]. Called again and again until it tells that it is done, with the process that is there then if it is
/// here and known.
pub(crate) type Deployer = Box<dyn FnMut() -> Result<Option<Option<u32>>, String> + Send>;

/// See [`Job::on_load`].
pub(crate) type OnLoad = Box<dyn FnOnce(Instant) + Send>;

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub total: Recorder,
    pub series: Series,
    /// Every second of the load, if it was asked for.
    pub seconds: BTreeMap<u64, Recorder>,
    /// Clients that became sessions.
    pub entered: u64,
    /// Sessions live when the load was over.
    pub held: u64,
    pub unanswered: u64,
    /// Entries that some session still lacked when pushes had had their time, and after reading the log.
    pub missing_pushes: u64,
    pub missing: u64,
    pub judgement: Judgement,
    /// Deliveries that follow from what was acknowledged.
    pub expected: u64,
    /// How connections ended that did not end by our will.
    pub ends: BTreeMap<String, u64>,
    pub before: Reading,
    pub connected: Reading,
    pub load_begin: Reading,
    pub load_end: Reading,
    /// From the first intended time to the last answer.
    pub load_time: Duration,
    /// CPU time of all threads of the generator meanwhile.
    pub generator_cpu_ns: u64,
    pub interrupted: bool,
    /// When each phase of the load was, as far as it came.
    pub phases: Vec<PhaseMark>,
    /// Why this is only a part of what was asked for: the server went away. `None`: it is the whole, or was interrupted.
    pub partial: Option<String>,
    /// Of the plan and of every intended time: the same for the same seed.
    pub digest: String,
    /// What clients of the real SDK saw; `None`: there were none.
    pub sdk: Option<sdk::Outcome>,
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// No session came about; the text says why.
    #[error("{0}")]
    Unreachable(String),
    /// This machine lacks something.
    #[error("{0}")]
    System(#[from] std::io::Error),
}
