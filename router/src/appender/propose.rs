//! One try to append, with every way it may end.

use std::sync::Arc;

use roost_storage::{Append, Appended, Entry, Store, StoreError};
use roost_wire::link::SessionKey;
use roost_wire::pb;

use crate::conversation::Conversation;
use crate::{Bus, Downstream, Env, Router};

/// Tries before an append is given up. Each lost one means that another appender won.
pub(crate) const ROUNDS_MAX: usize = 8;

/// How a try ended.
pub(crate) enum Tried {
    /// Durable.
    Stored,
    /// Not stored as far as the log shows, which was read: look again, then try again. Trying again is safe whatever
    /// became of an ambiguous try, because both want the same seq and only one can have it.
    Moved,
    /// Certainly not stored.
    Failed(pb::Error),
    /// Nobody knows, and the log cannot be read now.
    Doubt,
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Appends once. After [`Tried::Doubt`] call [`Self::in_doubt`].
    ///
    /// `doubt` is set as soon as the outcome of a try was unknown; from then on no failure is certain. `except` names
    /// the session that need not be pushed an entry which the log turns out to have.
    pub(crate) async fn propose(
        &self,
        conv: &Arc<Conversation>,
        append: Append,
        doubt: &mut bool,
        except: impl Fn(&Entry) -> Option<SessionKey>,
    ) -> Tried {
        let (expected, count) = (append.expected, append.entries.len());
        let appended = tokio::time::timeout(self.config.store_timeout, self.store.append(append)).await;
        match appended {
            Ok(Ok(Appended::Stored { .. })) => {
                self.metrics.appends.add(1);
                self.metrics.entries.add(count);
                Tried::Stored
            }
            Ok(Ok(Appended::Conflict { tail, head })) => {
                self.metrics.append_conflicts.add(1);
                if tail.is_empty() {
                    // The head in memory is above the log's: memory is wrong.
                    self.forget(conv);
                    conv.state.lock().told = Some(head);
                } else {
                    // If catching up fails, the next load tells why.
                    let _ = self.catch_up(conv, tail, Some(head), except).await;
                }
                Tried::Moved
            }
            Err(_) | Ok(Err(StoreError::Unknown(_))) => {
                *doubt = true;
                {
                    // Whatever the log turns out to have is to be told, here and to the other nodes.
                    let mut state = conv.state.lock();
                    state.told.get_or_insert(expected - 1);
                    (state.doubtful, state.looks) = (Some(expected), 0);
                }
                self.metrics.append_unknowns.add(1);
                tracing::warn!(conv = %conv.id, expected, "outcome of an append is unknown, reading the log");
                match self.catch_up_from(conv, expected - 1, except).await {
                    // If the log does not have it yet, it stays doubtful: the next try may meet it there.
                    Ok(()) => Tried::Moved,
                    Err(_) => Tried::Doubt,
                }
            }
            Ok(Err(error)) => {
                let error = self.store_error(&error);
                if *doubt { Tried::Doubt } else { Tried::Failed(error) }
            }
        }
    }

    /// The log may have more than memory says. The members are told later what it is.
    pub(crate) fn in_doubt(&self, conv: &Arc<Conversation>) {
        self.metrics.append_doubts.add(1);
        self.forget(conv);
        self.settle_later(conv);
    }
}
