//! Where connections come from, and how many may come from one place.
//!
//! Only the acceptor counts up; a [`Permit`] counts down wherever it is dropped, which is when its descriptor is closed.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// What limits count as one place: an IPv4 address, or the /64 of an IPv6 address, which one subscriber has whole
/// (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(u64);

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // ::/64 is no network of anybody's, so the two kinds never meet.
            IpAddr::V4(ip) => Self(u32::from(ip).into()),
            IpAddr::V6(ip) => Self((u128::from(ip) >> 64) as u64),
        }
    }
}

/// Addresses that begin alike, as in `10.0.0.0/8`; a single one needs no `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    ip: IpAddr,
    bits: u8,
}

/// A text that is no [`Subnet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write it as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")]
pub struct NoSubnet;

impl Subnet {
    /// Whether `ip` is one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let same = |one: u128, other: u128, len: u32| {
            let rest = len - u32::from(self.bits);
            one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
        };
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => same(u32::from(net).into(), u32::from(ip).into(), 32),
            (IpAddr::V6(net), IpAddr::V6(ip)) => same(net.into(), ip.into(), 128),
            _ => false,
        }
    }

    /// What is limited nowhere unless a deployment says so: this machine.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        vec![Self { ip: [127, 0, 0, 0].into(), bits: 8 }, Self { ip: [0, 0, 0, 0, 0, 0, 0, 1].into(), bits: 128 }]
    }
}

impl FromStr for Subnet {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| NoSubnet)?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| NoSubnet))?;
        if bits <= most { Ok(Self { ip, bits }) } else { Err(NoSubnet) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

/// The right to hold one descriptor of a connection.
#[derive(Debug)]
pub struct Permit(Arc<Place>);

#[derive(Debug)]
struct Place {
    /// Of all places.
    descriptors: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.descriptors.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts connections by place.
#[derive(Debug)]
pub(crate) struct Gate {
    per_address_max: usize,
    exempt: Vec<Subnet>,
    descriptors_max: usize,
    descriptors: Arc<AtomicUsize>,
    /// Where places that are exempt belong.
    anywhere: Arc<Place>,
    places: HashMap<Address, Weak<Place>>,
    /// Places above which those without connections are looked for.
    sweep_at: usize,
}

impl Gate {
    /// `per_address_max` 0: no limit.
    pub(crate) fn new(per_address_max: usize, exempt: Vec<Subnet>, descriptors_max: usize) -> Self {
        let descriptors = Arc::new(AtomicUsize::new(0));
        let anywhere = Arc::new(Place { descriptors: Arc::clone(&descriptors) });
        let places = HashMap::new();
        Self { per_address_max, exempt, descriptors_max, descriptors, anywhere, places, sweep_at: 1024 }
    }

    /// Whether all descriptors that connections may have are in use.
    pub(crate) fn is_full(&self) -> bool {
        self.descriptors.load(Ordering::Relaxed) >= self.descriptors_max
    }

    /// A connection from `ip`. `None`: too many from there are open.
    pub(crate) fn admit(&mut self, ip: IpAddr) -> Option<Permit> {
        let exempt = self.per_address_max == 0 || self.exempt.iter().any(|net| net.contains(ip));
        let place = if exempt { Arc::clone(&self.anywhere) } else { self.place(ip)? };
        self.descriptors.fetch_add(1, Ordering::Relaxed);
        Some(Permit(place))
    }

    fn place(&mut self, ip: IpAddr) -> Option<Arc<Place>> {
        if self.places.len() >= self.sweep_at {
            self.places.retain(|_, place| place.strong_count() > 0);
            self.sweep_at = 1024.max(2 * self.places.len());
        }
        let slot = self.places.entry(ip.into()).or_default();
        // Its permits are what holds a place.
        if slot.strong_count() >= self.per_address_max {
            return None;
        }
        Some(slot.upgrade().unwrap_or_else(|| {
            let place = Arc::new(Place { descriptors: Arc::clone(&self.descriptors) });
            *slot = Arc::downgrade(&place);
            place
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_place_is_an_address_or_a_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("0.0.0.1", "::1", false),
        ] {
            assert_eq!(Address::from(ip(one)) == Address::from(ip(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn subnets_hold_what_begins_alike() {
        for (net, address, holds) in [
            ("127.0.0.0/8", "127.255.1.2", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("::/0", "203.0.113.9", false),
            ("::/0", "2001:db8::1", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("2001:db8::/32", "2001:db9::", false),
        ] {
            assert_eq!(net.parse::<Subnet>().unwrap().contains(ip(address)), holds, "{net} {address}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Subnet>(), Err(NoSubnet), "{text}");
        }
        assert!(Subnet::loopback().iter().any(|net| net.contains(ip("127.66.0.1"))));
        assert_eq!(Subnet::loopback()[1].to_string(), "::1/128");
    }

    #[test]
    fn so_many_from_one_address_and_not_one_more() {
        let mut gate = Gate::new(3, Subnet::loopback(), usize::MAX);
        let mut held: Vec<_> = (0..3).map(|_| gate.admit(ip("192.0.2.1")).unwrap()).collect();
        assert!(gate.admit(ip("192.0.2.1")).is_none());
        held.push(gate.admit(ip("192.0.2.2")).unwrap());
        held.swap_remove(0);
        held.push(gate.admit(ip("192.0.2.1")).unwrap());
        assert!(gate.admit(ip("192.0.2.1")).is_none());
        for _ in 0..10 {
            held.push(gate.admit(ip("127.0.0.1")).unwrap());
        }
        let mut open = Gate::new(0, Vec::new(), usize::MAX);
        held.extend((0..10).map(|_| open.admit(ip("192.0.2.1")).unwrap()));
    }

    #[test]
    fn descriptors_are_counted_whoever_has_them() {
        let mut gate = Gate::new(1, Subnet::loopback(), 3);
        let held = ["127.0.0.1", "127.0.0.1", "192.0.2.1"].map(|text| gate.admit(ip(text)).unwrap());
        assert!(gate.is_full());
        let [first, ..] = held;
        drop(first);
        assert!(!gate.is_full());
    }

    #[test]
    fn places_without_connections_are_forgotten() {
        let mut gate = Gate::new(8, Vec::new(), usize::MAX);
        let held = gate.admit(ip("192.0.2.1")).unwrap();
        for number in 0..100_000_u32 {
            gate.admit(IpAddr::from(number.to_be_bytes())).unwrap();
        }
        assert!(gate.places.len() <= 1024, "{}", gate.places.len());
        assert!(gate.places.contains_key(&ip("192.0.2.1").into()));
        drop(held);
    }
}
