//! The edge with real sockets, and a router of a few lines behind it.

mod bench_paths;
#[cfg(target_os = "linux")]
mod far;
mod hostile;
mod http;
mod lifecycle;
mod limits;
#[cfg(target_os = "linux")]
mod poll_tables;
mod quic;
mod sessions;
mod support;
mod tls;
#[cfg(target_os = "linux")]
mod uring_tables;
