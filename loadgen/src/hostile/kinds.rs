//! The kinds of attack, as data.

use serde::{Deserialize, Serialize};

/// A kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Request heads of which a byte comes now and then.
    SlowHeads,
    /// Request bodies of which a byte comes now and then.
    SlowBodies,
    /// Connections that say nothing.
    Silent,
    /// Sessions that send frames byte by byte.
    OneByte,
    /// Sessions that ask and never read an answer.
    Unread,
    /// WebSocket pings.
    Pings,
    /// The smallest frames there are.
    TinyFrames,
    /// Messages of empty fragments.
    EmptyFragments,
    /// Connections, all from one address.
    ConnectsOneAddress,
    /// Connections from hundreds of addresses.
    ConnectsManyAddresses,
    /// Upgrades without a CONNECT.
    Upgrades,
    /// New guests over HTTP.
    Guests,
    /// Subscriptions to ever other channels.
    Subscriptions,
    /// Heads and frames that break a rule, wrong origins among them.
    Malformed,
    /// The same cmid with ever other bodies.
    Cmids,
    /// Small messages that inflate to large ones.
    Bombs,
}

/// How a connection of an attack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Not at all.
    Nothing,
    /// With these bytes.
    Bytes(&'static [u8]),
    /// With a whole request for a new guest.
    Guest,
    /// With an upgrade.
    Upgrade,
    /// As a session.
    Session,
    /// With one of the rules to break.
    Broken,
}

/// What is sent on connections that have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nothing,
    /// One byte of whatever was begun.
    Byte,
    /// One byte of a frame that never ends.
    FrameByte,
    /// So many commands that are answered.
    Questions(usize),
    /// So many pings.
    Pings(usize),
    /// So many frames that say nothing.
    Tiny(usize),
    /// A message of so many empty fragments.
    Fragments(usize),
    /// Subscriptions.
    Subscribe,
    /// A publish with a cmid that was used.
    Cmid,
    /// A message that inflates to so many bytes.
    Bomb(usize),
}

/// What an attack does. Rates are those of all its connections together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// Connections held at once; one that is closed is opened again.
    pub connections: usize,
    pub opens_per_second: u32,
    /// Addresses they come from.
    pub addresses: u32,
    pub entry: Entry,
    /// Whether what the server says is read.
    pub reads: bool,
    pub unit: Unit,
    pub units_per_second: u32,
}

const STILL: Recipe = Recipe {
    connections: 0,
    opens_per_second: 0,
    addresses: 1,
    entry: Entry::Nothing,
    reads: true,
    unit: Unit::Nothing,
    units_per_second: 0,
};

const SESSIONS: Recipe =
    Recipe { connections: 20, opens_per_second: 20, addresses: 20, entry: Entry::Session, ..STILL };

impl Kind {
    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does, for people; the rates are in the recipe.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::SlowHeads => "heads of which each sends a byte a second and never ends",
            Self::SlowBodies => "requests whose body comes a byte a second",
            Self::Silent => "connections that say nothing",
            Self::OneByte => "sessions that send a 16 KiB frame byte by byte",
            Self::Unread => "sessions that ask all the time and read nothing",
            Self::Pings => "sessions that send pings, a hundred at a time",
            Self::TinyFrames => "sessions that send frames of eleven bytes, a hundred at a time",
            Self::EmptyFragments => "sessions that send messages of 1500 empty fragments",
            Self::ConnectsOneAddress => "connections from one address, each held as long as it lasts",
            Self::ConnectsManyAddresses => "connections from 500 addresses, each held as long as it lasts",
            Self::Upgrades => "upgrades that are never followed by CONNECT",
            Self::Guests => "new guests by POST /v1/guest from ten addresses",
            Self::Subscriptions => "sessions that subscribe to ever other channels",
            Self::Malformed => "heads and frames that break a rule, and upgrades of wrong origins",
            Self::Cmids => "sessions that publish with one cmid and ever other bodies",
            Self::Bombs => "sessions that send 48 KiB that inflate to 48 MiB",
        }
    }

    pub(crate) const fn recipe(self) -> Recipe {
        match self {
            Self::SlowHeads => Recipe {
                connections: 500,
                opens_per_second: 500,
                addresses: 50,
                entry: Entry::Bytes(b"GET /ws HTTP/1.1\r\nHost: roost\r\nX-Slow: "),
                unit: Unit::Byte,
                units_per_second: 500,
                ..STILL
            },
            Self::SlowBodies => Recipe {
                connections: 500,
                opens_per_second: 500,
                addresses: 50,
                entry: Entry::Bytes(
                    b"POST /v1/guest HTTP/1.1\r\nHost: roost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{",
                ),
                unit: Unit::Byte,
                units_per_second: 500,
                ..STILL
            },
            Self::Silent => Recipe { connections: 4000, opens_per_second: 500, addresses: 50, ..STILL },
            Self::OneByte => Recipe {
                connections: 100,
                opens_per_second: 100,
                unit: Unit::FrameByte,
                units_per_second: 2000,
                ..SESSIONS
            },
            Self::Unread => {
                Recipe { reads: false, unit: Unit::Questions(20), units_per_second: 250, ..SESSIONS }
            }
            Self::Pings => Recipe { unit: Unit::Pings(100), units_per_second: 500, ..SESSIONS },
            Self::TinyFrames => Recipe { unit: Unit::Tiny(100), units_per_second: 500, ..SESSIONS },
            Self::EmptyFragments => Recipe { unit: Unit::Fragments(1500), units_per_second: 50, ..SESSIONS },
            Self::ConnectsOneAddress => Recipe { connections: 3000, opens_per_second: 1000, ..STILL },
            Self::ConnectsManyAddresses => {
                Recipe { connections: 8000, opens_per_second: 1000, addresses: 500, ..STILL }
            }
            Self::Upgrades => Recipe {
                connections: 4000,
                opens_per_second: 500,
                addresses: 100,
                entry: Entry::Upgrade,
                ..STILL
            },
            Self::Guests => {
                Recipe { connections: 200, opens_per_second: 500, addresses: 10, entry: Entry::Guest, ..STILL }
            }
            Self::Subscriptions => Recipe { unit: Unit::Subscribe, units_per_second: 5000, ..SESSIONS },
            Self::Malformed => {
                Recipe { connections: 200, opens_per_second: 300, addresses: 20, entry: Entry::Broken, ..STILL }
            }
            Self::Cmids => Recipe { unit: Unit::Cmid, units_per_second: 1000, ..SESSIONS },
            Self::Bombs => Recipe { unit: Unit::Bomb(48 << 20), units_per_second: 50, ..SESSIONS },
        }
    }

    /// The rates of the recipe in a sentence.
    pub(crate) fn rates(self) -> String {
        let Recipe { connections, opens_per_second, addresses, unit, units_per_second, .. } = self.recipe();
        let mut text =
            format!("{connections} connections from {addresses} addresses, at most {opens_per_second} opened a second");
        let (each, what) = match unit {
            Unit::Nothing => return text,
            Unit::Byte | Unit::FrameByte => (1, "bytes"),
            Unit::Questions(each) => (each, "commands"),
            Unit::Pings(each) => (each, "pings"),
            Unit::Tiny(each) => (each, "frames"),
            Unit::Fragments(_) => (1, "messages"),
            Unit::Subscribe => (1, "subscriptions"),
            Unit::Cmid => (1, "publishes"),
            Unit::Bomb(_) => (1, "bombs"),
        };
        text += &format!(", at most {} {what} a second", units_per_second as usize * each);
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_kind_has_connections_and_a_rate_that_is_told() {
        for kind in Kind::value_variants() {
            let recipe = kind.recipe();
            assert!(recipe.connections > 0 && recipe.opens_per_second > 0 && recipe.addresses > 0, "{kind:?}");
            assert_eq!(recipe.unit == Unit::Nothing, recipe.units_per_second == 0, "{kind:?}");
            assert!(kind.rates().contains(&recipe.opens_per_second.to_string()), "{kind:?}");
            // As the report has it.
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
