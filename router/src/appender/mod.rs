//! Appending: commands queue at their conversation, SENDs that meet there become one append.

pub(crate) mod batch;
pub(crate) mod dedup;
pub(crate) mod propose;
pub(crate) mod queue;
pub(crate) mod send;
pub(crate) mod settle;
