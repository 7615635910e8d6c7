//! The router against stores in memory, on disk and failing, with an edge that records.

mod adopt;
mod channels;
mod connect;
mod faults;
mod gated;
mod groups;
mod harness;
mod large;
mod marks;
mod nodes;
mod outsider;
mod presence;
mod races;
mod sends;
mod sync;
