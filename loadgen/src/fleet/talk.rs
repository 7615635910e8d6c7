//! What coordinator and workers say to one another.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::part::Part;
use crate::recorder::Recorder;
use crate::scenario::Scenario;

/// The first message of each end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) program: String,
    pub(super) version: String,
    pub(super) protocol: u32,
    /// The other end proves the secret by this.
    pub(super) nonce: String,
    /// Of the secret and the other's nonce; `None` where there is no secret, and from a worker, which proves it later.
    pub(super) proof: Option<String>,
}

/// A worker's answer to the greeting.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Welcome {
    Accepted {
        /// Cores of its machine.
        cores: u32,
        proof: Option<String>,
    },
    /// In words.
    Refused { why: String },
}

/// What a coordinator says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Order {
    /// Connect your clients and make your conversations.
    Prepare(Box<Task>),
    /// Begin so many microseconds from now.
    Begin { in_us: u64 },
    /// As Ctrl-C.
    Stop,
    /// I am here.
    Alive,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Note {
    /// Clients are in, and wait for the start.
    Ready { entered: u64 },
    /// What was measured in a second of the load, or outside of it.
    Tick { second: Option<u64>, live: u64, recorder: Box<Recorder> },
    /// I am here.
    Alive,
    /// The run is over.
    Done(Box<Part>),
    /// It could not be done.
    Failed { why: String, unreachable: bool },
}

/// A worker's slice of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) scenario: Scenario,
    pub(super) address: SocketAddr,
    pub(super) host: String,
    pub(super) path: String,
    /// Further nodes of the same fleet.
    pub(super) others: Vec<(SocketAddr, String)>,
    /// Ids of its users begin with this number.
    pub(super) run: u64,
    /// The key of the server's tokens, in base64; only to workers on this machine.
    pub(super) token_key: Option<String>,
    /// The key is needed, and the worker is to have it.
    pub(super) needs_token_key: bool,
    /// Certificate that is believed, as PEM.
    pub(super) ca: Option<String>,
    /// What it verifies the certificate by.
    pub(super) server_name: String,
    /// `None`: as many as suit its machine.
    pub(super) threads: Option<u32>,
}
