//! What the link needs of a router.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use roost_router::{Adoptee, Bus, Credentials, Downstream, Env, Router};
use roost_storage::Store;
use roost_wire::link::Up;
use roost_wire::{UserId, pb};

/// A router, whatever its store and its bus.
pub trait Hub: Send + Sync + 'static {
    /// See [`Router::submit`].
    fn submit(self: &Arc<Self>, batch: &mut Vec<Up>);

    /// See [`Router::adopt`].
    fn adopt(self: &Arc<Self>, adoptee: &Adoptee);

    /// See [`Router::drop_shards`].
    fn drop_shards(self: &Arc<Self>, shards: Range<u16>) -> impl Future<Output = usize> + Send;

    /// See [`Router::allow_service`].
    ///
    /// # Errors
    /// As there.
    fn allow_service(&self, token: &str) -> Result<(), pb::Error>;

    /// See [`Router::publish`].
    ///
    /// # Errors
    /// As there.
    fn publish(
        self: &Arc<Self>,
        from: Option<UserId>,
        publish: pb::Publish,
    ) -> impl Future<Output = Result<pb::Sent, pb::Error>> + Send;

    /// See [`Router::guest`].
    ///
    /// # Errors
    /// As there.
    fn guest(self: &Arc<Self>, name: &str) -> impl Future<Output = Result<Credentials, pb::Error>> + Send;

    /// See [`Router::refresh`].
    ///
    /// # Errors
    /// As there.
    fn refresh(self: &Arc<Self>, token: &str) -> impl Future<Output = Result<Credentials, pb::Error>> + Send;

    /// See [`Router::online`].
    fn online(&self, users: &[UserId]) -> Vec<bool>;

    /// See [`Router::disconnect`].
    fn disconnect(&self, user: &UserId);
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Hub for Router<S, D, E, B> {
    fn submit(self: &Arc<Self>, batch: &mut Vec<Up>) {
        Self::submit(self, batch);
    }

    fn adopt(self: &Arc<Self>, adoptee: &Adoptee) {
        Self::adopt(self, adoptee);
    }

    fn drop_shards(self: &Arc<Self>, shards: Range<u16>) -> impl Future<Output = usize> + Send {
        Self::drop_shards(self, shards)
    }

    fn allow_service(&self, token: &str) -> Result<(), pb::Error> {
        Self::allow_service(self, token)
    }

    fn publish(
        self: &Arc<Self>,
        from: Option<UserId>,
        publish: pb::Publish,
    ) -> impl Future<Output = Result<pb::Sent, pb::Error>> + Send {
        Self::publish(self, from, publish)
    }

    fn guest(self: &Arc<Self>, name: &str) -> impl Future<Output = Result<Credentials, pb::Error>> + Send {
        Self::guest(self, name)
    }

    fn refresh(self: &Arc<Self>, token: &str) -> impl Future<Output = Result<Credentials, pb::Error>> + Send {
        Self::refresh(self, token)
    }

    fn online(&self, users: &[UserId]) -> Vec<bool> {
        Self::online(self, users)
    }

    fn disconnect(&self, user: &UserId) {
        Self::disconnect(self, user);
    }
}
