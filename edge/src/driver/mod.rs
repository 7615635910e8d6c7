//! What moves bytes. Each driver implements [`Driver`](roost_edge_core::driver::Driver).

pub mod poll;
