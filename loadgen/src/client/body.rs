//! The text of a message: who sent it, as which of theirs, and when it was meant to be sent.

use std::fmt::Write as _;

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The client that sent it.
    pub sender: u32,
    /// Its how manyth message, from 0; the highest bit: it answers another one.
    pub serial: u32,
    /// When it was meant to be sent, in nanoseconds of the run's clock.
    pub intended_ns: u64,
}

/// The bit of a serial that says: this answers another message.
const ANSWER: u32 = 1 << 31;

impl Stamp {
    /// The message `number` of a client.
    #[must_use]
    pub const fn new(sender: u32, number: u32, answer: bool, intended_ns: u64) -> Self {
        let serial = number & !ANSWER | if answer { ANSWER } else { 0 };
        Self { sender, serial, intended_ns }
    }

    /// Whether it answers another one.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        self.serial & ANSWER > 0
    }
}

const MAGIC: &str = "roost-load ";
const FILL: &[u8] = b"the quick brown bird jumps over the lazy cat and 0123456789 more ";
/// Length of the text without filling: magic, 8 + 8 + 16 digits, a blank behind each.
pub const BODY_BYTES_MIN: usize = MAGIC.len() + 8 + 1 + 8 + 1 + 16 + 1;

/// Appends the text of a message, filled up to `body_bytes` (at least [`BODY_BYTES_MIN`]).
pub fn write(stamp: Stamp, body_bytes: usize, out: &mut String) {
    let Stamp { sender, serial, intended_ns } = stamp;
    write!(out, "{MAGIC}{sender:08x} {serial:08x} {intended_ns:016x} ").expect("a String takes everything");
    let fill = body_bytes.saturating_sub(BODY_BYTES_MIN);
    out.extend((0..fill).map(|at| char::from(filling(serial, at))));
}

/// Reads a text back; `None` if it is not exactly one that [`write()`] makes with `body_bytes`.
#[must_use]
pub fn read(text: &[u8], body_bytes: usize) -> Option<Stamp> {
    if text.len() != body_bytes.max(BODY_BYTES_MIN) {
        return None;
    }
    let (head, fill) = text.split_at_checked(BODY_BYTES_MIN)?;
    let digits = head.strip_prefix(MAGIC.as_bytes())?;
    let stamp = Stamp {
        sender: hex(&digits[..9])? as u32,
        serial: hex(&digits[9..18])? as u32,
        intended_ns: hex(&digits[18..])?,
    };
    let filled = fill.iter().enumerate().all(|(at, byte)| *byte == filling(stamp.serial, at));
    filled.then_some(stamp)
}

/// Differs between neighbouring messages, so that mixed-up bytes are found.
fn filling(serial: u32, at: usize) -> u8 {
    FILL[(serial as usize + at) % FILL.len()]
}

/// Lower-case digits and a blank.
fn hex(field: &[u8]) -> Option<u64> {
    let (blank, digits) = field.split_last()?;
    digits
        .iter()
        .try_fold(0, |value: u64, digit| {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(value << 4 | u64::from(digit))
        })
        .filter(|_| *blank == b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else(
            sender: u32, serial: u32, intended_ns: u64, body_bytes in 0..300usize, at: prop::sample::Index, with: u8,
        ) {
            let stamp = Stamp { sender, serial, intended_ns };
            let mut text = String::new();
            write(stamp, body_bytes, &mut text);
            prop_assert_eq!(text.len(), body_bytes.max(BODY_BYTES_MIN));
            prop_assert_eq!(read(text.as_bytes(), body_bytes), Some(stamp));
            prop_assert_eq!(read(&text.as_bytes()[1..], body_bytes), None);
            let mut other = text.into_bytes();
            let at = at.index(other.len());
            prop_assume!(other[at] != with);
            other[at] = with;
            prop_assert_ne!(read(&other, body_bytes), Some(stamp));
        }
    }
}
