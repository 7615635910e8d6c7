//! What moves bytes. Each driver implements [`Driver`](roost_edge_core::driver::Driver).

mod choice;
mod conn;
mod flags;
mod linger;
pub mod poll;
pub mod quic;
pub(crate) mod table;
#[cfg(target_os = "linux")]
pub mod uring;

pub(crate) use choice::{Drivers, NoDrivers};

pub use choice::{Unfit, probe};
pub use conn::Conn;
