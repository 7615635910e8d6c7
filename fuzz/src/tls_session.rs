//! A client of TLS 1.3 that has the right keys and says anything, in any pieces.
//!
//! The first byte says how the stream is cut; then come acts: data, new keys, content of any type and form, bytes that are not
//! sealed, records that are changed on the way, answers. What holds: a session tells the data before the first fault and not a
//! byte more, sees every fault that is whole, keeps no more than a record, and whatever was said before, the client can read
//! what it is sent.

use roost_edge::tls::testkit::Forge;

/// KeyUpdates in a row, and alerts that mean nothing, that a session takes.
const UPDATES_MAX: u32 = 32;
const IDLE_ALERTS_MAX: u32 = 4;
/// A record and its header.
const KEPT_BYTES_MAX: usize = (1 << 14) + 256 + 5;
/// Handshakes are dear: no input does more acts.
const ACTS_MAX: usize = 200;

/// What is to come of what was said.
#[derive(Default)]
struct Model {
    plain: Vec<u8>,
    updates: u32,
    idle_alerts: u32,
    ended: bool,
    /// A fault is certain.
    broken: bool,
    /// Something may be cut, or a length may be wrong: what follows is data to nobody.
    lost: bool,
}

impl Model {
    /// A record with this content came. True: the next one has the next keys.
    fn hear(&mut self, kind: u8, content: &[u8]) -> bool {
        if self.ended || self.broken || self.lost {
            return false;
        }
        match (kind, content) {
            (23, data) => {
                if !data.is_empty() {
                    self.updates = 0;
                }
                self.plain.extend_from_slice(data);
            }
            (21, [_, 0]) => self.ended = true,
            (21, [_, 90]) if self.idle_alerts < IDLE_ALERTS_MAX => self.idle_alerts += 1,
            (22, [24, 0, 0, 1, 0 | 1]) if self.updates < UPDATES_MAX => {
                self.updates += 1;
                return true;
            }
            _ => self.broken = true,
        }
        false
    }
}

/// The rest of an input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// As many bytes as the next one says, or what there is.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?).min(self.0.len());
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(front)
    }
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let Some(cut) = input.byte() else { return };
    let step = if cut == 0 { usize::MAX } else { usize::from(cut) * usize::from(cut) };
    let (mut forge, mut model, mut stream) = (Forge::new(), Model::default(), Vec::new());
    for _ in 0..ACTS_MAX {
        if act(&mut input, &mut forge, &mut model, &mut stream).is_none() {
            break;
        }
        if stream.len() > KEPT_BYTES_MAX {
            flush(&mut forge, &model, &mut stream, step);
        }
    }
    flush(&mut forge, &model, &mut stream, step);
    if forge.is_open() {
        assert_eq!(forge.answer(b"goodbye"), b"goodbye");
    }
}

/// One act of the client. `None`: the input is over.
fn act(input: &mut Input<'_>, forge: &mut Forge, model: &mut Model, stream: &mut Vec<u8>) -> Option<()> {
    let choice = input.byte()?;
    match choice % 8 {
        0 | 1 => {
            let (content, padding) = (input.bytes()?, usize::from(choice >> 3));
            // Sometimes as long as may be, or one byte longer.
            let content = match choice >> 6 {
                3 => &vec![choice; (1 << 14) + usize::from(choice >> 5 & 1)][..],
                _ => content,
            };
            let too_long = content.len() + padding.max(1) > (1 << 14) + 1;
            stream.extend_from_slice(&forge.record(23, content, padding));
            if too_long && !(model.ended || model.lost) {
                model.broken = true;
            } else {
                model.hear(23, content);
            }
        }
        2 => {
            let content = [24, 0, 0, 1, choice >> 3 & 1];
            stream.extend_from_slice(&forge.record(22, &content, 0));
            if model.hear(22, &content) {
                forge.update();
            }
        }
        3 | 4 => {
            // Of any type, the last byte that is not zero.
            let content = input.bytes()?;
            let (kind, front) = match content.iter().rposition(|byte| *byte != 0) {
                Some(at) => (content[at], &content[..at]),
                None => (0, content),
            };
            stream.extend_from_slice(&forge.record(kind, front, 0));
            if model.hear(kind, front) {
                forge.update();
            }
        }
        5 => {
            let raw = input.bytes()?;
            stream.extend_from_slice(raw);
            model.lost |= !raw.is_empty();
        }
        6 => {
            let (content, at) = (input.bytes()?, usize::from(input.byte()?));
            let mut record = forge.record(23, content, 0);
            let at = at % record.len();
            record[at] ^= choice >> 3 | 1;
            stream.extend_from_slice(&record);
            if (3..5).contains(&at) {
                model.lost = true;
            } else if !(model.ended || model.lost) {
                model.broken = true;
            }
        }
        _ => {
            // An answer, to what has come so far.
            let data = vec![choice; usize::from(choice) * 100 + 1];
            if stream.is_empty() && forge.is_open() {
                assert!(forge.answer(&data) == data);
            }
        }
    }
    Some(())
}

/// What was said comes, and is compared.
fn flush(forge: &mut Forge, model: &Model, stream: &mut Vec<u8>, step: usize) {
    forge.give(stream, step);
    stream.clear();
    assert!(forge.plain == model.plain, "{} bytes of data, {} are right", forge.plain.len(), model.plain.len());
    assert!(forge.kept_bytes() <= KEPT_BYTES_MAX, "{} bytes are kept", forge.kept_bytes());
    if !model.lost {
        assert_eq!((forge.ended, forge.broken), (model.ended, model.broken));
        assert_eq!(forge.kept_bytes(), 0, "nothing is cut");
    }
}
