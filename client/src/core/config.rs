//! What a client waits for and how much it holds.

use std::time::Duration;

/// Where a client begins in a conversation it holds nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After what a device of the user already has: everything that came while nobody was there is shown.
    Delivered,
    /// At the head: only what comes from now on is shown; older entries are read by HISTORY when wanted.
    Head,
    /// At the first entry.
    First,
}

/// Times and limits of a client. Every queue of the core is here.
#[derive(Clone, Debug)]
pub struct Config {
    /// From opening a connection to WELCOME; later it is given up and tried again.
    pub connect_within: Duration,
    /// The server must let something be heard this soon after a frame that wants an answer, else the connection
    /// counts as half-open and is replaced.
    pub answer_within: Duration,
    /// A request of the app fails after this time, waiting for a connection included.
    pub request_within: Duration,
    /// Second delay of reconnecting; doubled from there. The first is a quarter of it.
    pub backoff_base: Duration,
    /// Longest delay of reconnecting.
    pub backoff_cap: Duration,
    /// A connection that lived this long makes the next delays short again.
    pub stable_after: Duration,
    /// How long a missing entry may still come by itself before it is fetched.
    pub gap_grace: Duration,
    /// How long marks (ACK, READ) are gathered before they are sent.
    pub marks_after: Duration,
    /// Sends that wait for their acknowledgement.
    pub outbox_entries_max: usize,
    /// Bytes of text in them.
    pub outbox_bytes_max: usize,
    /// Tries of a send that were refused for a passing reason before it is given up.
    pub send_refusals_max: u32,
    /// Requests of the app that wait for their answer.
    pub requests_max: usize,
    /// HISTORY commands in flight that fill gaps.
    pub fetches_in_flight_max: usize,
    /// Entries kept beyond a gap, of all conversations; further ones are fetched again later.
    pub held_entries_max: usize,
    /// Conversations followed; entries of further ones are told as skipped.
    pub conversations_max: usize,
    /// A gap above this is skipped to its last so many entries, and the app is told.
    pub catch_up_entries_max: u64,
    /// Where to begin in conversations it holds nothing of.
    pub start: Start,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(10),
            request_within: Duration::from_secs(15),
            backoff_base: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
            gap_grace: Duration::from_millis(150),
            marks_after: Duration::from_millis(100),
            outbox_entries_max: 1000,
            outbox_bytes_max: 4 * 1024 * 1024,
            send_refusals_max: 30,
            requests_max: 256,
            fetches_in_flight_max: 8,
            held_entries_max: 4096,
            conversations_max: 20_000,
            catch_up_entries_max: 10_000,
            start: Start::Delivered,
        }
    }
}
