//! Notes that effects are applied, written a little later and together: the answer to an append does not wait for them.
//!
//! A note that is lost costs a reader elsewhere some upserts.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use roost_wire::{ConvId, Seq};
use scylla::value::CqlValue;

use super::Shared;
use super::effects::{Hand, rank};
use super::metrics::CqlMetrics;

/// Pause between two rounds. A conversation that is busy is noted once in it; a node that reads one before that applies the
/// effects once more.
const ROUND: Duration = Duration::from_millis(100);
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
    let (db, big) = (&shared.db, CqlValue::BigInt);
    let note = |((conv, bucket), seq): ((ConvId, u64), Seq)| {
        let rank = rank(seq + 1, Hand::First);
        (&db.statements.set_done, vec![big(rank), big(seq as i64), CqlValue::Text(conv.into()), big(bucket as i64)])
    };
    let notes: Vec<_> = waiting.into_iter().map(note).collect();
    let count = notes.len() as u64;
    if db.write_all(notes).await.is_err() {
        db.metrics.notes_dropped.fetch_add(count, Relaxed);
    }
}
