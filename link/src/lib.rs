//! Edges and routers in processes of their own: the link between them, and the API for backends, both by gRPC.
//!
//! - [`proto`]: what travels, and `codec`: from and to what edge and router know;
//! - [`Fabric`]: the router's side of deliveries: the shards of the edge in this process and of all that are attached;
//! - [`LinkService`]: edges attach themselves there; [`ApiService`]: backends call there; [`serve`]: both at one address;
//! - [`EdgeLink`]: the edge's way to routers: it keeps sessions while routers come and go.
//!
//! Invariants:
//! - a command of a session is answered exactly once, whatever becomes of its router;
//! - a session is known to one router at a time, as far as its edge can tell, and what another one says about it counts
//!   for nothing;
//! - one thing for many sessions of an edge crosses the link once;
//! - every queue has a limit, named in [`LinkConfig`], and a metric that tells when it is reached.
//!
//! Absent on purpose: what a message means, and who is where. A router does not know which of its sessions are far away.
#![forbid(unsafe_code)]

mod api;
mod codec;
mod config;
mod edge;
mod fabric;
mod hub;
mod metrics;
mod resolve;
mod serve;
mod service;
mod status;
mod tls;

/// What travels: generated from `proto/`, where the comments are.
#[allow(missing_docs, clippy::doc_markdown, clippy::default_trait_access, unreachable_pub, unused_qualifications)]
pub mod proto {
    /// Between edges and routers.
    pub mod link {
        tonic::include_proto!("roost.link.v1");
    }
    /// For backends.
    pub mod api {
        tonic::include_proto!("roost.api.v1");
    }
    /// The API as reflection tells it.
    pub(crate) const API_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/api.bin"));
}

pub use api::ApiService;
pub use config::{LinkConfig, NodeName, RouterAddr};
pub use edge::EdgeLink;
pub use fabric::Fabric;
pub use hub::Hub;
pub use resolve::{BadRouters, Routers};
pub use serve::{ServeError, Serving, serve};
pub use service::LinkService;
pub use tls::{LinkTls, TlsError};

/// The versions of the link that this build speaks, lowest and highest.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;
