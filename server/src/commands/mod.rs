//! Commands that talk to a server or its data directory.

pub(crate) mod drain;
pub(crate) mod key;
mod migrate;
pub(crate) mod publish;
pub(crate) mod store;
pub(crate) mod token;
