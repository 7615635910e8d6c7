//! Sessions that come with their edge: those that live on while their router does not.
//!
//! An edge keeps its connections when its router ends, and brings their sessions to another one. The first router let
//! them in; the edge is trusted to say so.

use std::ops::Range;
use std::sync::Arc;

use roost_storage::Store;
use roost_wire::link::{Down, SessionKey};
use roost_wire::{CloseCode, UserId};

use crate::accounts::check_name;
use crate::outbox::Outbox;
use crate::{Bus, Downstream, Env, Notice, Router};

/// A session that another router let in.
#[derive(Clone, Debug)]
pub struct Adoptee {
    /// Its key here.
    pub session: SessionKey,
    /// Whose.
    pub user: UserId,
    /// The device that its WELCOME named.
    pub device: String,
    /// The display name that its WELCOME named; may be empty.
    pub name: String,
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Takes over a live session. It is told nothing; whoever brings it has it sync, watch and subscribe anew.
    ///
    /// If a session of the same device is here, that one is the newer one more likely than not: it came while this one
    /// had no router. The adoptee is then closed so that its client, if there still is one, comes back and replaces it.
    /// For the same reason other nodes are not asked to end theirs.
    pub fn adopt(self: &Arc<Self>, adoptee: &Adoptee) {
        let Adoptee { session, user, device, name } = adoptee;
        let session = *session;
        let name = check_name(name).ok().filter(|name| !name.is_empty());
        // What it knew of others is of no use: no session is ended for this one.
        self.number_session(session);
        let came = || self.post(|| Notice::Came { user: user.clone(), name: name.map(Arc::from) });
        let joins = || {
            let mut out = Outbox::default();
            for topic in self.interest.of(user) {
                out.push(session.shard(), Down::Join { session, topic });
            }
            out.flush(&*self.down);
        };
        match self.local.adopt(user, device, session, name, came, joins) {
            Some(first) => {
                self.metrics.sessions.add(1);
                self.metrics.adopted.add(1);
                if first {
                    self.presence_changed(user);
                }
            }
            None => {
                self.forget_number(session);
                let mut out = Outbox::default();
                out.push(session.shard(), Down::Close { session, code: CloseCode::Drain });
                out.flush(&*self.down);
            }
        }
    }

    /// The shards are no more, and so are the sessions on them. Returns how many sessions those were. Lets others run
    /// now and then.
    pub async fn drop_shards(self: &Arc<Self>, shards: Range<u16>) -> usize {
        let mut dropped = 0;
        for part in 0..self.local.parts() {
            let sessions = self.local.of_shards(part, &shards);
            dropped += sessions.len();
            for (session, user) in sessions {
                self.gone(session, &user);
            }
            tokio::task::yield_now().await;
        }
        dropped
    }
}
