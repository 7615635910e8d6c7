//! The router.
use std::sync::Arc;

use roost_storage::Store;
use roost_wire::link::Up;
use roost_wire::{ErrorCode, UserId, pb};

use crate::{Credentials, Downstream, Env, RouterConfig, RouterSnapshot, auth::Keys, metrics::RouterMetrics};

/// The router of one node.
#[allow(dead_code)]
pub struct Router<S: Store, D: Downstream, E: Env> {
    config: RouterConfig,
    keys: Keys,
    store: Arc<S>,
    down: Arc<D>,
    env: E,
    metrics: RouterMetrics,
}

#[allow(missing_docs, clippy::missing_errors_doc, clippy::unused_async)]
impl<S: Store, D: Downstream, E: Env> Router<S, D, E> {
    /// Call it within a tokio runtime: work is spawned there.
    pub fn new(config: RouterConfig, keys: Keys, store: Arc<S>, down: Arc<D>, env: E) -> Arc<Self> {
        Arc::new(Self { config, keys, store, down, env, metrics: RouterMetrics::default() })
    }
    pub fn submit(self: &Arc<Self>, batch: &mut Vec<Up>) {
        batch.clear();
    }
    pub async fn guest(self: &Arc<Self>, _name: &str) -> Result<Credentials, pb::Error> {
        Err(ErrorCode::Unavailable.error())
    }
    pub async fn refresh(self: &Arc<Self>, _token: &str) -> Result<Credentials, pb::Error> {
        Err(ErrorCode::Unavailable.error())
    }
    pub async fn publish(self: &Arc<Self>, _from: Option<UserId>, _publish: pb::Publish) -> Result<pb::Sent, pb::Error> {
        Err(ErrorCode::Unavailable.error())
    }
    pub async fn close(self: &Arc<Self>) {}
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
    pub fn metrics(&self) -> RouterSnapshot {
        RouterSnapshot::new(&self.metrics)
    }
}
