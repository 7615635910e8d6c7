//! What carries the connections, and what befalls them: flags that several sub-commands have.

use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::time::Duration;

use clap::Args;

use super::args::share;
#[cfg(target_os = "linux")]
use super::args::span;
use crate::scenario::Transport;

/// What carries the connections.
#[derive(Debug, Args)]
pub(super) struct Carrying {
    /// What carries the connections
    #[arg(long, value_name = "WAY", default_value = "ws")]
    pub(super) transport: Transport,
    /// PEM file with the certificate of a target that is met by TLS or QUIC
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(super) ca: Option<PathBuf>,
    /// Share of the clients that go on from another address each second, 0 to 1; QUIC alone can
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub(super) migrating: f64,
    #[cfg(target_os = "linux")]
    #[command(flatten)]
    pub(super) impairment: ImpairmentArgs,
}

/// A network worse than the one there is.
#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(super) struct ImpairmentArgs {
    /// Hold every datagram up for so long, each way; QUIC only
    #[arg(long, value_name = "TIME", value_parser = span)]
    delay: Option<Duration>,
    /// By how much that may be more or less, so that datagrams overtake one another; QUIC only
    #[arg(long, value_name = "TIME", requires = "delay", value_parser = span)]
    jitter: Option<Duration>,
    /// Lose this share of the datagrams, each way, 0 to 1; QUIC only
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    loss: f64,
}

#[cfg(target_os = "linux")]
impl ImpairmentArgs {
    /// What it means for each datagram.
    pub(super) fn impairment(&self) -> crate::lines::Impairment {
        let Self { delay, jitter, loss } = *self;
        crate::lines::Impairment { delay: delay.unwrap_or_default(), jitter: jitter.unwrap_or_default(), loss }
    }
}
