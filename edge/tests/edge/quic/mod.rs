//! QUIC, with clients of quinn.

mod certificates;
mod client;
mod hostile;
mod moving;
mod sessions;
