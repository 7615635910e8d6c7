//! The lock around what threads share and models are about, so that a model checker can stand in for it.
//!
//! With `--cfg roost_model` (`cargo xtask loom`) it is loom's: a test then sees every order in which threads can meet.

#[cfg(not(roost_model))]
pub(crate) use parking_lot::Mutex;

#[cfg(roost_model)]
pub(crate) use self::model::Mutex;

#[cfg(roost_model)]
mod model {
    use loom::sync::MutexGuard;

    /// loom's, with the face of `parking_lot`.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("loom ends a model at the first panic")
        }
    }

    /// Runs `model` under every order with at most `preemptions` switches away from a thread that could go on.
    #[cfg(test)]
    pub(crate) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
        builder.check(model);
    }
}

#[cfg(all(test, roost_model))]
pub(crate) use self::model::explore;
