//! After an append whose outcome could not be found out: the log is read until it can be, and what it turns out to
//! have is pushed to the members. The sender resends; the readers have nobody else to tell them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use roost_storage::Store;

use super::queue::Work;
use crate::conversation::Conversation;
use crate::{Bus, Downstream, Env, Router};

/// Pause before the log is looked at again.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Looks at the log after a pause. At most one look per conversation is due.
    pub(crate) fn settle_later(&self, conv: &Arc<Conversation>) {
        if std::mem::replace(&mut conv.state.lock().settling, true) {
            return;
        }
        let Some(router) = self.me.upgrade() else { return };
        let conv = Arc::clone(conv);
        self.runtime.spawn(async move {
            tokio::time::sleep(SETTLE_AFTER).await;
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

    /// Reads the conversation, which pushes what was not told; if that fails, again later.
    pub(crate) async fn settle(&self, conv: &Arc<Conversation>) {
        if let Err(error) = self.load(conv).await
            && error.retryable
        {
            self.settle_later(conv);
        }
    }
}
