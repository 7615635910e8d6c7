//! How many guests may enter from one address: each is a user in the store, for ever, and costs nobody anything to make.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use roost_edge::{Address, Subnet};
use roost_wire::{ErrorCode, pb};

/// Addresses remembered at most. Who has more of them is not held up by a limit per address.
const ADDRESSES_MAX: usize = 1 << 18;
const MINUTE_MS: u64 = 60_000;

/// A token bucket per address: a minute's worth at once, then one by one.
pub(crate) struct Guests {
    /// 0: no limit.
    per_minute: u32,
    exempt: Vec<Subnet>,
    began: Instant,
    /// When the bucket of an address will be full again, in ms since `began`. A full one is not kept.
    full_at_ms: Mutex<HashMap<Address, u64>>,
    refused: AtomicU64,
}

impl Guests {
    pub(crate) fn new(per_minute: u32, exempt: Vec<Subnet>) -> Self {
        let (full_at_ms, refused) = (Mutex::default(), AtomicU64::new(0));
        Self { per_minute, exempt, began: Instant::now(), full_at_ms, refused }
    }

    /// Guests refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a guest from `ip`.
    ///
    /// # Errors
    /// 400 with the time after which the next one may enter.
    pub(crate) fn enter(&self, ip: IpAddr) -> Result<(), pb::Error> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.enter_at(ip, now_ms).map_err(|retry_after_ms| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let error = ErrorCode::RateLimited.because("too many guests from this address");
            pb::Error { retry_after_ms: u32::try_from(retry_after_ms).unwrap_or(u32::MAX), ..error }
        })
    }

    fn enter_at(&self, ip: IpAddr, now_ms: u64) -> Result<(), u64> {
        if self.per_minute == 0 || self.exempt.iter().any(|net| net.contains(ip)) {
            return Ok(());
        }
        let interval_ms = (MINUTE_MS / u64::from(self.per_minute)).max(1);
        // A panic while it was held left a number at worst.
        let mut full_at_ms = self.full_at_ms.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if full_at_ms.len() >= ADDRESSES_MAX {
            full_at_ms.retain(|_, full_at| *full_at > now_ms);
            if full_at_ms.len() >= ADDRESSES_MAX {
                full_at_ms.clear();
            }
        }
        let slot = full_at_ms.entry(ip.into()).or_default();
        let full_at = now_ms.max(*slot) + interval_ms;
        let most = now_ms + interval_ms * u64::from(self.per_minute);
        if full_at > most {
            return Err(full_at - most);
        }
        *slot = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_then_one_by_one() {
        let guests = Guests::new(3, Subnet::loopback());
        let enter = |ip: &str, now_ms| guests.enter_at(ip.parse().unwrap(), now_ms);
        assert_eq!([0, 0, 0, 0].map(|now| enter("192.0.2.1", now)), [Ok(()), Ok(()), Ok(()), Err(20_000)]);
        assert_eq!(enter("192.0.2.2", 0), Ok(()), "another address");
        assert_eq!(enter("192.0.2.1", 19_999), Err(1));
        assert_eq!(enter("192.0.2.1", 20_000), Ok(()));
        assert!((0..100).all(|_| enter("127.0.0.1", 0).is_ok()), "exempt");
        assert_eq!(
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"].map(|ip| enter(ip, 0).is_ok()),
            [true, true, true, false]
        );
        let any = Guests::new(0, Vec::new());
        assert!((0..100).all(|_| any.enter_at([192, 0, 2, 1].into(), 0).is_ok()));
    }

    #[test]
    fn a_refusal_says_how_long_to_wait_and_is_counted() {
        let guests = Guests::new(1, Vec::new());
        guests.enter([192, 0, 2, 1].into()).unwrap();
        let error = guests.enter([192, 0, 2, 1].into()).unwrap_err();
        assert_eq!((error.code, error.retryable), (400, true));
        assert!((1..=60_000).contains(&error.retry_after_ms), "{error:?}");
        assert_eq!(guests.refused(), 1);
    }

    #[test]
    fn addresses_are_not_remembered_for_ever() {
        let guests = Guests::new(60, Vec::new());
        for number in 0..=ADDRESSES_MAX as u32 {
            guests.enter_at(IpAddr::from(number.to_be_bytes()), u64::from(number)).unwrap();
        }
        assert!(guests.full_at_ms.lock().unwrap().len() <= 2000);
    }
}
