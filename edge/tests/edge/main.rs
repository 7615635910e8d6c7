//! The edge with real sockets, and a router of a few lines behind it.

mod bench_paths;
mod hostile;
mod http;
mod lifecycle;
mod limits;
mod sessions;
mod support;
#[cfg(target_os = "linux")]
mod uring_tables;
