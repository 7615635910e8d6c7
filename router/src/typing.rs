//! TYPING: passed on to the other members who are online, seldom enough, and never stored.

use roost_storage::Store;
use roost_wire::link::{Envelope, Lane, SessionKey};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};

use crate::conversation::{Conversation, Loaded};
use crate::fanout::by_shard;
use crate::outbox::{Answer, Outbox};
use crate::{Bus, Downstream, Env, Router, To};

/// Typing sessions remembered per conversation; the oldest is forgotten first.
const TYPING_SESSIONS_MAX: usize = 32;

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// TYPING in a conversation that is loaded. In conversations above the interest threshold it is dropped.
    pub(crate) fn typing(
        &self,
        conv: &Conversation,
        session: SessionKey,
        user: &UserId,
        typing: &pb::Typing,
    ) -> Answer {
        let now_ms = self.env.now_ms();
        let interval_ms = self.config.typing_interval.as_millis() as u64;
        let found = conv.peek(|loaded| {
            if loaded.is_channel() {
                return Err(ErrorCode::WrongKind.error());
            }
            if loaded.roster.role(user).is_none() {
                return Err(ErrorCode::NotMember.error());
            }
            let small = loaded.roster.len() <= self.config.interest_threshold;
            Ok((small && may_pass(loaded, session, typing.on, now_ms, interval_ms)).then(|| loaded.roster.clone()))
        });
        let roster = found.unwrap_or_else(|| Err(ErrorCode::Overloaded.error()))?;
        let Some(roster) = roster else {
            self.metrics.typing_dropped.add(1);
            return Ok(FrameBody::Ok(pb::Ok {}));
        };
        let sessions = self.sessions_of(roster.users().filter(|member| *member != user));
        if !self.is_alone() || !sessions.is_empty() {
            self.metrics.typing.add(1);
            let push = pb::Typing { conv: conv.id.as_str().to_owned(), user: user.as_str().to_owned(), on: typing.on };
            let envelope = Envelope::new(Lane::Ephemeral, FrameBody::Typing(push));
            let mut out = Outbox::default();
            self.push_to(&by_shard(sessions), None, &envelope, &mut out);
            self.post_push(|| To::Members { members: roster.share(), but: Some(user.clone()) }, &envelope);
            out.flush(&*self.down);
        }
        Ok(FrameBody::Ok(pb::Ok {}))
    }
}

/// "on" passes once in `interval_ms`; "off" passes if "on" did before it.
fn may_pass(loaded: &mut Loaded, session: SessionKey, on: bool, now_ms: u64, interval_ms: u64) -> bool {
    let known = loaded.typing.iter_mut().find(|(of, ..)| *of == session);
    match (known, on) {
        (Some((_, at_ms, was_on)), true) => {
            // A clock that went back opens the way.
            let early = now_ms >= *at_ms && now_ms - *at_ms < interval_ms;
            if !early {
                (*at_ms, *was_on) = (now_ms, true);
            }
            !early
        }
        (Some((_, _, was_on)), false) => std::mem::replace(was_on, false),
        (None, false) => false,
        (None, true) => {
            if loaded.typing.len() >= TYPING_SESSIONS_MAX {
                loaded.typing.remove(0);
            }
            loaded.typing.push((session, now_ms, true));
            true
        }
    }
}
