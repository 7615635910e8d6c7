//! The Redis of a fleet, as written in settings.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Where a Redis is.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAt(String);

impl RedisAt {
    /// The URL, with the password in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0
    }
}

/// Without the password.
impl fmt::Debug for RedisAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("redis", &self.0));
        write!(f, "{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
    }
}

impl FromStr for RedisAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = ["redis://", "rediss://", "redis-cluster://", "rediss-cluster://"];
        let host = at.iter().find_map(|scheme| text.strip_prefix(scheme));
        match host {
            Some(host) if !host.is_empty() => Ok(Self(text.to_owned())),
            _ => Err("write it as redis://[USER:PASSWORD@]HOST:PORT, or with rediss://, redis-cluster://".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for RedisAt {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_and_other_schemes_are_refused() {
        let at: RedisAt = "redis://ada:secret@db1:6379".parse().unwrap();
        assert_eq!(format!("{at:?}"), "redis://db1:6379");
        assert!(at.url().contains("secret"));
        for text in ["db1:6379", "redis://", "http://db1"] {
            assert!(text.parse::<RedisAt>().unwrap_err().contains("redis://"), "{text}");
        }
    }
}
