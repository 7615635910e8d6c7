//! TLS with one peer, without I/O: bytes in, plaintext out, and back.
//!
//! rustls does the handshake. Then, with TLS 1.3, its keys are taken and [`Records`] goes on with them, so that an idle
//! session is some hundred bytes; with TLS 1.2 rustls goes on, four KiB.
//!
//! Invariants:
//! - rustls is shown one record more at a time, so it has read nothing behind the end of the handshake when it is let go;
//! - bytes are kept only while a record is cut, or a handshake has not ended: less than one record, or
//!   [`HANDSHAKE_BYTES_MAX`] and what one read brought;
//! - after a [`Broken`] nothing more is read, and nothing is sent but the alert.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion, ServerConfig};

use super::broken::{Broken, Reason};
use super::record::{HEADER_BYTES, PLAIN_BYTES_MAX, Records, Taken, record_bytes};
use super::secrets::{Secrets, catching};

/// Bytes that a client may send until its handshake is over. What browsers send is below four thousand.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;
/// Room offered to rustls for a message, and beside data: record header, nonce, tag.
const ROOM: usize = 1024;
/// Types of records stand between these.
const TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// TLS with one peer.
pub(crate) struct Session {
    stage: Stage,
    /// The beginning of what is still to come whole.
    cut: Vec<u8>,
    /// The peer said its end, or broke the rules: nothing of it is read.
    deaf: bool,
}

enum Stage {
    Shaking(Box<Shaking>),
    Records(Box<Records>),
    /// TLS 1.2.
    Rustls(Box<UnbufferedServerConnection>),
    /// Nothing can be sent.
    Broken,
}

struct Shaking {
    rustls: UnbufferedServerConnection,
    /// Bytes of `cut` that rustls has seen and not let go: whole records.
    shown: usize,
    /// Bytes that it was shown since the beginning.
    total: usize,
    /// What it told of keys.
    secrets: Secrets,
}

/// What bytes brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// The handshake ended well with these bytes.
    pub(crate) shaken: Option<HandshakeKind>,
    /// The peer said its end with these bytes.
    pub(crate) ended: bool,
}

/// What rustls did with bytes.
struct Driven {
    bytes: usize,
    ended: bool,
    may_send: bool,
}

impl Session {
    /// A session whose peer has said nothing yet.
    ///
    /// # Errors
    /// The settings cannot work.
    pub(crate) fn new(config: &Arc<ServerConfig>) -> Result<Self, Broken> {
        let rustls = UnbufferedServerConnection::new(config.clone())?;
        let shaking = Shaking { rustls, shown: 0, total: 0, secrets: Secrets::default() };
        Ok(Self { stage: Stage::Shaking(Box::new(shaking)), cut: Vec::new(), deaf: false })
    }

    /// Bytes kept of what is cut.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.cut.len()
    }

    #[cfg(test)]
    pub(super) fn records(&mut self) -> &mut Records {
        match &mut self.stage {
            Stage::Records(records) => records,
            _ => panic!("no session of TLS 1.3"),
        }
    }

    /// Whether data can be sent: the handshake is over, and nothing broke.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Records(_) | Stage::Rustls(_))
    }

    /// Takes bytes of the peer, changing them; tells data to `plain` and appends to `out` what the peer is to be sent.
    ///
    /// # Errors
    /// It cannot go on. Data before the fault was told, and `out` says why to the peer.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Progress, Broken> {
        if self.deaf {
            return Ok(Progress::default());
        }
        let result = self.try_receive(bytes, out, plain);
        match &result {
            Ok(progress) if !progress.ended => {}
            Ok(_) => self.deafen(),
            Err(broken) => {
                self.deafen();
                self.tell(*broken, out);
            }
        }
        result
    }

    fn deafen(&mut self) {
        self.deaf = true;
        self.cut = Vec::new();
    }

    /// The alert that belongs to a fault. What rustls found, rustls has told.
    fn tell(&mut self, broken: Broken, out: &mut Vec<u8>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Broken);
        match stage {
            Stage::Records(mut records) if broken.reason != Reason::Refused => {
                let _ = records.fatal(broken.alert, out);
            }
            // No key is agreed on, or rustls does not let us use it.
            Stage::Shaking(_) if out.is_empty() && broken.reason == Reason::Large => {
                out.extend_from_slice(&[21, 3, 3, 0, 2, 2, broken.alert.into()]);
            }
            _ => {}
        }
    }

    fn try_receive(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Progress, Broken> {
        if !matches!(self.stage, Stage::Shaking(_)) {
            let ended = self.traffic(bytes, out, plain)?;
            return Ok(Progress { shaken: None, ended });
        }
        self.cut.extend_from_slice(bytes);
        let Some(kind) = self.shake(out)? else { return Ok(Progress::default()) };
        let mut rest = std::mem::take(&mut self.cut);
        let ended = self.traffic(&mut rest, out, plain)?;
        Ok(Progress { shaken: Some(kind), ended })
    }

    /// Goes on with the handshake. Returns how it ended if it has; what stands in `cut` then is data.
    fn shake(&mut self, out: &mut Vec<u8>) -> Result<Option<HandshakeKind>, Broken> {
        let Stage::Shaking(shaking) = &mut self.stage else { return Err(Broken::INTERNAL) };
        loop {
            let Some(len) = next_record(&self.cut[shaking.shown..]) else { return Ok(None) };
            shaking.shown += len;
            shaking.total += len;
            if shaking.total > HANDSHAKE_BYTES_MAX {
                return Err(Broken::new(AlertDescription::RecordOverflow, Reason::Large));
            }
            // Before the end of a handshake there is no data; early data is not agreed on.
            let bytes = &mut self.cut[..shaking.shown];
            let driven = catching(&mut shaking.secrets, || drive(&mut shaking.rustls, bytes, out, &mut |_| {}))?;
            self.cut.drain(..driven.bytes);
            shaking.shown -= driven.bytes;
            if driven.ended {
                return Err(Broken::new(AlertDescription::CloseNotify, Reason::Refused));
            }
            // A half of a message would be lost with rustls.
            if driven.may_send && !shaking.rustls.is_handshaking() {
                if shaking.shown > 0 {
                    return Err(Broken::malformed(AlertDescription::UnexpectedMessage));
                }
                break;
            }
        }
        let kind = shaking.rustls.handshake_kind().ok_or(Broken::INTERNAL)?;
        let Stage::Shaking(shaking) = std::mem::replace(&mut self.stage, Stage::Broken) else {
            return Err(Broken::INTERNAL);
        };
        self.stage = if shaking.rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
            let (keys, _) = shaking.rustls.dangerous_into_kernel_connection()?;
            Stage::Records(Box::new(Records::new(keys, shaking.secrets)?))
        } else {
            Stage::Rustls(Box::new(shaking.rustls))
        };
        Ok(Some(kind))
    }

    /// Bytes after the handshake. True: the peer said its end.
    fn traffic(
        &mut self,
        mut bytes: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&mut [u8]),
    ) -> Result<bool, Broken> {
        if !self.cut.is_empty() {
            // Only what the cut record lacks, so that the others stay where they are.
            if !complete(&mut self.cut, &mut bytes)? {
                return Ok(false);
            }
            let mut whole = std::mem::take(&mut self.cut);
            if self.whole_records(&mut whole, out, plain)?.ended {
                return Ok(true);
            }
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        let taken = self.whole_records(bytes, out, plain)?;
        if !taken.ended {
            self.cut = bytes[taken.bytes..].to_vec();
        }
        Ok(taken.ended)
    }

    fn whole_records(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Taken, Broken> {
        match &mut self.stage {
            Stage::Records(records) => records.receive(bytes, plain),
            Stage::Rustls(rustls) => {
                let mut taken = Taken::default();
                while let Some(len) = next_record(&bytes[taken.bytes..]) {
                    let driven = drive(rustls, &mut bytes[taken.bytes..taken.bytes + len], out, plain)?;
                    if driven.bytes != len && !driven.ended {
                        // A message of a handshake that is cut: after the handshake nobody has one so long.
                        return Err(Broken::malformed(AlertDescription::UnexpectedMessage));
                    }
                    taken.bytes += len;
                    taken.ended |= driven.ended;
                    if taken.ended {
                        break;
                    }
                }
                Ok(taken)
            }
            Stage::Shaking(_) | Stage::Broken => Err(Broken::INTERNAL),
        }
    }

    /// Appends a record with as much of `chunks` as goes into one. Returns how many bytes of them that were: 0 before the end
    /// of the handshake.
    ///
    /// # Errors
    /// It cannot go on.
    pub(crate) fn seal<'a>(
        &mut self,
        chunks: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<usize, Broken> {
        match &mut self.stage {
            Stage::Records(records) => records.seal(chunks, out),
            Stage::Rustls(rustls) => seal_by(rustls, chunks, out),
            Stage::Shaking(_) | Stage::Broken => Ok(0),
        }
    }

    /// Appends our end, if it can be said. Nothing can be sent afterwards.
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Records(mut records) => drop(records.close_notify(out)),
            Stage::Rustls(mut rustls) => {
                if let Ok(ConnectionState::WriteTraffic(mut traffic)) = rustls.process_tls_records(&mut []).state {
                    let begin = out.len();
                    out.resize(begin + ROOM, 0);
                    let len = traffic.queue_close_notify(&mut out[begin..]).unwrap_or(0);
                    out.truncate(begin + len);
                }
            }
            Stage::Shaking(_) | Stage::Broken => {}
        }
    }
}

/// The length of the record in front of `bytes`, if it is whole. Of what is none, everything: rustls says what is wrong.
fn next_record(bytes: &[u8]) -> Option<usize> {
    let sane = bytes.first().is_some_and(|kind| TYPES.contains(kind)) && bytes.get(1).is_none_or(|major| *major == 3);
    match record_bytes(bytes) {
        Ok(len) if sane => len.filter(|len| *len <= bytes.len()),
        _ if bytes.len() < HEADER_BYTES => None,
        _ => Some(bytes.len()),
    }
}

/// Moves bytes to `cut` until the record that begins there is whole. False: there were not enough.
fn complete(cut: &mut Vec<u8>, bytes: &mut &mut [u8]) -> Result<bool, Broken> {
    loop {
        let want = record_bytes(cut)?.unwrap_or(HEADER_BYTES);
        if cut.len() >= want {
            return Ok(true);
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        let more = bytes.len().min(want - cut.len());
        let (front, rest) = std::mem::take(bytes).split_at_mut(more);
        cut.extend_from_slice(front);
        *bytes = rest;
    }
}

/// Shows `bytes` to rustls until it wants more.
fn drive(
    rustls: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    out: &mut Vec<u8>,
    plain: &mut dyn FnMut(&mut [u8]),
) -> Result<Driven, Broken> {
    let (mut at, mut ended, mut fault) = (0, false, None);
    loop {
        // After a fault there may be an alert to be sent.
        let rest = if fault.is_none() { &mut bytes[at..] } else { &mut [] };
        let UnbufferedStatus { mut discard, state, .. } = rustls.process_tls_records(rest);
        match state {
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                let begin = out.len();
                out.resize(begin + ROOM, 0);
                let len = match message.encode(&mut out[begin..]) {
                    Err(EncodeError::InsufficientSize(size)) => {
                        out.resize(begin + size.required_size, 0);
                        message.encode(&mut out[begin..])
                    }
                    tried => tried,
                };
                out.truncate(begin + len.map_err(|_| Broken::INTERNAL)?);
            }
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    if !record.payload.is_empty() {
                        plain(&mut record.payload.to_vec());
                    }
                }
            }
            Ok(ConnectionState::PeerClosed) => ended = true,
            Ok(state @ (ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_))) if fault.is_none() => {
                let may_send = matches!(state, ConnectionState::WriteTraffic(_));
                return Ok(Driven { bytes: at + discard, ended, may_send });
            }
            Ok(ConnectionState::Closed) if fault.is_none() => {
                return Ok(Driven { bytes: at + discard, ended, may_send: false });
            }
            Ok(_) => return Err(fault.unwrap_or(Broken::INTERNAL)),
            Err(error) => {
                if let Some(fault) = fault {
                    return Err(fault);
                }
                fault = Some(error.into());
            }
        }
        at += discard;
    }
}

/// The same as [`Session::seal`] with TLS 1.2.
fn seal_by<'a>(
    rustls: &mut UnbufferedServerConnection,
    chunks: impl Iterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> Result<usize, Broken> {
    let mut data = Vec::new();
    for chunk in chunks {
        let piece = &chunk[..chunk.len().min(PLAIN_BYTES_MAX - data.len())];
        data.extend_from_slice(piece);
        if piece.len() < chunk.len() {
            break;
        }
    }
    if data.is_empty() {
        return Ok(0);
    }
    let state = rustls.process_tls_records(&mut []).state?;
    let ConnectionState::WriteTraffic(mut traffic) = state else { return Err(Broken::INTERNAL) };
    let begin = out.len();
    out.resize(begin + data.len() + ROOM, 0);
    match traffic.encrypt(&data, &mut out[begin..]) {
        Ok(len) => out.truncate(begin + len),
        Err(EncryptError::InsufficientSize(_) | EncryptError::EncryptExhausted) => return Err(Broken::INTERNAL),
    }
    Ok(data.len())
}
