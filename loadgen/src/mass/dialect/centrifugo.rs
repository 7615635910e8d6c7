//! Centrifugo: its bidirectional protocol in JSON. Commands and replies are lines, one or several in a message of
//! WebSocket.

use std::borrow::Cow;

use bytes::BytesMut;
use roost_wire::ws::{self, MessageKind};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Speech;
use super::stream::told;
use crate::client::{Stamp, body};
use crate::mass::client::{Client, Phase};
use crate::mass::crowd::{Again, Asked, Crowd, Heard};
use crate::mass::hear::Ears;
use crate::mass::voice::{CONNECT_RID, PUBLISH_RID, SUBSCRIBE_RID, Voice};

/// What the server asks as a sign of life, and the answer. A client has no such question: its heartbeat is a ping of
/// WebSocket.
const EMPTY: &[u8] = b"{}";

#[derive(Debug)]
pub(super) struct Centrifugo;

/// A line of the server: an answer if it has an id, else a push.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    id: u64,
    error: Option<Refusal>,
    connect: Option<IgnoredAny>,
    subscribe: Option<IgnoredAny>,
    publish: Option<IgnoredAny>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(rename = "pub", borrow)]
    publication: Option<Publication<'a>>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl Speech for Centrifugo {
    fn acknowledges(&self) -> bool {
        true
    }

    fn upgraded(&self, at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        crowd.enters(at);
        say(&format!("{{\"id\":{CONNECT_RID},\"connect\":{{}}}}"), ears.voice, ears.out);
    }

    fn message(&self, kind: MessageKind, payload: &[u8], at: u32, crowd: &mut Crowd, ears: &mut Ears<'_>) {
        if kind == MessageKind::Binary {
            return ears.heard.push(Heard::Failed("binary where text is due".into()));
        }
        for line in payload.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            if line == EMPTY {
                ws::write_client_message(MessageKind::Text, EMPTY, ears.voice.mask(), ears.out);
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(line) => said(crowd, at, line, ears),
                Err(error) => {
                    return ears.heard.push(Heard::Failed(format!("no line of Centrifugo ({error}): {}", told(line))));
                }
            }
        }
    }

    fn subscribe(&self, _: u32, _: &mut Crowd, voice: &mut Voice, out: &mut BytesMut) {
        let command = format!("{{\"id\":{SUBSCRIBE_RID},\"subscribe\":{{\"channel\":\"{}\"}}}}", voice.channel);
        say(&command, voice, out);
    }

    fn publish(&self, stamp: Stamp, voice: &mut Voice, out: &mut BytesMut) {
        let id = PUBLISH_RID + u64::from(stamp.serial);
        let mut command = format!("{{\"id\":{id},\"publish\":{{\"channel\":\"{}\",\"data\":\"", voice.channel);
        // There is nothing in it that JSON escapes.
        body::write(stamp, voice.body_bytes, &mut command);
        command.push_str("\"}}");
        say(&command, voice, out);
    }
}

fn say(command: &str, voice: &mut Voice, out: &mut BytesMut) {
    ws::write_client_message(MessageKind::Text, command.as_bytes(), voice.mask(), out);
}

fn said(crowd: &mut Crowd, at: u32, line: Line<'_>, ears: &mut Ears<'_>) {
    let entering = crowd.phase(at) == Phase::Entering;
    let heard = match line {
        Line { id, error: Some(Refusal { code, temporary }), .. } => Heard::Refused {
            asked: match id {
                CONNECT_RID => Asked::Connect,
                SUBSCRIBE_RID => Asked::Subscribe,
                _ => Asked::Else,
            },
            code,
            again: if temporary { Again::After(0) } else { Again::No },
        },
        Line { id: CONNECT_RID, connect: Some(_), .. } if entering => {
            crowd.goes_live(at);
            Heard::Live { heartbeat_ms: 0 }
        }
        Line { id: SUBSCRIBE_RID, subscribe: Some(_), .. } => {
            crowd.clients[at as usize].set(Client::SUBSCRIBED, true);
            Heard::Subscribed
        }
        // It keeps no history here and numbers nothing: the n-th publish is the n-th entry.
        Line { id, publish: Some(_), .. } => match id.checked_sub(PUBLISH_RID).map(u32::try_from) {
            Some(Ok(stamp_serial)) => Heard::Published { stamp_serial, seq: u64::from(stamp_serial) + 1 },
            _ => Heard::Failed(format!("an answer that nobody asked for: {id}")),
        },
        Line { push: Some(Push { channel, publication: Some(publication) }), .. } => {
            if channel == ears.voice.channel.as_str() {
                return crowd.told(at, publication.data.as_bytes(), ears);
            }
            Heard::Garbled
        }
        // Who came, who left, and the like.
        Line { id: 0, .. } => Heard::Other,
        Line { id, .. } => Heard::Failed(format!("an answer that nobody asked for: {id}")),
    };
    ears.heard.push(heard);
}
