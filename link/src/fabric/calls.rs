//! Calls of the API, as sessions of a shard of their own: each call is a session for the time of one command.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::{ErrorCode, FrameBody, UserId, pb};
use tokio::sync::oneshot;

use crate::Hub;
use crate::metrics::RouterMetrics;

/// Calls under way.
pub(crate) struct Calls {
    shard: u16,
    slots: Mutex<Slots>,
    max: usize,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    busy: usize,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    caller: Option<oneshot::Sender<FrameBody>>,
}

/// A call's place: given back when it is dropped.
struct Place<'a> {
    calls: &'a Calls,
    key: SessionKey,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut slots = self.calls.slots.lock();
        let Some(slot) = slots.slots.get_mut(self.key.slot() as usize) else { return };
        slot.caller = None;
        slot.generation = (slot.generation + 1) % SessionKey::GENERATIONS;
        slots.free.push(self.key.slot());
        slots.busy -= 1;
    }
}

/// A command on behalf of a user.
pub(crate) struct Call {
    pub(crate) user: UserId,
    pub(crate) body: FrameBody,
    pub(crate) within: Duration,
}

impl Calls {
    pub(crate) fn new(shard: u16, max: usize) -> Self {
        Self { shard, slots: Mutex::default(), max }
    }

    /// Has the router do what the call says.
    ///
    /// # Errors
    /// What the router answers; 503 if there are too many calls, 502 if it does not answer in time.
    pub(crate) async fn call<H: Hub>(
        &self,
        hub: &Arc<H>,
        call: Call,
        metrics: &RouterMetrics,
    ) -> Result<FrameBody, pb::Error> {
        let (caller, answer) = oneshot::channel();
        let Some(place) = self.enter(caller) else {
            metrics.calls_refused.add(1);
            return Err(ErrorCode::Overloaded.because("too many calls at once"));
        };
        let Call { user, body, within } = call;
        hub.submit(&mut vec![Up::Command { session: place.key, user, rid: 1, body }]);
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(FrameBody::Error(error))) => Err(error),
            Ok(Ok(body)) => Ok(body),
            _ => Err(ErrorCode::Unknown.error()),
        }
    }

    fn enter(&self, caller: oneshot::Sender<FrameBody>) -> Option<Place<'_>> {
        let mut slots = self.slots.lock();
        if slots.busy >= self.max {
            return None;
        }
        slots.busy += 1;
        let at = slots.free.pop().unwrap_or_else(|| {
            slots.slots.push(Slot::default());
            // There are no more of them than `max`.
            (slots.slots.len() - 1) as u32
        });
        let slot = &mut slots.slots[at as usize];
        slot.caller = Some(caller);
        let key = SessionKey::new(self.shard, at, slot.generation);
        Some(Place { calls: self, key })
    }

    /// Takes what the router says. All but replies is for sessions that stay.
    pub(crate) fn post(&self, batch: &mut Vec<Down>) {
        for down in batch.drain(..) {
            let Down::Reply { session, frame } = down else { continue };
            let caller = {
                let mut slots = self.slots.lock();
                let slot = slots.slots.get_mut(session.slot() as usize);
                slot.filter(|slot| slot.generation == session.generation()).and_then(|slot| slot.caller.take())
            };
            let body = frame.and_then(|frame| frame.body).unwrap_or(FrameBody::Ok(pb::Ok {}));
            if let Some(caller) = caller {
                // A caller that went away does not want to know.
                let _ = caller.send(body);
            }
        }
    }
}
