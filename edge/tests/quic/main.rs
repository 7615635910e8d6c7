//! QUIC, with clients of quinn.

mod certificates;
mod client;
mod hostile;
mod moving;
mod sessions;
// The rest of it is for streams.
#[allow(dead_code)]
#[path = "../edge/support.rs"]
mod support;
