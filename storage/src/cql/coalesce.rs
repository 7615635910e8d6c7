//! Reads of the same thing that are asked for at once share one request.
//!
//! A caller must see every write that resolved before it asked, so it never joins a read that has begun: all that come
//! while one is under way share the next one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{Result, StoreError};

type Waiting<V> = Vec<oneshot::Sender<Result<V>>>;

/// Reads under way, with those who wait for the next one.
pub(super) struct Coalesce<K, V> {
    reads: Arc<Mutex<HashMap<K, Waiting<V>>>>,
}

impl<K, V> Default for Coalesce<K, V> {
    fn default() -> Self {
        Self { reads: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + 'static> Coalesce<K, V> {
    /// What a `read` that begins after this call gives. `shared` counts callers that were answered by another's.
    pub(super) async fn read<F, R>(&self, key: K, shared: &AtomicU64, read: R) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send,
        R: Fn() -> F + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let alone = {
            let mut reads = self.reads.lock();
            match reads.get_mut(&key) {
                Some(waiting) => {
                    if !waiting.is_empty() {
                        shared.fetch_add(1, Relaxed);
                    }
                    waiting.push(answer);
                    None
                }
                None => {
                    reads.insert(key.clone(), Vec::new());
                    Some(answer)
                }
            }
        };
        if let Some(answer) = alone {
            // A task, so that a caller that goes away does not take the others' read with it.
            let under_way = UnderWay { reads: Arc::clone(&self.reads), key };
            tokio::spawn(async move {
                let mut waiting = vec![answer];
                while !waiting.is_empty() {
                    let result = read().await;
                    waiting.drain(..).for_each(|answer| drop(answer.send(result.clone())));
                    waiting = under_way.next();
                }
            });
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Unavailable("a shared read was given up".to_owned())))
    }
}

/// A key whose reads go on. Dropped in a panic it lets the waiting fail and the key be read anew.
struct UnderWay<K: Eq + Hash, V> {
    reads: Arc<Mutex<HashMap<K, Waiting<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V> UnderWay<K, V> {
    /// Those who came meanwhile; without any the key is free.
    fn next(&self) -> Waiting<V> {
        let mut reads = self.reads.lock();
        match reads.get_mut(&self.key) {
            Some(waiting) if !waiting.is_empty() => std::mem::take(waiting),
            _ => {
                reads.remove(&self.key);
                Vec::new()
            }
        }
    }
}

impl<K: Eq + Hash, V> Drop for UnderWay<K, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.reads.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[tokio::test]
    async fn nobody_gets_a_read_that_began_before_asking() {
        let (reads, state) = (Arc::new(Coalesce::<u8, usize>::default()), Arc::new(AtomicUsize::new(0)));
        let (begun, shared) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let ask = || {
            let (reads, state, begun, shared) = (reads.clone(), state.clone(), begun.clone(), shared.clone());
            tokio::spawn(async move {
                let read = move || {
                    begun.fetch_add(1, Relaxed);
                    let seen = state.load(Relaxed);
                    async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(seen)
                    }
                };
                reads.read(7, &shared, read).await
            })
        };
        let first = ask();
        tokio::time::sleep(Duration::from_millis(5)).await;
        state.store(1, Relaxed);
        let later: Vec<_> = (0..10).map(|_| ask()).collect();
        assert_eq!(first.await.unwrap(), Ok(0));
        for later in later {
            assert_eq!(later.await.unwrap(), Ok(1));
        }
        assert_eq!((begun.load(Relaxed), shared.load(Relaxed)), (2, 9));
        assert!(reads.reads.lock().is_empty(), "nothing is kept");
    }
}
