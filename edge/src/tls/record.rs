//! Records of TLS 1.3 once the handshake is over (RFC 8446 §5), on keys taken from rustls.
//!
//! A session keeps raw keys and the secret that the next ones are made of; nothing is expanded, queued or buffered between calls.
//!
//! Invariants:
//! - a nonce is used once: the sequence number goes up with every record, and begins anew with new keys alone;
//! - what a record holds is looked at only after its tag was found right;
//! - the first fault is the last: whoever gets a [`Broken`] reads nothing more with these keys.
//!
//! Absent on purpose: messages of a handshake other than KeyUpdate (no client certificates are asked for, so a client has
//! nothing else to say), KeyUpdates cut over several records, padding of what we send.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{AlertDescription, ConnectionTrafficSecrets, ExtractedSecrets};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::broken::{Broken, Reason};
use super::secrets::{Secret, Secrets};

/// Type, version and length stand before each record.
pub(super) const HEADER_BYTES: usize = 5;
/// Plaintext of one record at most (§5.1).
pub(crate) const PLAIN_BYTES_MAX: usize = 1 << 14;
/// What follows a header at most (§5.2).
pub(super) const SEALED_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;
const TAG_BYTES: usize = 16;
/// What a record is longer than its data.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;

/// Types of content (§5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// KeyUpdate, and its two requests (§4.6.3).
const KEY_UPDATE: u8 = 24;
const NOT_REQUESTED: u8 = 0;
const REQUESTED: u8 = 1;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Records sealed with one key: AES-GCM allows 2^24.5 (§5.5).
pub(super) const RECORDS_PER_KEY: u64 = 1 << 23;
/// KeyUpdates in a row, without data between, as rustls allows.
const UPDATES_MAX: u8 = 32;
/// Alerts that mean nothing, as rustls allows.
const IDLE_ALERTS_MAX: u8 = 4;

/// The whole length of the record that begins `bytes`. `Ok(None)`: its header is cut.
pub(super) fn record_bytes(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let sealed = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if sealed > SEALED_BYTES_MAX {
        return Err(Broken::malformed(AlertDescription::RecordOverflow));
    }
    Ok(Some(HEADER_BYTES + sealed))
}

/// The keys of one direction.
pub(super) struct Direction {
    /// Of the next record.
    sequence: u64,
    cipher: &'static Algorithm,
    keys: Keys,
    /// What they are made of.
    secret: Secret,
}

/// Wiped when they go.
#[derive(Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
struct Keys {
    /// In front, as long as the cipher's.
    key: [u8; 32],
    iv: [u8; 12],
}

const _: () = assert!(size_of::<Direction>() <= 112);

/// What a record held.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) kind: u8,
    /// From the end of the header.
    pub(super) len: usize,
}

impl Direction {
    /// Keys as rustls hands them over, without their successors.
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Broken> {
        let (cipher, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Broken::INTERNAL),
        };
        let mut keys = Keys::default();
        // Longer than the cipher's only in tests.
        let (len, key) = (cipher.key_len(), key.as_ref());
        keys.key[..len].copy_from_slice(key.get(..len).ok_or(Broken::INTERNAL)?);
        keys.iv = iv.as_ref().try_into().map_err(|_| Broken::INTERNAL)?;
        Ok(Self { sequence, cipher, keys, secret: Secret::default() })
    }

    /// The first keys of `secret` (RFC 8446 §7.3).
    pub(super) fn made_of(cipher: &'static Algorithm, secret: Secret) -> Result<Self, Broken> {
        let mut keys = Keys::default();
        secret.expand(b"key", &mut keys.key[..cipher.key_len()])?;
        secret.expand(b"iv", &mut keys.iv)?;
        Ok(Self { sequence: 0, cipher, keys, secret })
    }

    /// The keys that follow these (§7.2).
    pub(super) fn next(&self) -> Result<Self, Broken> {
        Self::made_of(self.cipher, self.secret.next()?)
    }

    /// With what these keys are made of. An error if they are made of something else.
    fn with(self, secret: Option<Secret>) -> Result<Self, Broken> {
        let made = Self::made_of(self.cipher, secret.ok_or(Broken::INTERNAL)?)?;
        if made.keys == self.keys { Ok(Self { sequence: self.sequence, ..made }) } else { Err(Broken::INTERNAL) }
    }

    /// The number of the next record, to be changed by tests.
    #[cfg(test)]
    pub(super) const fn sequence(&mut self) -> &mut u64 {
        &mut self.sequence
    }

    /// The key, expanded: as cheap as keeping it so, and half a KiB smaller in between.
    pub(super) fn key(&self) -> Result<LessSafeKey, Broken> {
        let key = UnboundKey::new(self.cipher, &self.keys.key[..self.cipher.key_len()]);
        key.map(LessSafeKey::new).map_err(|_| Broken::INTERNAL)
    }

    /// The nonce of the next record (§5.3): from here on it is used.
    fn nonce(&mut self) -> Result<Nonce, Broken> {
        let mut nonce = self.keys.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(Broken::INTERNAL)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Decrypts one whole record in place; its plaintext then stands behind the header.
    pub(super) fn open(&mut self, key: &LessSafeKey, record: &mut [u8]) -> Result<Content, Broken> {
        let Some((header, sealed)) = record.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(Broken::INTERNAL);
        };
        if header[0] != DATA {
            return Err(Broken::malformed(AlertDescription::UnexpectedMessage));
        }
        let nonce = self.nonce()?;
        let plain = key
            .open_in_place(nonce, Aad::from(&*header), sealed)
            .map_err(|_| Broken::malformed(AlertDescription::BadRecordMac))?;
        if plain.len() > PLAIN_BYTES_MAX + 1 {
            return Err(Broken::malformed(AlertDescription::RecordOverflow));
        }
        // The type stands behind the content, and zeros may follow (§5.4).
        let len = plain.iter().rposition(|byte| *byte != 0);
        let len = len.ok_or(Broken::malformed(AlertDescription::UnexpectedMessage))?;
        Ok(Content { kind: plain[len], len })
    }

    /// Makes a record of what stands in `out` from `begin` on: room for a header, and at most [`PLAIN_BYTES_MAX`] bytes.
    pub(super) fn seal(&mut self, kind: u8, begin: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        out.push(kind);
        let Some(record) = out.get_mut(begin..) else { return Err(Broken::INTERNAL) };
        let len = record.len() - HEADER_BYTES + TAG_BYTES;
        debug_assert!(u16::try_from(len).is_ok());
        let [high, low] = (len as u16).to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        record[..HEADER_BYTES].copy_from_slice(&header);
        let (key, nonce) = (self.key()?, self.nonce()?);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut record[HEADER_BYTES..]);
        out.extend_from_slice(tag.map_err(|_| Broken::INTERNAL)?.as_ref());
        Ok(())
    }
}

/// Both directions of a session.
pub(super) struct Records {
    receive: Direction,
    send: Direction,
    /// The peer asked for new keys of ours: they come before the next data (§4.6.3).
    update_owed: bool,
    updates_left: u8,
    idle_alerts_left: u8,
}

const _: () = assert!(size_of::<Records>() <= 232);

/// What whole records brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes from the front that are done with.
    pub(super) bytes: usize,
    /// The peer will send nothing more.
    pub(super) ended: bool,
}

impl Records {
    /// Goes on with the keys that a server's handshake ended with, and the secrets it told.
    pub(super) fn new(keys: ExtractedSecrets, secrets: Secrets) -> Result<Self, Broken> {
        Ok(Self {
            receive: Direction::new(keys.rx)?.with(secrets.client)?,
            send: Direction::new(keys.tx)?.with(secrets.server)?,
            update_owed: false,
            updates_left: UPDATES_MAX,
            idle_alerts_left: IDLE_ALERTS_MAX,
        })
    }

    #[cfg(test)]
    pub(super) const fn sending(&mut self) -> &mut Direction {
        &mut self.send
    }

    /// Decrypts the whole records in front of `bytes` in place, and tells their data.
    pub(super) fn receive(&mut self, bytes: &mut [u8], plain: &mut dyn FnMut(&mut [u8])) -> Result<Taken, Broken> {
        let mut taken = Taken::default();
        let mut key = None;
        while let Some(len) = record_bytes(&bytes[taken.bytes..])? {
            let Some(record) = bytes[taken.bytes..].get_mut(..len) else { break };
            let expanded = match &key {
                Some(key) => key,
                None => key.insert(self.receive.key()?),
            };
            let content = self.receive.open(expanded, record)?;
            taken.bytes += len;
            let body = &mut record[HEADER_BYTES..HEADER_BYTES + content.len];
            match content.kind {
                DATA => {
                    if !body.is_empty() {
                        self.updates_left = UPDATES_MAX;
                        plain(body);
                    }
                }
                ALERT if self.alert(body)? => {
                    taken.ended = true;
                    break;
                }
                ALERT => {}
                HANDSHAKE => {
                    self.key_update(body)?;
                    key = None;
                }
                _ => return Err(Broken::malformed(AlertDescription::UnexpectedMessage)),
            }
        }
        Ok(taken)
    }

    /// True: the peer said its end (§6.1).
    fn alert(&mut self, body: &[u8]) -> Result<bool, Broken> {
        match *body {
            [_, CLOSE_NOTIFY] => Ok(true),
            [_, USER_CANCELED] if self.idle_alerts_left > 0 => {
                self.idle_alerts_left -= 1;
                Ok(false)
            }
            [_, USER_CANCELED] => Err(Broken::malformed(AlertDescription::UnexpectedMessage)),
            [_, _] => Err(Broken::new(AlertDescription::CloseNotify, Reason::Refused)),
            _ => Err(Broken::malformed(AlertDescription::DecodeError)),
        }
    }

    /// The peer's next record is sealed with its next keys (§4.6.3).
    fn key_update(&mut self, body: &[u8]) -> Result<(), Broken> {
        let request = match *body {
            [KEY_UPDATE, 0, 0, 1, request @ (NOT_REQUESTED | REQUESTED)] => request,
            [KEY_UPDATE, 0, 0, 1, _] => return Err(Broken::malformed(AlertDescription::IllegalParameter)),
            _ => return Err(Broken::malformed(AlertDescription::UnexpectedMessage)),
        };
        self.updates_left = match self.updates_left.checked_sub(1) {
            Some(left) => left,
            None => return Err(Broken::malformed(AlertDescription::UnexpectedMessage)),
        };
        self.receive = self.receive.next()?;
        self.update_owed |= request == REQUESTED;
        Ok(())
    }

    /// Appends one record with as much of `chunks` as goes into it. Returns how many bytes that were.
    pub(super) fn seal<'a>(
        &mut self,
        chunks: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<usize, Broken> {
        self.update_if_due(out)?;
        let begin = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let content = out.len();
        for chunk in chunks {
            let room = PLAIN_BYTES_MAX - (out.len() - content);
            out.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        let len = out.len() - content;
        if len == 0 {
            out.truncate(begin);
        } else {
            self.send.seal(DATA, begin, out)?;
        }
        Ok(len)
    }

    /// New keys for what we send, if the peer asked or the old ones sealed enough.
    fn update_if_due(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.update_owed || self.send.sequence >= RECORDS_PER_KEY {
            self.update_owed = false;
            self.one(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, NOT_REQUESTED], out)?;
            self.send = self.send.next()?;
        }
        Ok(())
    }

    /// Appends our end (§6.1).
    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.one(ALERT, &[WARNING, CLOSE_NOTIFY], out)
    }

    /// Appends the reason why nothing more will come (§6.2).
    pub(super) fn fatal(&mut self, alert: AlertDescription, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.one(ALERT, &[FATAL, alert.into()], out)
    }

    fn one(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let begin = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(content);
        self.send.seal(kind, begin, out)
    }
}
