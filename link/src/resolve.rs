//! Where the routers are: a list that stands, or a name that is looked up again and again.

use std::str::FromStr;
use std::time::Duration;

use tokio::sync::watch;

use crate::RouterAddr;

/// How often a name is looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
/// Time for one look-up.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);

/// Where the routers are, as a setting says it: `host:port,host:port` or `dns:name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routers {
    /// These.
    List(Vec<RouterAddr>),
    /// All addresses of a name. Certificates are for the name.
    Dns {
        /// The name.
        name: String,
        /// Their port.
        port: u16,
    },
}

/// The setting is neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("routers: {0:?} is neither host:port, …, nor dns:name:port")]
pub struct BadRouters(String);

impl FromStr for Routers {
    type Err = BadRouters;

    fn from_str(text: &str) -> Result<Self, BadRouters> {
        let bad = || BadRouters(text.to_owned());
        let split = |at: &str| {
            let (host, port) = at.rsplit_once(':')?;
            let port = port.parse::<u16>().ok()?;
            (!host.is_empty() && (!host.contains(':') || host.starts_with('['))).then(|| (host.to_owned(), port))
        };
        if let Some(name) = text.strip_prefix("dns:") {
            let (name, port) = split(name).ok_or_else(bad)?;
            return Ok(Self::Dns { name, port });
        }
        let addrs = text.split(',').map(str::trim).filter(|addr| !addr.is_empty());
        let list: Option<Vec<RouterAddr>> = addrs.map(|addr| split(addr).map(|_| RouterAddr::new(addr))).collect();
        list.filter(|list| !list.is_empty()).map(Self::List).ok_or_else(bad)
    }
}

impl Routers {
    /// What there is now and what there will be. A name that cannot be looked up leaves what was known.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn watch(self) -> watch::Receiver<Vec<RouterAddr>> {
        match self {
            // Its sender is gone: it does not change.
            Self::List(list) => watch::channel(list).1,
            Self::Dns { name, port } => {
                let (found, watching) = watch::channel(Vec::new());
                tokio::spawn(async move {
                    while !found.is_closed() {
                        match look_up(&name, port).await {
                            Ok(addrs) => drop(found.send_if_modified(|known| {
                                let new = *known != addrs;
                                *known = addrs;
                                new
                            })),
                            Err(why) => tracing::warn!(name, %why, "cannot look up the routers"),
                        }
                        tokio::time::sleep(LOOK_UP_EVERY).await;
                    }
                });
                watching
            }
        }
    }
}

async fn look_up(name: &str, port: u16) -> Result<Vec<RouterAddr>, String> {
    let found = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((name, port))).await;
    let found = found.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let addr = |addr: std::net::SocketAddr| RouterAddr { addr: addr.to_string(), name: Some(name.to_owned()) };
    let mut addrs: Vec<RouterAddr> = found.map(addr).collect();
    addrs.sort();
    addrs.dedup();
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_a_list_or_a_name() {
        let addr = RouterAddr::new;
        for (text, want) in [
            ("a:1, 10.0.0.2:2,[::1]:3", Some(Routers::List(vec![addr("a:1"), addr("10.0.0.2:2"), addr("[::1]:3")]))),
            ("dns:routers.local:7000", Some(Routers::Dns { name: "routers.local".into(), port: 7000 })),
            ("", None),
            ("a", None),
            ("a:b", None),
            ("::1:3", None),
            ("dns:routers", None),
            ("a:1,b", None),
        ] {
            assert_eq!(text.parse().ok(), want, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up() {
        let mut routers = "dns:localhost:9".parse::<Routers>().unwrap().watch();
        let found = routers.wait_for(|addrs| !addrs.is_empty()).await.unwrap();
        assert!(found.iter().all(|addr| addr.addr.ends_with(":9") && addr.name.as_deref() == Some("localhost")));
    }
}
