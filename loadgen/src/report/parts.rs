//! The parts of a report. What a run did not measure is `None`, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Quantiles;

/// Which clients put the load on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Chat clients: every delivery is checked, and the logs are read after the load.
    Full,
    /// Many small clients on rings of io_uring.
    Lean,
}

/// A stretch of a run, in seconds since its load began; before that they are negative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseMark {
    pub name: String,
    pub from_s: f64,
    pub to_s: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sessions {
    pub wanted: u64,
    /// Live when the load was over; of the lean engine: at the end of the ramp and of the hold, whichever was last.
    pub held: u64,
    /// Never came about.
    pub failed: u64,
    /// Ended by themselves.
    pub dropped: u64,
    /// Of these, not live again.
    pub lost: u64,
    /// Ended on purpose (asleep, a storm, another network), and came back from that.
    pub left: u64,
    pub returned: u64,
    /// Times that one went on from another address.
    pub migrated: u64,
    /// How connections ended that did not end by our will.
    pub ends: BTreeMap<String, u64>,
}

/// How sessions came about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub per_second_wanted: f64,
    /// Sessions per second of the ramp, its slowest connections included.
    pub per_second: f64,
    pub seconds: f64,
    pub attempts_failed: u64,
    /// Of these, answered with a status other than 101; and of these, told when to come back.
    pub turned_away: u64,
    pub told_when: u64,
    /// Handshakes of the whole run that were begun with a ticket. `None`: all were to be whole ones.
    pub tickets_used: Option<u64>,
    pub server_cpu_us: Option<f64>,
    pub per_server_cpu_second: Option<f64>,
    pub generator_cpu_us: Option<f64>,
}

/// While all were there and did nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub seconds: f64,
    pub sessions: u64,
    pub server_cpu_percent_of_a_core: Option<f64>,
    pub generator_cpu_percent_of_a_core: Option<f64>,
}

/// In the whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Heartbeats {
    pub every_ms: u64,
    pub sent: u64,
    pub answered: u64,
    /// Not answered in time: the session counts as lost.
    pub unanswered: u64,
    /// From the intended time of a heartbeat to its answer.
    pub answer_us: Quantiles,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sends {
    /// Messages whose intended time came.
    pub intended: u64,
    pub sent: u64,
    /// Of these, by agents and bots, to what they were asked.
    pub answers: u64,
    /// Not sent: the session was down, or had too many commands in flight.
    pub unsent: u64,
    pub acknowledged: u64,
    /// Answered with ERROR.
    pub refused: u64,
    /// Not answered within the grace, or cut off.
    pub unanswered: u64,
    /// Acknowledged per second of the load, the wait for the last answers included.
    pub per_second: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Deliveries {
    /// How messages followed one another: `paced`, `overlapping` or `bursts`; figures of different regimes say nothing
    /// about each other. `None`: many conversations.
    pub regime: Option<String>,
    pub subscribers: Option<u64>,
    /// Times that the server was too busy for a subscription, which was asked for once more.
    pub subscribes_repeated: Option<u64>,
    pub publishes: Option<u64>,
    /// Publishes that the server acknowledged; a plain one does not.
    pub acknowledged: Option<u64>,
    /// What follows from the acknowledged messages and the plan.
    pub expected: u64,
    pub pushed: u64,
    /// Not pushed within the grace, to sessions that were live.
    pub missing: u64,
    /// Times that the server said it had left pushes out.
    pub left_out: u64,
    pub per_second: f64,
    /// From the first intended time to the last push.
    pub seconds: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Logs {
    /// Conversations whose log was read whole after the load.
    pub conversations_read: u64,
    pub entries_read: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Echo {
    pub echoed: u64,
    pub unanswered: u64,
    pub per_second: f64,
    pub seconds: f64,
    pub per_server_cpu_second: Option<f64>,
    pub echo_us: Quantiles,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// `fin` or `rst`.
    pub how: String,
    pub window_seconds: f64,
    pub dropped: u64,
    /// Until everybody was back, from the first drop.
    pub seconds: f64,
    pub returned: u64,
    pub failed: u64,
    pub attempts_failed: u64,
    pub turned_away: u64,
    pub told_when: u64,
    /// From a client's slot to its session.
    pub return_us: Quantiles,
    pub server_cpu_us_per_session: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// Sessions when it began, and those that were asked to go.
    pub sessions: u64,
    pub goaways: u64,
    /// Until nobody was left.
    pub seconds: f64,
    pub left: u64,
    pub ends: BTreeMap<String, u64>,
}

/// What the sampled clients of the real SDK saw. Not in the other numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sdk {
    pub clients: u64,
    pub entered: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    pub missing: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub garbled: u64,
    pub ack_us: Quantiles,
    pub delivery_us: Quantiles,
    pub connect_us: Quantiles,
    /// By reason.
    pub failures: BTreeMap<String, u64>,
}

/// One process of a load that several put on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerPart {
    pub address: String,
    pub clients: u64,
    pub threads: u32,
    /// `finished` or `lost`.
    pub state: String,
    /// When and why it was not heard of any more; `None` if it reached the end.
    pub lost_after_s: Option<f64>,
    pub lost_because: Option<String>,
    /// Share of its threads' time spent on a CPU, 0 to 1.
    pub cpu: f64,
    pub late_p99_us: Option<u64>,
    pub messages: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Server {
    pub address: String,
    /// Started for this run.
    pub own: bool,
    pub pid: Option<u32>,
    /// As `/version` tells, if an admin address is known.
    pub version: Option<String>,
    pub user_bytes_per_session: Option<f64>,
    /// Of its anonymous memory alone.
    pub anonymous_bytes_per_session: Option<f64>,
    pub kernel_bytes_per_session: Option<f64>,
    /// What both ends took of the host's available memory, by session.
    pub host_bytes_per_session: Option<f64>,
    /// What the numbers of memory are and are not.
    pub memory_note: String,
    /// The same by part; parts add up.
    pub memory: Vec<MemoryPart>,
    pub cpu_us_per_delivery: Option<f64>,
    pub deliveries_per_cpu_second: Option<f64>,
    /// Cores the server used during the load.
    pub cpu_cores: Option<f64>,
    /// CPU time by phase.
    pub cpu: Vec<CpuPart>,
    pub rss_bytes: Resident,
    pub anonymous_bytes: AnonymousBytes,
    /// The server's own counters that moved and say something: refusals first, then limits, then work.
    pub counters: Vec<Moved>,
    /// One each second, if the process is here.
    pub samples: Vec<Sample>,
}

/// Bytes of a session, of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemoryPart {
    /// `user`, `tls`, `kernel`: whose it is.
    pub of: String,
    /// For people.
    pub name: String,
    pub bytes: f64,
}

/// CPU time of the server in one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CpuPart {
    pub phase: String,
    pub seconds: f64,
    /// In its own code, and in the kernel on its behalf.
    pub user_us: f64,
    pub system_us: f64,
    /// What it was spent on: deliveries, sessions, echoes; `None` where nothing is counted.
    pub per: Option<String>,
    pub count: u64,
}

/// A counter of the server, from before the run to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// With its labels, as the server names it.
    pub name: String,
    pub rise: f64,
    /// `refusal`, `limit`, `loss` or `work`.
    pub kind: String,
}

/// A look at the server's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds since the load began; negative before that.
    pub at_s: f64,
    /// Cores in use since the sample before, in its own code and in the kernel.
    pub user_cores: Option<f64>,
    pub system_cores: Option<f64>,
    /// The same of the generator, both together.
    pub generator_cores: Option<f64>,
    pub rss_bytes: Option<u64>,
    /// Of the whole host: unreclaimable slabs, and buffers of TCP.
    pub slab_bytes: Option<u64>,
    pub tcp_bytes: Option<u64>,
    /// As the server counts them.
    pub sessions: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resident {
    pub without_sessions: Option<u64>,
    pub idle: Option<u64>,
    pub at_the_end: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AnonymousBytes {
    pub without_sessions: Option<u64>,
    pub with_sessions: Option<u64>,
    pub after_load: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Generator {
    /// It was not what limited the run: the numbers are the server's.
    pub valid: bool,
    pub threads: u32,
    /// Rings of io_uring; `None` without.
    pub rings: Option<u64>,
    /// Growth of all that is resident, by client.
    pub bytes_per_client: Option<f64>,
    /// Share of its threads' time spent on a CPU, 0 to 1, in the part of the run that is judged.
    pub cpu: f64,
    /// The same thread by thread, the busiest first.
    pub by_thread: Vec<ThreadPart>,
    /// `None` for loads without intended times.
    pub late_p99_us: Option<u64>,
    /// Actual against intended times.
    pub late_us: Quantiles,
    /// Messages whose time came and that were not sent.
    pub unsent: u64,
    /// The limits above which the generator counts as what limited the run.
    pub cpu_max: f64,
    pub late_p99_us_max: u64,
}

/// How busy a thread of the generator was at its busiest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadPart {
    pub name: String,
    /// Share of the run spent on a CPU, and of its busiest second; 0 to 1.
    pub cpu: f64,
    pub cpu_max: f64,
}

/// Another target of the same load: what is put beside this one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Beside {
    pub name: String,
    /// The verdict's word; a run in which the generator was the limit is `generator`.
    pub verdict: String,
    /// By the pointer of the figure in a report.
    pub figures: BTreeMap<String, f64>,
}
