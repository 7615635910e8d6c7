//! After an append whose outcome could not be found out: the log is read until it can be, and what it turns out to
//! have is pushed to the members. The sender resends; the readers have nobody else to tell them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use roost_storage::Store;
use roost_wire::Seq;

use super::queue::Work;
use crate::conversation::Conversation;
use crate::{Bus, Downstream, Env, Router};

/// Pause before the log is looked at the first time; it doubles with each look that decides nothing.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// Looks at the log for an append that may still get in: two minutes in all. What gets in later is told with the next
/// entry, which meets it.
const LOOKS_MAX: u32 = 7;

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Looks at the log after a pause. At most one look per conversation is due.
    pub(crate) fn settle_later(&self, conv: &Arc<Conversation>) {
        let pause = {
            let mut state = conv.state.lock();
            if std::mem::replace(&mut state.settling, true) {
                return;
            }
            SETTLE_AFTER * 2u32.pow(state.looks.min(LOOKS_MAX))
        };
        let Some(router) = self.me.upgrade() else { return };
        let conv = Arc::clone(conv);
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            router.queued.fetch_add(1, Relaxed);
            let start = {
                let mut state = conv.state.lock();
                state.settling = false;
                state.queue.push_back(Work::Settle);
                !std::mem::replace(&mut state.running, true)
            };
            if start {
                router.start(vec![conv]);
            }
        });
    }

    /// Reads the conversation, which pushes what was not told; if that fails, or an append may still get in, again later.
    pub(crate) async fn settle(&self, conv: &Arc<Conversation>) {
        let mut done = Ok(());
        if let Some((head, true)) = self.doubted(conv) {
            done = self.catch_up_from(conv, head, |_| None).await;
        }
        if done.is_ok() {
            done = self.load(conv).await;
        }
        let again = match done {
            Ok(()) if matches!(self.doubted(conv), Some((_, true))) => {
                let mut state = conv.state.lock();
                state.looks += 1;
                state.looks < LOOKS_MAX
            }
            Ok(()) => false,
            Err(error) => error.retryable,
        };
        if again {
            self.settle_later(conv);
        }
    }

    /// The head in memory, and whether an append beyond it is doubtful.
    fn doubted(&self, conv: &Conversation) -> Option<(Seq, bool)> {
        let state = conv.state.lock();
        let head = state.loaded.as_ref()?.meta.head;
        Some((head, state.doubtful.is_some_and(|seq| seq > head)))
    }
}
