//! From and to what travels. What makes no sense is `None`: it is counted and ignored, and never a panic.

use bytes::Bytes;
use prost::Message as _;
use roost_router::Adoptee;
use roost_wire::link::{Audience, Down, Envelope, Lane, SessionKey, Up};
use roost_wire::pb::Frame;
use roost_wire::ws::payload_of;
use roost_wire::{CloseCode, ConvId, Encoding, UserId, pb};

use crate::proto::link::edge_item::Item as EdgeIn;
use crate::proto::link::router_item::Item as RouterIn;
use crate::proto::link::{
    Accepted, Close, Command, Connect, Deliver, Doubt, EdgeItem, Extend, Gone, Join, Lane as WireLane, Refused, Reply,
    Resume, RouterItem,
};

/// What an edge brings to a router.
#[derive(Debug)]
pub(crate) enum Brought {
    Up(Up),
    Adoptee(Adoptee),
}

/// What a router has for an edge. Keys are the edge's own.
#[derive(Debug)]
pub(crate) enum Told {
    /// About one session.
    Session(SessionKey, Down),
    /// To the named sessions, in any order.
    Deliver(std::sync::Arc<Envelope>, Vec<SessionKey>),
    /// To those who joined the topic.
    Topic(std::sync::Arc<Envelope>, ConvId, Vec<u16>, Option<SessionKey>),
    /// Shards to doubt.
    Doubt(Vec<u16>),
}

impl EdgeItem {
    pub(crate) fn connect(
        session: SessionKey,
        rid: u64,
        connect: pb::Connect,
        bearer: Option<Box<str>>,
        peer: std::net::SocketAddr,
    ) -> Self {
        let connect = Connect {
            session: session.to_bits(),
            rid,
            connect: Some(connect),
            bearer: bearer.map(String::from),
            peer: peer.to_string(),
        };
        Self { item: Some(EdgeIn::Connect(connect)) }
    }

    /// `number` stands for the command's rid.
    pub(crate) fn command(session: SessionKey, user: &UserId, number: u64, body: pb::frame::Body) -> Self {
        let frame = Some(Frame { rid: number, body: Some(body) });
        Self { item: Some(EdgeIn::Command(Command { session: session.to_bits(), user: user.as_str().into(), frame })) }
    }

    pub(crate) fn gone(session: SessionKey, user: &UserId) -> Self {
        Self { item: Some(EdgeIn::Gone(Gone { session: session.to_bits(), user: user.as_str().into() })) }
    }

    pub(crate) fn resume(session: SessionKey, user: &UserId, device: &str, name: &str) -> Self {
        let (user, device, name) = (user.as_str().into(), device.into(), name.into());
        Self { item: Some(EdgeIn::Resume(Resume { session: session.to_bits(), user, device, name })) }
    }

    /// What it means to a router that gave the edge `shards` shards from `base` on.
    pub(crate) fn into_brought(self, base: u16, shards: u16) -> Option<Brought> {
        let here = |bits: u64| {
            let key = SessionKey::from_bits(bits);
            (key.shard() < shards).then(|| key.with_shard(base + key.shard()))
        };
        let user = |user: &str| UserId::new(user).ok();
        Some(match self.item? {
            EdgeIn::Connect(Connect { session, rid, connect, bearer, peer }) => Brought::Up(Up::Connect {
                session: here(session)?,
                rid,
                connect: connect?,
                bearer: bearer.map(String::into_boxed_str),
                peer: peer.parse().ok()?,
            }),
            EdgeIn::Command(Command { session, user: of, frame }) => {
                let Frame { rid, body } = frame?;
                Brought::Up(Up::Command { session: here(session)?, user: user(&of)?, rid, body: body? })
            }
            EdgeIn::Gone(Gone { session, user: of }) => {
                Brought::Up(Up::Gone { session: here(session)?, user: user(&of)? })
            }
            EdgeIn::Resume(Resume { session, user: of, device, name }) => {
                Brought::Adoptee(Adoptee { session: here(session)?, user: user(&of)?, device, name })
            }
        })
    }
}

/// One session's item for an edge whose shards begin at `base`. `None` for what is no single session's.
pub(crate) fn session_item(down: Down, base: u16) -> Option<RouterItem> {
    let there = |session: SessionKey| session.with_shard(session.shard() - base).to_bits();
    let item = match down {
        Down::Accepted { session, rid, user, welcome } => {
            RouterIn::Accepted(Accepted { session: there(session), rid, user: user.into(), welcome: Some(*welcome) })
        }
        Down::Refused { session, rid, error, close } => RouterIn::Refused(Refused {
            session: there(session),
            rid,
            error: Some(error),
            close: close.number().into(),
        }),
        Down::Reply { session, frame } => {
            RouterIn::Reply(Reply { session: there(session), frame: frame.map(|frame| *frame) })
        }
        Down::Extend { session, expires } => RouterIn::Extend(Extend { session: there(session), expires }),
        Down::Join { session, topic } => RouterIn::Join(Join { session: there(session), topic: topic.into() }),
        Down::Leave { session, topic } => RouterIn::Leave(Join { session: there(session), topic: topic.into() }),
        Down::Close { session, code } => RouterIn::Close(Close { session: there(session), code: code.number().into() }),
        Down::Deliver { .. } | Down::Doubt => return None,
    };
    Some(RouterItem { item: Some(item) })
}

/// A push for an edge whose shards begin at `base`, for shard `shard` of it so far.
pub(crate) fn deliver_item(envelope: &Envelope, audience: &Audience, shard: u16, base: u16) -> Deliver {
    let lane = match envelope.lane() {
        Lane::Durable => WireLane::Durable,
        Lane::Ephemeral => WireLane::Ephemeral,
    };
    let mut item = Deliver { lane: lane.into(), frame: frame_bytes(envelope), ..Deliver::default() };
    extend_deliver(&mut item, audience, shard, base);
    item
}

/// Adds the audience on one more shard to a push.
pub(crate) fn extend_deliver(item: &mut Deliver, audience: &Audience, shard: u16, base: u16) {
    let there = |session: SessionKey| session.with_shard(session.shard() - base).to_bits();
    match audience {
        Audience::Sessions(sessions) => item.sessions.extend(sessions.iter().map(|session| there(*session))),
        Audience::Topic { topic, except } => {
            if item.topic.is_empty() {
                item.topic = topic.as_str().to_owned();
            }
            item.shards.push((shard - base).into());
            item.except = item.except.or(except.map(there));
        }
    }
}

pub(crate) fn doubt_item(shards: Vec<u32>) -> RouterItem {
    RouterItem { item: Some(RouterIn::Doubt(Doubt { shards })) }
}

/// The push as a protobuf message of a client would be: it is built once, whatever the number of edges and clients.
fn frame_bytes(envelope: &Envelope) -> Bytes {
    let message = envelope.message(Encoding::Protobuf);
    message.slice_ref(payload_of(message))
}

impl RouterItem {
    /// What it means to an edge of `shards` shards.
    pub(crate) fn into_told(self, shards: u16) -> Option<Told> {
        let key = |bits: u64| Some(SessionKey::from_bits(bits)).filter(|key| key.shard() < shards);
        let user = |user: &str| UserId::new(user).ok();
        let conv = |topic: &str| ConvId::new(topic).ok();
        let close = |code: u32| u16::try_from(code).ok().and_then(CloseCode::from_number);
        let (session, down) = match self.item? {
            RouterIn::Accepted(Accepted { session, rid, user: of, welcome }) => {
                let session = key(session)?;
                (session, Down::Accepted { session, rid, user: user(&of)?, welcome: Box::new(welcome?) })
            }
            RouterIn::Refused(Refused { session, rid, error, close: code }) => {
                let (session, close) = (key(session)?, close(code).unwrap_or(CloseCode::Overloaded));
                (session, Down::Refused { session, rid, error: error?, close })
            }
            RouterIn::Reply(Reply { session, frame }) => {
                let session = key(session)?;
                (session, Down::Reply { session, frame: frame.map(Box::new) })
            }
            RouterIn::Extend(Extend { session, expires }) => {
                let session = key(session)?;
                (session, Down::Extend { session, expires })
            }
            RouterIn::Join(Join { session, topic }) => {
                let session = key(session)?;
                (session, Down::Join { session, topic: conv(&topic)? })
            }
            RouterIn::Leave(Join { session, topic }) => {
                let session = key(session)?;
                (session, Down::Leave { session, topic: conv(&topic)? })
            }
            // A code of a newer router: the client is to come back, and hears the reason then.
            RouterIn::Close(Close { session, code }) => {
                let session = key(session)?;
                (session, Down::Close { session, code: close(code).unwrap_or(CloseCode::Drain) })
            }
            RouterIn::Doubt(doubt) => return Some(Told::Doubt(below(&doubt.shards, shards))),
            RouterIn::Deliver(deliver) => return told_deliver(&deliver, shards),
        };
        Some(Told::Session(session, down))
    }
}

fn below(numbers: &[u32], shards: u16) -> Vec<u16> {
    numbers.iter().filter_map(|shard| u16::try_from(*shard).ok().filter(|shard| *shard < shards)).collect()
}

fn told_deliver(deliver: &Deliver, shards: u16) -> Option<Told> {
    let lane = match deliver.lane() {
        WireLane::Ephemeral => Lane::Ephemeral,
        WireLane::Durable | WireLane::Unspecified => Lane::Durable,
    };
    let frame = Frame::decode_length_delimited(deliver.frame.clone()).ok()?;
    let envelope = Envelope::new(lane, frame.body?);
    if !deliver.topic.is_empty() {
        let except = deliver.except.map(SessionKey::from_bits);
        return Some(Told::Topic(envelope, ConvId::new(&deliver.topic).ok()?, below(&deliver.shards, shards), except));
    }
    let keys = deliver.sessions.iter().map(|bits| SessionKey::from_bits(*bits));
    Some(Told::Deliver(envelope, keys.filter(|key| key.shard() < shards).collect()))
}

impl RouterItem {
    pub(crate) const fn is_push(&self) -> bool {
        matches!(self.item, Some(RouterIn::Deliver(_)))
    }
}

impl From<&crate::NodeName> for crate::proto::link::NodeName {
    fn from(name: &crate::NodeName) -> Self {
        Self { node: name.node.clone(), incarnation: name.incarnation }
    }
}
