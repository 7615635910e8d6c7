//! Who is where. On one node [`local`] says it; the shared registry and the bus between nodes will stand beside it.

pub(crate) mod local;
