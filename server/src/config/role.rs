//! What a node does in a fleet, as written in settings.

use std::str::FromStr;

use clap::ValueEnum;
use roost_link::Routers;
use roost_router::redis::NodeRole;
use serde::Deserialize;

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It holds connections, and routes.
    #[default]
    All,
    /// It holds connections; its routers are elsewhere.
    Edge,
    /// It routes for edges elsewhere.
    Router,
}

impl From<Role> for NodeRole {
    fn from(role: Role) -> Self {
        match role {
            Role::All => Self::All,
            Role::Edge => Self::Edge,
            Role::Router => Self::Router,
        }
    }
}

/// Where the routers of an edge are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutersAt {
    /// Where Redis says.
    Redis,
    /// At these addresses, or at those of a name.
    Named(Routers),
}

impl FromStr for RoutersAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "redis" => Ok(Self::Redis),
            text => text.parse().map(Self::Named).map_err(|error: roost_link::BadRouters| error.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for RoutersAt {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}
