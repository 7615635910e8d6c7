//! Socket addresses as the kernel has them, and memory where it writes those of accepted peers.

use std::cell::UnsafeCell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

use libc::{sockaddr, socklen_t};

/// Bytes of the largest address known here, `sockaddr_in6`. The kernel cuts off longer ones.
const BYTES: usize = size_of::<libc::sockaddr_in6>();

/// An address of the internet, as bind(2) and accept(2) have it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Address {
    bytes: [u8; BYTES],
    len: socklen_t,
}

impl Address {
    /// Room for one that the kernel writes.
    const EMPTY: Self = Self { bytes: [0; BYTES], len: BYTES as socklen_t };

    pub(crate) const fn start(&self) -> *const sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(crate) const fn len(&self) -> socklen_t {
        self.len
    }

    pub(crate) fn family(addr: SocketAddr) -> i32 {
        if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
    }

    /// As std has it. `None`: it is of another family.
    #[must_use]
    pub fn get(&self) -> Option<SocketAddr> {
        let part = |at: usize| -> Option<[u8; 4]> { self.bytes.get(at..at + 4)?.try_into().ok() };
        let [low, high, port @ ..] = part(0)?;
        let port = u16::from_be_bytes(port);
        match i32::from(u16::from_ne_bytes([low, high])) {
            libc::AF_INET if self.len as usize >= 8 => Some((IpAddr::from(part(4)?), port).into()),
            libc::AF_INET6 if self.len as usize >= BYTES => {
                let ip: [u8; 16] = self.bytes[8..24].try_into().ok()?;
                let (flow, scope) = (u32::from_ne_bytes(part(4)?), u32::from_ne_bytes(part(24)?));
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..2].copy_from_slice(&(Self::family(addr) as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let len = match addr {
            SocketAddr::V4(addr) => {
                bytes[4..8].copy_from_slice(&addr.ip().octets());
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(addr) => {
                bytes[4..8].copy_from_slice(&addr.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&addr.ip().octets());
                bytes[24..28].copy_from_slice(&addr.scope_id().to_ne_bytes());
                BYTES
            }
        };
        Self { bytes, len: len as socklen_t }
    }
}

/// Addresses lent to the kernel, one for each accept that is under way.
///
/// Invariants: (A) `rows` neither moves nor goes while one is lent. (B) A row is with the kernel exactly while it is
/// lent; Rust makes no reference into it then.
#[derive(Debug)]
pub struct Addresses {
    rows: Box<[UnsafeCell<Address>]>,
    lent: Box<[bool]>,
    free: Vec<u16>,
}

/// Where the kernel may write an address.
#[derive(Debug)]
pub struct LentAddress {
    /// Its number, to take it back by.
    pub row: u16,
    pub(crate) start: *mut sockaddr,
    pub(crate) len: *mut socklen_t,
}

// SAFETY: the rows are owned alone; nothing in them belongs to a thread.
unsafe impl Send for Addresses {}

impl Addresses {
    /// Room for `count` of them.
    #[must_use]
    pub fn new(count: u16) -> Self {
        Self {
            rows: (0..count).map(|_| UnsafeCell::new(Address::EMPTY)).collect(),
            lent: vec![false; count.into()].into(),
            free: (0..count).rev().collect(),
        }
    }

    /// Lends one; `None`: all are lent.
    pub fn lend(&mut self) -> Option<LentAddress> {
        let row = self.free.pop()?;
        self.lent[usize::from(row)] = true;
        let address = self.rows[usize::from(row)].get_mut();
        *address = Address::EMPTY;
        let start = ptr::from_mut(address);
        // SAFETY: it points at a row, which has this field.
        let len = unsafe { &raw mut (*start).len };
        // SAFETY: as above.
        let bytes = unsafe { &raw mut (*start).bytes };
        Some(LentAddress { row, start: bytes.cast(), len })
    }

    /// Takes `row` back, and returns what was written. `None`: no address that we know.
    ///
    /// # Panics
    /// If it was not lent.
    pub fn take_back(&mut self, row: u16) -> Option<SocketAddr> {
        assert!(std::mem::replace(&mut self.lent[usize::from(row)], false), "a row that was lent");
        self.free.push(row);
        self.rows[usize::from(row)].get_mut().get()
    }

    /// Whether the kernel has `row`.
    #[must_use]
    pub fn is_lent(&self, row: u16) -> bool {
        self.lent.get(usize::from(row)).is_some_and(|lent| *lent)
    }

    /// How many the kernel has.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.rows.len() - self.free.len()
    }
}

impl Drop for Addresses {
    /// With one still lent the memory is leaked: the kernel may yet write there.
    fn drop(&mut self) {
        if self.lent() > 0 {
            tracing::warn!(rows = self.lent(), "addresses are left to the kernel");
            std::mem::forget(std::mem::take(&mut self.rows));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_to_the_kernel_and_back() {
        for text in ["127.1.2.3:80", "[2001:db8::7]:65535", "[fe80::1%3]:1", "0.0.0.0:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(addr).get(), Some(addr));
        }
        assert_eq!(Address::EMPTY.get(), None);
    }

    #[test]
    fn rows_are_lent_once_each_and_bring_what_was_written() {
        let mut rows = Addresses::new(2);
        let lent = [rows.lend().unwrap(), rows.lend().unwrap()];
        assert!(rows.lend().is_none(), "all are lent");
        for one in &lent {
            let addr = Address::from(SocketAddr::from(([127, 0, 0, 1], one.row)));
            // SAFETY: the test plays the kernel: the row is lent, and so many bytes fit.
            unsafe { one.start.cast::<u8>().copy_from_nonoverlapping(addr.bytes.as_ptr(), addr.len as usize) };
            // SAFETY: as above.
            unsafe { one.len.write(addr.len) };
        }
        for one in &lent {
            assert_eq!(rows.take_back(one.row), Some(([127, 0, 0, 1], one.row).into()));
        }
        assert_eq!(rows.lent(), 0);
    }

    #[test]
    #[should_panic(expected = "a row that was lent")]
    fn a_row_that_comes_back_twice_is_a_fault_of_ours() {
        let mut rows = Addresses::new(1);
        let row = rows.lend().unwrap().row;
        rows.take_back(row);
        rows.take_back(row);
    }
}
