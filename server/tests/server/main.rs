//! The `roost` program from outside: children, signals, files, and a client that knows the JSON form only.

mod common;
mod doctor;
mod fleet;
mod hostile;
mod killed;
mod life;
mod memory;
mod refusals;
mod store;
mod transports;
