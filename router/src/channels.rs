//! Channels: broadcast with a log. Anybody connected may subscribe and read; who may publish is a setting.
//!
//! A channel comes into being with its first publish; subscribing writes nothing.

use roost_storage::Store;
use roost_wire::limits::SUBSCRIPTIONS_MAX;
use roost_wire::link::{Down, SessionKey};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};

use crate::conversation::Conversation;
use crate::outbox::{Answer, Outbox};
use crate::sessions::Channels;
use crate::{Bus, Downstream, Env, Router};

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// SUBSCRIBE. Again is no error.
    pub(crate) fn subscribe(&self, conv: &Conversation, session: SessionKey, user: &UserId) -> Answer {
        let alive = || self.local.holds(user, session);
        let mark = self.sessions.mark(&conv.id);
        let enter = |channels: &mut Channels| channels.enter(mark, SUBSCRIPTIONS_MAX);
        let subscribed = self.sessions.change_channels(session, alive, enter);
        match subscribed {
            Some(false) => Err(ErrorCode::TooManyWatches.error()),
            // The session ended meanwhile.
            None => Ok(FrameBody::Ok(pb::Ok {})),
            Some(true) => {
                let mut out = Outbox::default();
                out.push(session.shard(), Down::Join { session, topic: conv.id.clone() });
                out.flush(&*self.down);
                Ok(FrameBody::Ok(pb::Ok {}))
            }
        }
    }

    /// UNSUBSCRIBE. Without a subscription is no error.
    pub(crate) fn unsubscribe(&self, conv: &Conversation, session: SessionKey) -> Answer {
        let mark = self.sessions.mark(&conv.id);
        self.sessions.change_channels(session, || true, |channels| channels.leave(mark));
        let mut out = Outbox::default();
        out.push(session.shard(), Down::Leave { session, topic: conv.id.clone() });
        out.flush(&*self.down);
        Ok(FrameBody::Ok(pb::Ok {}))
    }
}
