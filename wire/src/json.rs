//! The JSON form: the protobuf messages with snake_case names, numbers for seq and times, lower-case enums.
//!
//! A frame is one object: `rid` and the one body by its name. Readers ignore names they do not know.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::FrameBody;
use crate::pb::{EventKind, Frame, Kind, Role};

pub(crate) fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

pub(crate) fn is_zero_u64(value: &u64) -> bool {
    *value == 0
}

/// No role, or a number that has no name: neither has a word in JSON.
pub(crate) fn is_no_role(value: &i32) -> bool {
    matches!(Role::try_from(*value), Ok(Role::Unspecified) | Err(_))
}

macro_rules! lower_case_enum {
    ($module:ident, $type:ty, $expecting:literal, $($variant:path => $text:literal),+ $(,)?) => {
        pub(crate) mod $module {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(value: &i32, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(match <$type>::try_from(*value) {
                    $(Ok($variant) => $text,)+
                    _ => "",
                })
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<i32, D::Error> {
                struct Name;

                impl Visitor<'_> for Name {
                    type Value = i32;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i32, E> {
                        match text {
                            $($text => Ok($variant as i32),)+
                            "" => Ok(0),
                            other => Err(E::unknown_variant(other, &[$($text),+])),
                        }
                    }
                }

                input.deserialize_str(Name)
            }
        }
    };
}

lower_case_enum!(kind, Kind, "a kind", Kind::Direct => "direct", Kind::Group => "group", Kind::Channel => "channel");
lower_case_enum!(role, Role, "a role", Role::Owner => "owner", Role::Admin => "admin", Role::Member => "member");
lower_case_enum!(event_kind, EventKind, "an event",
    EventKind::Added => "added", EventKind::Removed => "removed", EventKind::Joined => "joined",
    EventKind::Left => "left", EventKind::Renamed => "renamed", EventKind::RoleChanged => "role_changed");

macro_rules! frame_bodies {
    ($($variant:ident = $name:literal,)+) => {
        impl FrameBody {
            /// The body's name, as in the JSON form and in metrics.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// Every body's name, in the order of the schema.
            pub const NAMES: &[&str] = &[$($name,)+];
        }

        impl Serialize for Frame {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                let mut map = out.serialize_map(None)?;
                if self.rid != 0 {
                    map.serialize_entry("rid", &self.rid)?;
                }
                match &self.body {
                    $(Some(FrameBody::$variant(body)) => map.serialize_entry($name, body)?,)+
                    None => {}
                }
                map.end()
            }
        }

        /// A name in a frame, matched where it stands in the input: no name is copied.
        enum Key {
            Rid,
            $($variant,)+
            Unknown,
        }

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "rid" => Key::Rid,
                    $($name => Key::$variant,)+
                    _ => Key::Unknown,
                })
            }
        }

        impl<'de> Visitor<'de> for FrameVisitor {
            type Value = Frame;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one command")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame, A::Error> {
                let mut frame = Frame::default();
                while let Some(key) = map.next_key::<Key>()? {
                    let body = match key {
                        Key::Rid => {
                            frame.rid = map.next_value()?;
                            continue;
                        }
                        $(Key::$variant => FrameBody::$variant(map.next_value()?),)+
                        Key::Unknown => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if frame.body.replace(body).is_some() {
                        return Err(serde::de::Error::custom("more than one command in a frame"));
                    }
                }
                Ok(frame)
            }
        }
    };
}

struct FrameVisitor;
struct KeyVisitor;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_identifier(KeyVisitor)
    }
}

frame_bodies! {
    Hello = "hello",
    Connect = "connect",
    Welcome = "welcome",
    Refresh = "refresh",
    Ping = "ping",
    Pong = "pong",
    Goaway = "goaway",
    Ok = "ok",
    Error = "error",
    Send = "send",
    Sent = "sent",
    Entry = "entry",
    Ack = "ack",
    Read = "read",
    Receipt = "receipt",
    Typing = "typing",
    Watch = "watch",
    Unwatch = "unwatch",
    Presence = "presence",
    Create = "create",
    Get = "get",
    Conversation = "conversation",
    Update = "update",
    Members = "members",
    Join = "join",
    Leave = "leave",
    Sync = "sync",
    Changed = "changed",
    History = "history",
    Page = "page",
    Subscribe = "subscribe",
    Unsubscribe = "unsubscribe",
    Publish = "publish",
    Search = "search",
    Users = "users",
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(FrameVisitor)
    }
}
