//! Tests of the shard as a whole: no sockets, no real time.

mod bursts;
mod commands;
mod drain;
mod fanout;
mod handshake;
mod http;
mod random;
mod slow;
mod timing;
