//! Ctrl-C, looked at now and then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How often somebody asked to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicUsize>,
    /// Who asked the one above asked this one as well.
    above: Option<Arc<AtomicUsize>>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM; the first stops the load, the second the rest.
    pub(crate) fn listen() -> io::Result<Self> {
        let this = Self::default();
        let count = Arc::clone(&this.asked);
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(this)
    }

    /// One that can be [asked](Self::ask) without asking this one.
    pub(crate) fn child(&self) -> Self {
        Self { asked: Arc::default(), above: Some(Arc::clone(&self.asked)) }
    }

    /// Asks to stop, as a signal does.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// How often so far.
    pub(crate) fn count(&self) -> usize {
        let above = self.above.as_ref().map_or(0, |above| above.load(Ordering::Relaxed));
        self.asked.load(Ordering::Relaxed) + above
    }
}
