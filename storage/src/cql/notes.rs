//! Notes that effects are applied, written a little later and together: the answer to an append does not wait for them.
//!
//! A note that is lost costs a reader elsewhere some upserts.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream::StreamExt as _;
use parking_lot::Mutex;
use roost_wire::{ConvId, Seq};

use super::effects::{Hand, rank};
use super::metrics::CqlMetrics;
use super::{Shared, WRITES_AT_ONCE};

/// Pause between two rounds. A conversation that is busy is noted once in it; a node that reads one before that applies the
/// effects once more.
const ROUND: Duration = Duration::from_millis(25);
/// Conversations whose note waits.
const NOTES_WAITING_MAX: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Notes {
    waiting: Mutex<HashMap<(ConvId, u64), Seq>>,
}

impl Notes {
    pub(super) fn push(&self, conv: &ConvId, bucket: u64, seq: Seq, metrics: &CqlMetrics) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= NOTES_WAITING_MAX {
            metrics.notes_dropped.fetch_add(1, Relaxed);
            return;
        }
        let note = waiting.entry((conv.clone(), bucket)).or_default();
        *note = seq.max(*note);
    }

    /// Writes notes until the store is dropped.
    pub(super) async fn write(shared: Weak<Shared>) {
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(shared) = shared.upgrade() else { return };
            round(&shared).await;
        }
    }
}

/// Writes all that waits.
pub(super) async fn round(shared: &Arc<Shared>) {
    let waiting = std::mem::take(&mut *shared.notes.waiting.lock());
    futures_util::stream::iter(waiting)
        .for_each_concurrent(WRITES_AT_ONCE, |((conv, bucket), seq)| async move {
            let values = (rank(seq + 1, Hand::First), seq as i64, conv.as_str(), bucket as i64);
            if shared.db.write(&shared.db.statements.set_done, values).await.is_err() {
                shared.db.metrics.notes_dropped.fetch_add(1, Relaxed);
            }
        })
        .await;
}
