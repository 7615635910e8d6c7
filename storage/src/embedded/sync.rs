//! What callers and the writer share is made of these, so that a model checker can stand in for them.
//!
//! With `--cfg roost_model` (`cargo xtask loom`) they are loom's: a test then sees every order in which threads can meet.

#[cfg(not(roost_model))]
pub(crate) use parking_lot::{Condvar, Mutex};

#[cfg(roost_model)]
pub(crate) use self::model::{Condvar, Mutex};

#[cfg(roost_model)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::time::Instant;

    const HELD: &str = "a guard is without its lock only while it waits";
    const CALM: &str = "loom ends a model at the first panic";

    /// loom's, with the face of `parking_lot`.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    /// loom's, with the face of `parking_lot`. Time stands still: a wait with a time-out ends by a call alone.
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(CALM)))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect(HELD)
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect(HELD)
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).expect(CALM));
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) {
            self.wait(guard);
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
