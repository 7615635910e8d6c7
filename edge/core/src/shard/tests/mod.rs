//! Tests of the shard as a whole: no sockets, no real time.

mod bench;
mod bursts;
mod commands;
mod compression;
mod drain;
mod fanout;
mod guard;
mod handshake;
mod http;
mod native;
mod random;
mod slow;
mod timing;
