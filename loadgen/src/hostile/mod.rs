//! Clients that mean harm, beside a load that means well: how the latency of the well-behaved changes while each kind
//! of attack lasts, and what the server answers.
//!
//! The good load is an ordinary run of the engine. A conductor starts one attack after another beside it, each in a
//! process of its own with addresses of its own, with quiet seconds between them. The seconds of the run are then
//! sorted into windows: quiet ones, and those of each attack.

pub(crate) mod attack;
pub(crate) mod conduct;
pub(crate) mod kinds;
pub(crate) mod page;
pub(crate) mod report;
mod socket;
pub(crate) mod windows;

/// First argument that makes this binary be an attacker.
pub(crate) const AS_ATTACKER: &str = "__attack";
