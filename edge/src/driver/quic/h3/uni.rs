//! Streams of the client that go one way (RFC 9114 §6.2).

use quinn_proto::StreamId;
use web_transport_proto::{Frame, Setting, StreamUni, VarInt};

use super::Breach;
use super::tlv::Tlvs;

/// Largest SETTINGS.
const SETTINGS_BYTES_MAX: usize = 1024;
/// Frames that a control stream may not have: DATA, HEADERS, PUSH_PROMISE, a second SETTINGS, and what HTTP/2 had
/// (RFC 9114 §7.2, §11.2.1).
const NOT_FOR_CONTROL: [u64; 8] = [0x0, 0x1, 0x5, 0x4, 0x2, 0x6, 0x8, 0x9];
/// Settings that HTTP/2 had (RFC 9114 §7.2.4.1).
const NOT_A_SETTING: std::ops::RangeInclusive<u64> = 2..=5;

/// One of them.
#[derive(Debug)]
pub(super) struct Uni {
    pub(super) id: StreamId,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Its type has not come whole.
    New(Vec<u8>),
    Control(Box<Control>),
    Encoder,
    Decoder,
}

#[derive(Debug, Default)]
struct Control {
    frames: Tlvs,
    /// What came of SETTINGS. `None`: they are read.
    settings: Option<Vec<u8>>,
}

/// Which of those there may be once have been opened (RFC 9114 §6.2.1, RFC 9204 §4.2).
#[derive(Debug, Default)]
pub(super) struct Opened {
    control: bool,
    encoder: bool,
    decoder: bool,
}

/// What came of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    /// The client's SETTINGS: whether it takes datagrams (RFC 9297 §2.1.1).
    Settings {
        datagrams: bool,
    },
    /// It is of no kind that is listened to.
    Unwanted,
}

impl Uni {
    pub(super) const fn new(id: StreamId) -> Self {
        Self { id, kind: Kind::New(Vec::new()) }
    }

    /// The connection ends with it.
    pub(super) const fn is_critical(&self) -> bool {
        !matches!(self.kind, Kind::New(_))
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8], opened: &mut Opened) -> Result<Said, Breach> {
        if let Kind::New(head) = &mut self.kind {
            let kind = loop {
                let Some((byte, rest)) = bytes.split_first() else { return Ok(Said::Nothing) };
                bytes = rest;
                head.push(*byte);
                if let Ok(kind) = StreamUni::decode(&mut head.as_slice()) {
                    break kind;
                }
            };
            match Kind::of(kind, opened)? {
                Some(kind) => self.kind = kind,
                None => return Ok(Said::Unwanted),
            }
        }
        match &mut self.kind {
            Kind::New(_) => Ok(Said::Nothing),
            Kind::Control(control) => control.take(bytes),
            // The table has no room, so that nothing can be said of it but this (RFC 9204 §4.3.1).
            Kind::Encoder if bytes.iter().all(|byte| *byte == 0x20) => Ok(Said::Nothing),
            Kind::Encoder => Err(Breach::EncoderStream),
            // A stream may be cancelled; everything else speaks of the table (RFC 9204 §4.4). How the number of the stream goes on
            // is not looked at.
            Kind::Decoder => Ok(Said::Nothing),
        }
    }
}

impl Kind {
    /// `None`: nobody listens to such a stream.
    fn of(kind: StreamUni, opened: &mut Opened) -> Result<Option<Self>, Breach> {
        let (was, kind) = match kind {
            StreamUni::CONTROL => {
                let control = Control { settings: Some(Vec::new()), ..Control::default() };
                (&mut opened.control, Self::Control(Box::new(control)))
            }
            StreamUni::QPACK_ENCODER => (&mut opened.encoder, Self::Encoder),
            StreamUni::QPACK_DECODER => (&mut opened.decoder, Self::Decoder),
            // Only servers push (RFC 9114 §6.2.2).
            StreamUni::PUSH => return Err(Breach::StreamCreation),
            _ => return Ok(None),
        };
        if std::mem::replace(was, true) { Err(Breach::StreamCreation) } else { Ok(Some(kind)) }
    }
}

impl Control {
    fn take(&mut self, mut bytes: &[u8]) -> Result<Said, Breach> {
        let mut said = Said::Nothing;
        while let Some(piece) = self.frames.next(&mut bytes) {
            match &mut self.settings {
                Some(_) if piece.kind != Frame::SETTINGS.0.into_inner() => return Err(Breach::MissingSettings),
                Some(settings) => {
                    if piece.left > (SETTINGS_BYTES_MAX - settings.len().min(SETTINGS_BYTES_MAX)) as u64
                        || settings.len() + piece.bytes.len() > SETTINGS_BYTES_MAX
                    {
                        return Err(Breach::ExcessiveLoad);
                    }
                    settings.extend_from_slice(piece.bytes);
                    if piece.left == 0 {
                        said = Said::Settings { datagrams: takes_datagrams(settings)? };
                        self.settings = None;
                    }
                }
                None if NOT_FOR_CONTROL.contains(&piece.kind) => return Err(Breach::FrameUnexpected),
                None => {}
            }
        }
        Ok(said)
    }
}

/// Reads SETTINGS (RFC 9114 §7.2.4): whether the client takes datagrams.
fn takes_datagrams(mut settings: &[u8]) -> Result<bool, Breach> {
    let mut seen = Vec::new();
    let mut datagrams = false;
    while !settings.is_empty() {
        let (Ok(id), Ok(value)) = (Setting::decode(&mut settings), VarInt::decode(&mut settings)) else {
            return Err(Breach::Frame);
        };
        let value = value.into_inner();
        if NOT_A_SETTING.contains(&id.0.into_inner()) || seen.contains(&id) {
            return Err(Breach::Settings);
        }
        seen.push(id);
        match id {
            Setting::ENABLE_CONNECT_PROTOCOL | Setting::ENABLE_DATAGRAM if value > 1 => return Err(Breach::Settings),
            Setting::ENABLE_DATAGRAM | Setting::ENABLE_DATAGRAM_DEPRECATED => datagrams |= value == 1,
            _ => {}
        }
    }
    Ok(datagrams)
}
