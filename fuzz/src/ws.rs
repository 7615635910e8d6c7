//! What the WebSocket targets share: the decoder's events with what they lend, kept.

use roost_wire::ws::{Decoder, Event, Inflater, MessageKind, Side, WsError};

/// An [`Event`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A whole message.
    Message(MessageKind, Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame: nothing after it counts.
    Close(Option<(u16, String)>),
}

impl From<&Event<'_>> for Said {
    fn from(event: &Event<'_>) -> Self {
        match event {
            Event::Message { kind, payload } => {
                if *kind == MessageKind::Text {
                    std::str::from_utf8(payload).expect("text is UTF-8");
                }
                Self::Message(*kind, payload.to_vec())
            }
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(body) => Self::Close(body.as_ref().map(|body| (body.code, body.reason.to_owned()))),
        }
    }
}

/// What came of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Up to the error or the close frame.
    pub(crate) said: Vec<Said>,
    /// Why the stream was refused.
    pub(crate) error: Option<WsError>,
}

impl Seen {
    /// Whether nothing after it counts.
    pub(crate) fn is_over(&self) -> bool {
        self.error.is_some() || matches!(self.said.last(), Some(Said::Close(_)))
    }
}

/// What a decoder is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Which end it is.
    pub(crate) side: Side,
    /// Longest message it takes.
    pub(crate) message_bytes_max: usize,
    /// Whether permessage-deflate was agreed on.
    pub(crate) deflate: bool,
}

/// A decoder under test, and what it said so far.
pub(crate) struct Reader {
    decoder: Decoder,
    /// Where permessage-deflate was agreed on.
    inflater: Option<Inflater>,
    message_bytes_max: usize,
    pub(crate) seen: Seen,
}

impl Reader {
    pub(crate) fn new(terms: Terms) -> Self {
        let Terms { side, message_bytes_max, deflate } = terms;
        let decoder = if deflate {
            Decoder::with_deflate(side, message_bytes_max)
        } else {
            Decoder::new(side, message_bytes_max)
        };
        Self { decoder, inflater: deflate.then(Inflater::new), message_bytes_max, seen: Seen::default() }
    }

    /// Hands over the next bytes of the stream, as a driver does. False: it is over.
    pub(crate) fn feed(&mut self, part: &[u8]) -> bool {
        let (mut lent, mut at) = (part.to_vec(), 0);
        while !self.seen.is_over() {
            let before = at;
            let next = match &mut self.inflater {
                Some(inflater) => self.decoder.next_inflating(&mut lent, &mut at, inflater),
                None => self.decoder.next(&mut lent, &mut at),
            };
            match next {
                Ok(Some(event)) => {
                    let said = Said::from(&event);
                    match &said {
                        Said::Message(_, payload) => assert!(payload.len() <= self.message_bytes_max, "a limit"),
                        Said::Ping(payload) | Said::Pong(payload) => assert!(payload.len() <= 125, "RFC 6455 §5.5"),
                        Said::Close(_) => {}
                    }
                    self.seen.said.push(said);
                    assert!(before <= at && at <= part.len(), "it moves on, within what it was given");
                }
                Ok(None) => {
                    assert_eq!(at, part.len(), "everything was taken");
                    break;
                }
                Err(error) => self.seen.error = Some(error),
            }
        }
        !self.seen.is_over()
    }
}

/// Reads a stream that comes in pieces of the given lengths, over and over; the last one is shorter.
pub(crate) fn read(terms: Terms, stream: &[u8], cuts: &[usize]) -> Seen {
    let mut reader = Reader::new(terms);
    let mut rest = stream;
    for cut in cuts.iter().copied().map(|cut| cut.max(1)).cycle() {
        let (part, after) = rest.split_at(cut.min(rest.len()));
        if !reader.feed(part) || after.is_empty() {
            break;
        }
        rest = after;
    }
    reader.seen
}
