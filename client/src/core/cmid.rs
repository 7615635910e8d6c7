//! The client's own id of a message.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The client's own id of a send (a UUIDv7), chosen once and kept over all its tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cmid(Uuid);

impl Cmid {
    /// A UUIDv7 (RFC 9562 §5.7) of `unix_ms` and 74 of the 80 random bits.
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// An id of these 128 bits, whatever they are.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }
}

impl fmt::Display for Cmid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for Cmid {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl Serialize for Cmid {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cmid {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmids_are_uuids_of_version_7_that_rise_with_time() {
        let (first, second) = (Cmid::new(1_790_000_000_000, [0xff; 10]), Cmid::new(1_790_000_000_001, [0; 10]));
        assert!(first < second && first.to_string() < second.to_string());
        assert_eq!(first.to_string().as_bytes()[14], b'7');
        assert_eq!(first.to_string().parse(), Ok(first));
    }
}
