//! Where clients connect from. An address has some 28 000 ports, loopback has sixteen million addresses.

use std::net::{IpAddr, Ipv4Addr};

/// Connections from one address: below the usual range of ports, with room for those that are not let go yet.
const PER_ADDRESS: u32 = 8_000;
/// The addresses begin behind this one.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// The address that a client binds; `None` for what the system chooses, which is all there is unless the target is on
/// the loopback network.
pub(crate) fn source(target: IpAddr, client: u32) -> Option<Ipv4Addr> {
    let IpAddr::V4(target) = target else { return None };
    target.is_loopback().then(|| Ipv4Addr::from(u32::from(FIRST) + 1 + client / PER_ADDRESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_thousand_clients_share_an_address_and_all_are_loopback() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for (client, address) in [(0, [127, 1, 0, 1]), (7_999, [127, 1, 0, 1]), (8_000, [127, 1, 0, 2])] {
            assert_eq!(source(loopback, client), Some(Ipv4Addr::from(address)), "{client}");
        }
        assert!(source(loopback, u32::MAX).is_some_and(|source| source.is_loopback()));
        assert_eq!(source(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1), None);
        assert_eq!(source("::1".parse().unwrap(), 1), None);
    }
}
