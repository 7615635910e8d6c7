//! What goes wrong with Redis, said so that whoever reads it knows what to do.

use fred::error::{Error, ErrorKind};

/// Why a node does not start with this Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options cannot be used.
    #[error("the URL of Redis or what belongs to it cannot be used: {0}")]
    Options(String),
    /// Nothing answers there.
    #[error("Redis at {at} cannot be reached: {why}. Is the address right, and does it run?")]
    Unreachable {
        /// The address.
        at: String,
        /// What the system says.
        why: String,
    },
    /// The password or the user is wrong, or one is missing.
    #[error("Redis at {at} refuses the password: {why}. Set user and password as Redis has them (ACL LIST there)")]
    Password {
        /// The address.
        at: String,
        /// What Redis says.
        why: String,
    },
    /// It answers, but not as it must.
    #[error("Redis at {at} cannot be used: {why}")]
    Unfit {
        /// The address.
        at: String,
        /// What is wrong.
        why: String,
    },
    /// Another node with this name lives.
    #[error("a node named {name} lives already ({by}). Give each node a name of its own, or stop that one first")]
    NameTaken {
        /// The name.
        name: String,
        /// What is known of the other one.
        by: String,
    },
    /// A node that lives speaks other versions of the bus only.
    #[error(
        "node {name} ({version}) speaks versions {theirs:?} of the bus, this one {ours:?}: upgrade by one release at a time, or stop it"
    )]
    Versions {
        /// The other node.
        name: String,
        /// Its release.
        version: String,
        /// The lowest and highest version it takes part in.
        theirs: (u32, u32),
        /// The lowest and highest version of this node.
        ours: (u32, u32),
    },
}

/// What an error of a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Not there, or not in time.
    Unreachable,
    /// Refuses to let us in.
    Password,
    /// Its certificate is not known here.
    Certificate,
    /// Refuses to write: `maxmemory`.
    OutOfMemory,
    /// Answers, but otherwise than it should.
    Unfit,
}

impl Trouble {
    pub(crate) fn of(error: &Error) -> Self {
        let details = error.details();
        match error.kind() {
            ErrorKind::Auth => Self::Password,
            ErrorKind::IO | ErrorKind::Tls if details.contains("InvalidCertificate") => Self::Certificate,
            ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Cluster => {
                Self::Unreachable
            }
            _ if details.starts_with("OOM") || details.contains("OOM command not allowed") => Self::OutOfMemory,
            _ if details.starts_with("NOPERM") => Self::Password,
            _ if ["LOADING", "BUSY", "MASTERDOWN", "READONLY"].iter().any(|word| details.starts_with(word)) => {
                Self::Unreachable
            }
            ErrorKind::Unknown if details.contains("not initialized") || details.contains("to router") => {
                Self::Unreachable
            }
            _ => Self::Unfit,
        }
    }

    /// What is to be done about it.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "is the address right, and does it run?",
            Self::Password => "set user and password as Redis has them",
            Self::Certificate => "name the file of the certificates that its own is to be checked against",
            Self::OutOfMemory => "raise maxmemory, or give it a policy that evicts what others keep there",
            Self::Unfit => "it must be Redis 7 or later, and redis-cluster:// is for Redis Cluster alone",
        }
    }
}

impl ConnectError {
    pub(crate) fn of(at: String, error: &Error) -> Self {
        let why = error.details().to_owned();
        match Trouble::of(error) {
            Trouble::Unreachable => Self::Unreachable { at, why },
            Trouble::Password => Self::Password { at, why },
            trouble @ (Trouble::Certificate | Trouble::OutOfMemory | Trouble::Unfit) => {
                Self::Unfit { at, why: format!("{why} ({})", trouble.advice()) }
            }
        }
    }
}
