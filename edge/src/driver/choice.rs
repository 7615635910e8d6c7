//! Which driver: what was asked for, and what this machine allows.

use std::io;
use std::sync::Arc;
use std::thread;

use roost_edge_core::driver::Wake;

use super::poll::PollDriver;
#[cfg(target_os = "linux")]
use super::uring::{self, UringDriver};
use crate::DriverKind;

/// Why io_uring cannot move bytes here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// A policy forbids it: seccomp (container runtimes do by default), `kernel.io_uring_disabled`, or SELinux.
    #[error(
        "io_uring is forbidden here: allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile \
         of the container, and see sysctl kernel.io_uring_disabled"
    )]
    Forbidden,
    /// The system has none.
    #[error("this system has no io_uring: Linux 6.1 or later is needed")]
    Missing,
    /// The kernel has one, but not all of what is needed.
    #[error("the io_uring of this kernel is too old ({0}): Linux 6.1 or later is needed")]
    TooOld(&'static str),
    /// It is there but does not do what it should.
    #[error("io_uring does not work here: {0}")]
    Failed(io::Error),
}

/// The drivers of all shards: of one kind, decided once, so that the loops are made for it.
pub(crate) enum Drivers {
    Poll(Vec<PollDriver>),
    #[cfg(target_os = "linux")]
    Uring(Vec<UringDriver>),
}

/// Why there are no drivers.
pub(crate) enum NoDrivers {
    /// The kind that was asked for cannot run here.
    Unfit(Unfit),
    /// No descriptor or memory is left, most likely.
    Io(io::Error),
}

impl From<io::Error> for NoDrivers {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Drivers {
    /// Drivers for `shards` shards of `connections_max` connections each, and what wakes them. The log says which kind, and
    /// why.
    pub(crate) fn new(kind: DriverKind, shards: u16, connections_max: usize) -> Result<Made<Self>, NoDrivers> {
        // On a thread that ends: when a ring goes, the kernel interrupts the system calls of whoever made it.
        thread::scope(|scope| scope.spawn(|| Self::choose(kind, shards, connections_max)).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn choose(kind: DriverKind, shards: u16, connections_max: usize) -> Result<Made<Self>, NoDrivers> {
        let told =
            |kind: DriverKind, reason: &str| tracing::info!(driver = kind.name(), reason, "what moves the bytes");
        match kind {
            DriverKind::Auto => match Self::probed(shards, connections_max) {
                Ok(made) => {
                    told(DriverKind::Uring, "the kernel allows all it needs");
                    return Ok(made);
                }
                Err(unfit) => told(DriverKind::Poll, &unfit.to_string()),
            },
            DriverKind::Uring => {
                probe().map_err(NoDrivers::Unfit)?;
                told(kind, "it was asked for");
            }
            DriverKind::Poll => told(kind, "it was asked for"),
        }
        Ok(Self::make(kind, shards, connections_max)?)
    }

    /// Drivers on io_uring, if they can be had.
    fn probed(shards: u16, connections_max: usize) -> Result<Made<Self>, Unfit> {
        probe()?;
        Self::make(DriverKind::Uring, shards, connections_max).map_err(Unfit::Failed)
    }

    fn make(kind: DriverKind, shards: u16, connections_max: usize) -> io::Result<Made<Self>> {
        match kind {
            #[cfg(target_os = "linux")]
            DriverKind::Uring => {
                let (drivers, wakers) = collect(shards, |shard| UringDriver::new(shard, connections_max))?;
                Ok((Self::Uring(drivers), wakers))
            }
            #[cfg(not(target_os = "linux"))]
            DriverKind::Uring => Err(io::ErrorKind::Unsupported.into()),
            DriverKind::Auto | DriverKind::Poll => {
                let (drivers, wakers) = collect(shards, PollDriver::new)?;
                Ok((Self::Poll(drivers), wakers))
            }
        }
    }
}

/// Drivers, and what wakes each of them.
type Made<D> = (D, Vec<Arc<dyn Wake>>);

fn collect<D, W: Wake>(shards: u16, new: impl Fn(u16) -> io::Result<(D, Arc<W>)>) -> io::Result<Made<Vec<D>>> {
    let (mut drivers, mut wakers): Made<Vec<D>> = (Vec::new(), Vec::new());
    for shard in 0..shards {
        let (driver, waker) = new(shard)?;
        drivers.push(driver);
        wakers.push(waker);
    }
    Ok((drivers, wakers))
}

/// Whether io_uring can move bytes here. Call it on a thread that ends soon: when a ring goes, the kernel interrupts the
/// system calls of whoever made it.
///
/// # Errors
/// What stands in the way.
#[cfg(target_os = "linux")]
pub fn probe() -> Result<(), Unfit> {
    uring::probe()
}

/// Whether io_uring can move bytes here: it is Linux's.
///
/// # Errors
/// There is none.
#[cfg(not(target_os = "linux"))]
pub fn probe() -> Result<(), Unfit> {
    Err(Unfit::Missing)
}
