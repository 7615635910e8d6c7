//! Where the log is kept, as written in settings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use roost_storage::cql::CqlOptions;
use serde::Deserialize;

/// The port of CQL, where none is given.
const CQL_PORT: u16 = 9042;
/// How a CQL store is written.
const SHAPE: &str =
    "write it as cql://[USER:PASSWORD@]HOST[:PORT][,HOST…]/KEYSPACE[?datacenter=NAME&local=true&timeout=3s]";

/// Where the log is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreAt {
    /// In the data directory of this node, which is then the only one.
    #[default]
    Embedded,
    /// In Cassandra or ScyllaDB, shared by all nodes.
    Cql(CqlAt),
}

/// A keyspace, and the servers that have it.
#[derive(Clone, PartialEq, Eq)]
pub struct CqlAt {
    /// `host:port`; any of them will do to begin with.
    pub contact_points: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// User and password.
    pub user: Option<(String, String)>,
    /// The data center whose servers are asked first; `None`: any.
    pub datacenter: Option<String>,
    /// Whether a quorum of that data center is enough.
    pub local: bool,
    /// How long one request may take; `None` for the store's own default.
    pub timeout: Option<Duration>,
}

/// Without the password.
impl fmt::Debug for CqlAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cql://{}/{}", self.contact_points.join(","), self.keyspace)?;
        if let Some((user, _)) = &self.user {
            write!(f, " as {user}")?;
        }
        let Self { datacenter, local, timeout, .. } = self;
        write!(f, " (datacenter {datacenter:?}, local {local}, timeout {timeout:?})")
    }
}

impl CqlAt {
    /// As the store takes it.
    #[must_use]
    pub fn options(&self) -> CqlOptions {
        let default = CqlOptions::default();
        CqlOptions {
            contact_points: self.contact_points.clone(),
            keyspace: self.keyspace.clone(),
            datacenter: self.datacenter.clone(),
            user: self.user.clone(),
            local: self.local,
            request_timeout: self.timeout.unwrap_or(default.request_timeout),
            ..default
        }
    }
}

impl FromStr for StoreAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("cql://") {
            Some(at) => at.parse().map(Self::Cql),
            None if text == "embedded" => Ok(Self::Embedded),
            None => Err(format!("\"{text}\" is neither embedded nor a CQL keyspace; {SHAPE}")),
        }
    }
}

impl FromStr for CqlAt {
    type Err = String;

    /// Reads what follows `cql://`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (servers, keyspace) = text.rsplit_once('/').ok_or_else(|| format!("the keyspace is missing; {SHAPE}"))?;
        let named = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if keyspace.is_empty() || keyspace.len() > 48 || !named(keyspace) {
            return Err(format!("\"{keyspace}\" is no keyspace: 1 to 48 of A-Z a-z 0-9 _"));
        }
        let (user, hosts) = match servers.rsplit_once('@') {
            Some((user, hosts)) => {
                let (user, password) = user.split_once(':').ok_or("a user needs a password: cql://USER:PASSWORD@…")?;
                (Some((user.to_owned(), password.to_owned())), hosts)
            }
            None => (None, servers),
        };
        let contact_points: Vec<String> = hosts.split(',').map(|host| with_port(host.trim())).collect();
        if contact_points.iter().any(|host| host.starts_with(':')) {
            return Err(format!("a host is missing; {SHAPE}"));
        }
        let keyspace = keyspace.to_owned();
        let mut at = Self { contact_points, keyspace, user, datacenter: None, local: false, timeout: None };
        for (name, value) in
            query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
        {
            match name {
                "datacenter" if !value.is_empty() => at.datacenter = Some(value.to_owned()),
                "local" => at.local = value.parse().map_err(|_| "local is true or false".to_owned())?,
                "timeout" => {
                    at.timeout = Some(humantime::parse_duration(value).map_err(|error| format!("timeout: {error}"))?);
                }
                _ => return Err(format!("\"{name}={value}\" is not known; {SHAPE}")),
            }
        }
        if at.local && at.datacenter.is_none() {
            return Err("local=true needs datacenter=NAME: the quorum of which one?".to_owned());
        }
        Ok(at)
    }
}

/// An address with a port. IPv6 stands in brackets.
fn with_port(host: &str) -> String {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    if after.contains(':') { host.to_owned() } else { format!("{host}:{CQL_PORT}") }
}

impl<'de> Deserialize<'de> for StoreAt {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_and_its_servers_are_read() {
        let StoreAt::Cql(at) =
            "cql://ada:p@ss:w@db1,10.0.0.2:9142,[::1]/chat?datacenter=dc1&local=true&timeout=2s".parse().unwrap()
        else {
            panic!("it is CQL")
        };
        assert_eq!(at.contact_points, ["db1:9042", "10.0.0.2:9142", "[::1]:9042"]);
        assert_eq!((at.keyspace.as_str(), at.datacenter.as_deref(), at.local), ("chat", Some("dc1"), true));
        assert_eq!((at.user, at.timeout), (Some(("ada".into(), "p@ss:w".into())), Some(Duration::from_secs(2))));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_shape() {
        for (text, part) in [
            ("redis://x", "neither embedded"),
            ("cql://db1", "keyspace is missing"),
            ("cql://db1/", "is no keyspace"),
            ("cql://db1/a-b", "is no keyspace"),
            ("cql:///chat", "a host is missing"),
            ("cql://ada@db1/chat", "needs a password"),
            ("cql://db1/chat?local=maybe", "true or false"),
            ("cql://db1/chat?local=true", "datacenter"),
            ("cql://db1/chat?retries=3", "not known"),
        ] {
            let error = text.parse::<StoreAt>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let at: StoreAt = "cql://ada:secret@db1/chat".parse().unwrap();
        assert!(!format!("{at:?}").contains("secret"));
    }
}
