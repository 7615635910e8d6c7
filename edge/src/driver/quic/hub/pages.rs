//! Pages of history on streams of their own: a lost datagram of one holds up nothing else.

use bytes::Bytes;
use quinn_proto::{Dir, VarInt};
use roost_wire::CloseCode;
use roost_wire::link::SessionKey;

use super::super::conns::{Flags, Stage};
use super::Hub;

impl Hub {
    /// Sends `bytes` on a unidirectional stream that ends with them. False: the client allows no further one, or the windows
    /// do not take all of it now. A stream that was begun in vain is reset: what it was for comes another way.
    ///
    /// Nothing is kept here that the windows did not take, so these streams have no queue of their own.
    pub(in super::super) fn send_page(&mut self, key: SessionKey, bytes: &Bytes) -> bool {
        let Some(handle) = self.keys.get(key).map(|row| row.handle) else { return true };
        let Some(conn) = self.conns.get(handle) else { return true };
        if conn.stage != Stage::Carrying || conn.flags.has(Flags::BLOCKED) || conn.flags.has(Flags::H3) {
            return false;
        }
        let Some(id) = conn.quic.streams().open(Dir::Uni) else { return false };
        let mut stream = conn.quic.send_stream(id);
        let whole = stream.write_chunks(&mut [bytes.clone()]).is_ok_and(|written| written.bytes == bytes.len())
            && stream.finish().is_ok();
        if whole {
            conn.unanswered = 0;
        } else {
            // It fails only where there is nothing to reset any more.
            let _ = stream.reset(VarInt::from_u32(CloseCode::Normal.number().into()));
        }
        self.unsent(handle);
        whole
    }
}
