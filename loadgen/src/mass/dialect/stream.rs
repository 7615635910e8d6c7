//! Packets that do not care where messages of WebSocket begin and end.

use crate::mass::crowd::{Crowd, Heard};
use crate::mass::hear::Ears;

/// Most that is kept of a packet that is not all there.
pub(super) const PACKET_BYTES_MAX: usize = 1 << 20;

/// Handles the packet at the front of `bytes` for a client and returns its length; `None`: it is not all there.
type Take = fn(&mut Crowd, u32, &[u8], &mut Ears<'_>) -> Result<Option<usize>, String>;

impl Crowd {
    /// The next bytes of a client's stream of packets: `take` gets each packet, and what is left is kept.
    pub(super) fn packets(&mut self, at: u32, payload: &[u8], ears: &mut Ears<'_>, take: Take) {
        let joined = self.halves.remove(&at).map(|mut half| {
            half.extend_from_slice(payload);
            half
        });
        let mut rest = joined.as_deref().unwrap_or(payload);
        loop {
            match take(self, at, rest, ears) {
                Ok(Some(len)) => rest = rest.get(len..).unwrap_or_default(),
                Ok(None) if rest.is_empty() => return,
                Ok(None) if rest.len() > PACKET_BYTES_MAX => {
                    return ears.heard.push(Heard::Failed(format!("a packet of more than {PACKET_BYTES_MAX} bytes")));
                }
                Ok(None) => return drop(self.halves.insert(at, rest.to_vec())),
                Err(why) => return ears.heard.push(Heard::Failed(why)),
            }
        }
    }
}

/// What a server said, short enough to be told.
pub(super) fn told(bytes: &[u8]) -> String {
    const TOLD_BYTES_MAX: usize = 120;
    String::from_utf8_lossy(&bytes[..bytes.len().min(TOLD_BYTES_MAX)]).into_owned()
}
