//! Failures of the disk on demand, for tests.

use fjall::OwnedWriteBatch;
use parking_lot::Mutex;

use super::engine::CommitError;

/// How the next commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// The sync fails, and what was written is lost.
    SyncLost,
    /// The sync fails, but what was written reached the disk.
    SyncKept,
    /// A fault of our own: the writer panics.
    Panic,
}

/// What a test wants the disk to do. By default it does what the real one does.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    free_bytes: Option<u64>,
    commit: Option<CommitFault>,
    broken: bool,
}

impl Faults {
    /// Lets the disk have this many free bytes; `None` asks the real one.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.plan.lock().free_bytes = free;
    }

    /// Lets the next commit fail. As after a real failure, all later ones are refused.
    pub fn fail_next_commit(&self, fault: CommitFault) {
        self.plan.lock().commit = Some(fault);
    }

    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.plan.lock().free_bytes
    }

    pub(crate) fn on_commit(&self, batch: OwnedWriteBatch) -> Result<OwnedWriteBatch, CommitError> {
        let mut plan = self.plan.lock();
        if plan.broken {
            return Err(CommitError::Stopped("an injected failure; restart needed".to_owned()));
        }
        let Some(fault) = plan.commit.take() else {
            return Ok(batch);
        };
        plan.broken = true;
        assert_ne!(fault, CommitFault::Panic, "an injected panic");
        if fault == CommitFault::SyncKept {
            // The journal has it, but no view shows it: the snapshot is not renewed.
            let _ = batch.commit();
        }
        Err(CommitError::Unknown("an injected failure of the sync".to_owned()))
    }
}
