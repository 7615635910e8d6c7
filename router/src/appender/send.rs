//! SEND and PUBLISH as they come in: fields checked, then queued at their conversation.

use roost_storage::Store;
use roost_wire::link::SessionKey;
use roost_wire::{ConvId, ErrorCode, UserId, pb};

use super::queue::{Came, Origin, Sending, Work};
use crate::config::PublishPolicy;
use crate::router::{Turn, channel_id, conv_id, overload_of};
use crate::{Bus, Downstream, Env, Router};

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// SEND of a session.
    pub(crate) fn send(&self, session: SessionKey, user: UserId, rid: u64, send: pb::Send, turn: &mut Turn) {
        let pb::Send { conv, cmid, body, attempt, seen } = send;
        let checked = conv_id(&conv).and_then(|conv| {
            let body = body.ok_or_else(|| ErrorCode::BadField.because("body is missing"))?;
            let origin = Origin::Session { session, rid };
            let sending = Sending {
                origin,
                from: user,
                cmid,
                body,
                attempt,
                seen,
                publish: false,
                came: Came::now(self.is_alone()),
            };
            sending.check().map(|()| (conv, sending))
        });
        match checked {
            Ok((conv, sending)) => self.queue_sending(session, rid, &conv, sending, turn),
            Err(error) => self.answer(session, rid, Err(error), &mut turn.out),
        }
    }

    /// PUBLISH of a session.
    pub(crate) fn publish_from(
        &self,
        session: SessionKey,
        user: UserId,
        rid: u64,
        publish: pb::Publish,
        turn: &mut Turn,
    ) {
        if self.config.publish == PublishPolicy::Service {
            return self.answer(session, rid, Err(ErrorCode::Forbidden.error()), &mut turn.out);
        }
        match self.check_publish(Origin::Session { session, rid }, user, publish) {
            Ok((conv, sending)) => self.queue_sending(session, rid, &conv, sending, turn),
            Err(error) => self.answer(session, rid, Err(error), &mut turn.out),
        }
    }

    fn queue_sending(&self, session: SessionKey, rid: u64, conv: &ConvId, sending: Sending, turn: &mut Turn) {
        if let Err(work) = self.enqueue(conv, Work::Send(sending), &mut turn.ready) {
            self.metrics.overloads.add(1);
            self.answer(session, rid, Err(overload_of(&work)), &mut turn.out);
        }
    }

    /// Checks the fields of a PUBLISH; one without a cmid gets one.
    ///
    /// # Errors
    /// 104 or 403.
    pub(crate) fn check_publish(
        &self,
        origin: Origin,
        from: UserId,
        publish: pb::Publish,
    ) -> Result<(ConvId, Sending), pb::Error> {
        let pb::Publish { channel, body, mut cmid, attempt, seen } = publish;
        if cmid.is_empty() {
            cmid = format!("{:032x}", self.env.random_bits());
        }
        let conv = channel_id(&channel)?;
        let body = body.ok_or_else(|| ErrorCode::BadField.because("body is missing"))?;
        let came = Came::now(self.is_alone());
        let sending = Sending { origin, from, cmid, body, attempt, seen, publish: true, came };
        sending.check()?;
        Ok((conv, sending))
    }
}
