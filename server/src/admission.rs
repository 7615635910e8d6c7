//! Admission by memory: before the kernel must kill, new sessions are sent away.
//!
//! A thread looks at what is left, twice a second. Below the reserve the edge answers upgrades with 503 and
//! `Retry-After`; sessions that are here go on. It opens again once a quarter more than the reserve is left, so that it
//! does not flap.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use serde::Deserialize;

use crate::config::ConfigError;
use crate::system::{Groups, Memory, Root};

/// How often it looks. The fastest arrivals there are take some ten MB in this time.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a share of the memory is at least, unless that is half of it: arrivals between two looks must fit.
const SHARE_MIN_BYTES: u64 = 64 << 20;

/// Memory that is kept free of new sessions, as written in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Percent of the memory there is.
    Share(u8),
    /// So many bytes; 0: new sessions are never refused for want of memory.
    Bytes(u64),
}

impl Reserve {
    /// The highest share: above it a node would rather refuse than serve.
    const SHARE_MAX: u8 = 50;

    /// In bytes, where there are `total_bytes`.
    ///
    /// # Errors
    /// It would leave less than half of the memory to sessions.
    pub(crate) fn bytes(self, total_bytes: u64) -> Result<u64, ConfigError> {
        let most = total_bytes / 2;
        match self {
            Self::Share(percent) => Ok((total_bytes / 100 * u64::from(percent)).max(SHARE_MIN_BYTES).min(most)),
            Self::Bytes(bytes) if bytes <= most => Ok(bytes),
            Self::Bytes(_) => Err(ConfigError::Value {
                key: "memory_reserve",
                reason: format!("{self} is more than half of the {total_bytes} bytes that there are"),
            }),
        }
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Share(5)
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

impl FromStr for Reserve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\": write it as 5% (at most {}%), 256MiB, 1GiB or 0", Self::SHARE_MAX);
        let number = |digits: &str| digits.trim().parse::<u64>().map_err(|_| wrong());
        if let Some(percent) = text.strip_suffix('%') {
            let percent = number(percent)?;
            // The cast fits: it is at most 50.
            let allowed = (1..=u64::from(Self::SHARE_MAX)).contains(&percent);
            return if allowed { Ok(Self::Share(percent as u8)) } else { Err(wrong()) };
        }
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
        let (digits, shift) =
            units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))).ok_or_else(wrong)?;
        number(digits)?.checked_mul(1 << shift).map(Self::Bytes).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Reserve {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Decides by what is left, with hysteresis.
#[derive(Debug)]
struct Judge {
    reserve_bytes: u64,
    admitting: bool,
}

impl Judge {
    const fn new(reserve_bytes: u64) -> Self {
        Self { reserve_bytes, admitting: true }
    }

    /// True or false: new sessions come in from now on, or do not. `None`: as before.
    fn look(&mut self, available_bytes: u64) -> Option<bool> {
        let opens_at = self.reserve_bytes + self.reserve_bytes / 4;
        let needed = if self.admitting { self.reserve_bytes } else { opens_at };
        let admitting = available_bytes >= needed;
        (std::mem::replace(&mut self.admitting, admitting) != admitting).then_some(admitting)
    }
}

/// What is known of memory, for pages.
#[derive(Debug)]
pub(crate) struct Admission {
    admitting: AtomicBool,
    available_bytes: AtomicU64,
    reserve_bytes: u64,
}

/// Looks at memory until it is dropped.
pub(crate) struct Watch {
    pub(crate) admission: Arc<Admission>,
    _stop: Sender<()>,
}

impl Admission {
    /// Whether new sessions are let in.
    pub(crate) fn is_open(&self) -> bool {
        self.admitting.load(Relaxed)
    }

    /// Bytes left at the last look; `None`: the kernel does not tell.
    pub(crate) fn available_bytes(&self) -> Option<u64> {
        Some(self.available_bytes.load(Relaxed)).filter(|bytes| *bytes != u64::MAX)
    }

    /// Bytes below which new sessions are refused; 0: they never are.
    pub(crate) const fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    fn saw(&self, judge: &mut Judge, memory: Option<Memory>, admit: &impl Fn(bool)) {
        // What cannot be read refuses nobody.
        let available_bytes = memory.map_or(u64::MAX, |memory| memory.available_bytes);
        self.available_bytes.store(available_bytes, Relaxed);
        let Some(admitting) = judge.look(available_bytes) else { return };
        self.admitting.store(admitting, Relaxed);
        admit(admitting);
        let reserve_bytes = self.reserve_bytes;
        if admitting {
            tracing::warn!(available_bytes, reserve_bytes, "there is memory again: new sessions are let in");
        } else {
            tracing::error!(available_bytes, reserve_bytes, "memory is nearly full: new sessions get 503");
        }
    }
}

/// What is to be watched: checked, and not begun.
pub(crate) struct Plan {
    root: Root,
    groups: Groups,
    reserve_bytes: u64,
}

impl Plan {
    /// Finds the memory there is for this process.
    ///
    /// # Errors
    /// `reserve` does not fit it.
    pub(crate) fn new(root: Root, reserve: Reserve) -> Result<Self, ConfigError> {
        let groups = Groups::find(&root);
        let reserve_bytes = match groups.memory(&root) {
            Some(memory) => reserve.bytes(memory.total_bytes)?,
            None => {
                tracing::warn!(
                    "the memory that is left cannot be read from /proc/meminfo: nobody is refused for want of it"
                );
                0
            }
        };
        Ok(Self { root, groups, reserve_bytes })
    }

    /// Looks once, then on a thread of its own. `admit` is told whenever it changes whether new sessions are let in.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn watch(self, admit: impl Fn(bool) + Send + 'static) -> io::Result<Watch> {
        let Self { root, groups, reserve_bytes } = self;
        let admission = Arc::new(Admission {
            admitting: AtomicBool::new(true),
            available_bytes: AtomicU64::new(u64::MAX),
            reserve_bytes,
        });
        let (seen, mut judge) = (Arc::clone(&admission), Judge::new(reserve_bytes));
        seen.saw(&mut judge, groups.memory(&root), &admit);
        let (stop, stopped) = mpsc::channel();
        std::thread::Builder::new().name("roost-memory".into()).spawn(move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                seen.saw(&mut judge, groups.memory(&root), &admit);
            }
        })?;
        Ok(Watch { admission, _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn who_comes_is_refused_below_the_reserve_until_there_is_a_quarter_more() {
        let mut judge = Judge::new(400);
        for (available, told) in [
            (401, None),
            (400, None),
            (399, Some(false)),
            (400, None),
            (499, None),
            (500, Some(true)),
            (400, None),
            (0, Some(false)),
            (0, None),
            (u64::MAX, Some(true)),
        ] {
            assert_eq!(judge.look(available), told, "{available}");
        }
        assert_eq!(Judge::new(0).look(0), None, "no reserve, no refusal");
    }

    #[test]
    fn a_reserve_is_a_share_or_a_number_of_bytes_and_leaves_half_of_the_memory() {
        for (text, total, want) in [
            ("5%", 24 << 30, Some((24 << 30) / 100 * 5)),
            ("5%", 512 * MIB, Some(64 * MIB)),
            ("5%", 100 * MIB, Some(50 * MIB)),
            ("50%", 1000, Some(500)),
            ("256MiB", 1024 * MIB, Some(256 * MIB)),
            ("1 GiB", 4096 * MIB, Some(1024 * MIB)),
            ("4096KiB", 1024 * MIB, Some(4 * MIB)),
            ("1000", 1024 * MIB, Some(1000)),
            ("0", 1024 * MIB, Some(0)),
            ("513MiB", 1024 * MIB, None),
        ] {
            assert_eq!(text.parse::<Reserve>().unwrap().bytes(total).ok(), want, "{text} of {total}");
        }
        for text in ["", "%", "0%", "51%", "-1", "5 percent", "1GB", "99999999999GiB"] {
            assert!(text.parse::<Reserve>().is_err(), "{text}");
        }
    }
}
