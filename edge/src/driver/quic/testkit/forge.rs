//! A client that has the right keys and says anything: what its connection wants to say is exchanged just before it is sealed.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

use crate::sync::Mutex;

/// Which packets (RFC 9001 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The first of a handshake.
    Initial,
    /// The last of it.
    Handshake,
    /// All others.
    Data,
}

/// One exchange.
#[derive(Clone, Debug)]
pub struct Order {
    /// In the next packet of this kind.
    pub level: Level,
    /// Bits that change in its first byte.
    pub header: u8,
    /// Stand at its front instead of what was to be said, as far as there is room.
    pub frames: Vec<u8>,
    /// What was to be said behind that stays; else it is padding.
    pub keep: bool,
}

/// What is to be exchanged, in this order.
#[derive(Clone, Default)]
pub struct Orders(Arc<Mutex<VecDeque<Order>>>);

impl Orders {
    /// Exchanges something in a packet to come.
    pub fn push(&self, order: Order) {
        self.0.lock().push_back(order);
    }

    fn obey(&self, level: Level, buf: &mut [u8], payload: std::ops::Range<usize>) {
        let mut orders = self.0.lock();
        let Some(Order { header, frames, keep, .. }) = orders.pop_front_if(|order| order.level == level) else {
            return;
        };
        if let Some(first) = buf.first_mut() {
            *first ^= header;
        }
        let Some(payload) = buf.get_mut(payload) else { return };
        let (front, rest) = payload.split_at_mut(frames.len().min(payload.len()));
        front.copy_from_slice(&frames[..front.len()]);
        if !keep {
            rest.fill(0);
        }
    }
}

/// Begins sessions that obey [`Orders`].
pub(super) struct Forging {
    pub(super) inner: Arc<QuicClientConfig>,
    pub(super) orders: Orders,
}

impl ClientConfig for Forging {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = self.inner.clone().start_session(version, server_name, params)?;
        Ok(Box::new(Forger { inner, orders: self.orders.clone(), level: Level::Initial }))
    }
}

struct Forger {
    inner: Box<dyn Session>,
    orders: Orders,
    level: Level,
}

impl Forger {
    fn seal(&self, level: Level, key: Box<dyn PacketKey>) -> Box<dyn PacketKey> {
        Box::new(Sealing { key, level, orders: self.orders.clone() })
    }

    fn keys(&self, level: Level, keys: Keys) -> Keys {
        let KeyPair { local, remote } = keys.packet;
        Keys { header: keys.header, packet: KeyPair { local: self.seal(level, local), remote } }
    }
}

impl Session for Forger {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.keys(Level::Initial, self.inner.initial_keys(dst_cid, side))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(buf)?;
        self.level = if self.level == Level::Initial { Level::Handshake } else { Level::Data };
        Some(self.keys(self.level, keys))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let KeyPair { local, remote } = self.inner.next_1rtt_keys()?;
        Some(KeyPair { local: self.seal(Level::Data, local), remote })
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

struct Sealing {
    key: Box<dyn PacketKey>,
    level: Level,
    orders: Orders,
}

impl PacketKey for Sealing {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len().saturating_sub(self.key.tag_len());
        self.orders.obey(self.level, buf, header_len..end);
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}
