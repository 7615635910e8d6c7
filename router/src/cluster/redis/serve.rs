//! What this node hears, brought to its router.

use std::sync::{Arc, Weak};
use std::time::Duration;

use roost_storage::Store;

use super::lease::Leases;
use super::shared::Shared;
use super::{Tasks, bridge, codec};
use crate::{Bus, Downstream, Env, Parcel, Router};

/// Parcels that are heard before others run.
const HEARD_AT_ONCE_MAX: usize = 256;

/// What arrives for a node. Dropped: nothing is heard any more; the table, leases and settings go on.
pub struct RedisInbox {
    shared: Arc<Shared>,
}

/// A router that hears the other nodes. Dropping it ends that.
#[must_use]
pub struct Serving {
    _tasks: Tasks,
}

impl RedisInbox {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The parcels of the next message of another node. May be dropped while it waits: nothing is lost.
    pub async fn recv(&mut self) -> Vec<Parcel> {
        let message = self.shared.incoming.pop().await;
        let mut parcels = Vec::with_capacity(message.parcels.len());
        for bytes in message.parcels {
            match codec::parcel(message.from, message.incarnation, bytes) {
                Ok(parcel) => parcels.push(parcel),
                Err(error) => {
                    self.shared.metrics.parcels_refused.add(1);
                    self.shared.complain(&error);
                }
            }
        }
        self.shared.metrics.parcels_heard.add(parcels.len());
        parcels
    }

    /// Has `router` hear the other nodes and tell them that it lives, and passes on what programs publish in Redis when
    /// this node's turn comes (`RedisOptions::bridge`).
    pub fn serve<S: Store, D: Downstream, E: Env, B: Bus>(self, router: &Arc<Router<S, D, E, B>>) -> Serving {
        let shared = Arc::clone(&self.shared);
        let mut tasks = Tasks::default();
        if shared.options.bridge {
            let (leases, router) = (Leases::new(Arc::clone(&shared)), Arc::downgrade(router));
            let shared = Arc::clone(&shared);
            let job = move |_token| bridge::run(Arc::clone(&shared), Weak::clone(&router));
            tasks.0.push(leases.run_as_leader(bridge::LEASE, job));
        }
        tasks.0.push(tokio::spawn(beat(Arc::downgrade(router), shared.options.beat_every)));
        tasks.0.push(tokio::spawn(hear(self, Arc::downgrade(router))));
        Serving { _tasks: tasks }
    }
}

async fn hear<S: Store, D: Downstream, E: Env, B: Bus>(mut inbox: RedisInbox, router: Weak<Router<S, D, E, B>>) {
    loop {
        let parcels = inbox.recv().await;
        let Some(router) = router.upgrade() else { return };
        if inbox.shared.is_superseded() {
            // They are for the node that has this one's name now.
            return;
        }
        for (count, parcel) in parcels.into_iter().enumerate() {
            router.hear(parcel);
            if count % HEARD_AT_ONCE_MAX == HEARD_AT_ONCE_MAX - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn beat<S: Store, D: Downstream, E: Env, B: Bus>(router: Weak<Router<S, D, E, B>>, every: Duration) {
    let mut beats = tokio::time::interval(every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let Some(router) = router.upgrade() else { return };
        router.beat();
    }
}
