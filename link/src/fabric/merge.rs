//! What is the same for several shards of an edge becomes one item.

use std::sync::Arc;

use hashbrown::HashMap;
use roost_wire::ConvId;
use roost_wire::link::{Audience, Down, Envelope};

use crate::codec::{deliver_item, doubt_item, extend_deliver, session_item};
use crate::proto::link::RouterItem;
use crate::proto::link::router_item::Item;

/// A batch in the making.
///
/// A push joins an earlier item of the same push only if its shard has got nothing behind that one: so each shard still
/// gets everything in its order.
pub(crate) struct Merge {
    base: u16,
    items: Vec<RouterItem>,
    bytes: usize,
    /// Where each push stands; by its address, which no other one has while `kept` holds it.
    places: HashMap<(usize, Option<ConvId>), usize>,
    kept: Vec<Arc<Envelope>>,
    /// For each shard, how many items there were when it got its last one.
    last: Vec<usize>,
    doubts: Option<usize>,
}

/// What an item takes beside its push, roughly.
const ITEM_BYTES: usize = 64;
const KEY_BYTES: usize = 9;

impl Merge {
    pub(crate) fn new(base: u16, shards: u16) -> Self {
        Self {
            base,
            items: Vec::new(),
            bytes: 0,
            places: HashMap::new(),
            kept: Vec::new(),
            last: vec![0; shards.into()],
            doubts: None,
        }
    }

    pub(crate) fn items(&self) -> usize {
        self.items.len()
    }

    /// How large it is, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn add(&mut self, shard: u16, down: Down) {
        let at = usize::from(shard - self.base);
        match down {
            Down::Deliver { envelope, audience } => self.deliver(at, shard, envelope, &audience),
            Down::Doubt => match self.doubts {
                Some(place) if self.last[at] <= place => {
                    if let Some(Item::Doubt(doubt)) = &mut self.items[place].item {
                        doubt.shards.push(at as u32);
                    }
                    self.last[at] = place + 1;
                }
                _ => {
                    self.doubts = Some(self.items.len());
                    self.push(at, doubt_item(vec![at as u32]), 0);
                }
            },
            down => {
                let bytes = match &down {
                    Down::Reply { frame: Some(frame), .. } => prost::Message::encoded_len(&**frame),
                    Down::Accepted { welcome, .. } => prost::Message::encoded_len(&**welcome),
                    _ => 0,
                };
                if let Some(item) = session_item(down, self.base) {
                    self.push(at, item, bytes);
                }
            }
        }
    }

    fn deliver(&mut self, at: usize, shard: u16, envelope: Arc<Envelope>, audience: &Audience) {
        let topic = match audience {
            Audience::Topic { topic, .. } => Some(topic.clone()),
            Audience::Sessions(keys) => {
                self.bytes += keys.len() * KEY_BYTES;
                None
            }
        };
        let name = (Arc::as_ptr(&envelope) as usize, topic);
        if let Some(place) = self.places.get(&name).copied()
            && self.last[at] <= place
            && let Some(Item::Deliver(item)) = &mut self.items[place].item
        {
            extend_deliver(item, audience, shard, self.base);
            self.last[at] = place + 1;
            return;
        }
        let item = deliver_item(&envelope, audience, shard, self.base);
        let bytes = item.frame.len();
        self.places.insert(name, self.items.len());
        self.kept.push(envelope);
        self.push(at, RouterItem { item: Some(Item::Deliver(item)) }, bytes);
    }

    fn push(&mut self, at: usize, item: RouterItem, bytes: usize) {
        self.items.push(item);
        self.bytes += ITEM_BYTES + bytes;
        self.last[at] = self.items.len();
    }

    /// All shards are to doubt, after everything so far.
    pub(crate) fn doubt_all(&mut self) {
        let all = (0..self.last.len() as u32).collect();
        self.items.push(doubt_item(all));
    }

    pub(crate) fn finish(self) -> Vec<RouterItem> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roost_wire::link::{Lane, SessionKey};
    use roost_wire::{FrameBody, pb};

    use super::*;
    use crate::codec::Told;

    const BASE: u16 = 7;
    const SHARDS: u16 = 3;

    fn envelope(seq: u64) -> Arc<Envelope> {
        let entry = pb::Entry { conv: "c_1".into(), seq, ..pb::Entry::default() };
        Envelope::new(Lane::Durable, FrameBody::Entry(entry))
    }

    fn seq(envelope: &Envelope) -> u64 {
        envelope.entry().map_or(0, |(_, seq)| seq)
    }

    #[test]
    fn a_push_crosses_once_whatever_its_audience() {
        let (one, two) = (envelope(1), envelope(2));
        let mut merge = Merge::new(BASE, SHARDS);
        for shard in BASE..BASE + SHARDS {
            for envelope in [&one, &two] {
                let keys = [1, 2].map(|slot| SessionKey::new(shard, slot, 0));
                let audience = Audience::Sessions(Arc::from(keys));
                merge.add(shard, Down::Deliver { envelope: Arc::clone(envelope), audience });
            }
        }
        for shard in BASE..BASE + SHARDS {
            let audience = Audience::Topic { topic: ConvId::channel("news").unwrap(), except: None };
            merge.add(shard, Down::Deliver { envelope: Arc::clone(&one), audience });
            merge.add(shard, Down::Doubt);
        }
        let items = merge.finish();
        assert_eq!(items.len(), 4, "two pushes to sessions, one to a topic, one doubt");
        let told: Vec<Told> = items.into_iter().map(|item| item.into_told(SHARDS).unwrap()).collect();
        assert!(matches!(&told[0], Told::Deliver(envelope, keys) if seq(envelope) == 1 && keys.len() == 6));
        assert!(matches!(&told[1], Told::Deliver(envelope, keys) if seq(envelope) == 2 && keys.len() == 6));
        assert!(matches!(&told[2], Told::Topic(_, _, shards, None) if *shards == [0, 1, 2]));
        assert!(matches!(&told[3], Told::Doubt(shards) if *shards == [0, 1, 2]));
    }

    proptest! {
        /// Whatever is merged, each shard is told the same things in the same order.
        #[test]
        fn each_shard_keeps_its_order(steps in prop::collection::vec((0..SHARDS, 0u64..5, 0u8..4), 0..60)) {
            let envelopes: Vec<_> = (0..5).map(envelope).collect();
            let mut merge = Merge::new(BASE, SHARDS);
            let mut want = vec![Vec::new(); SHARDS.into()];
            for (shard, which, kind) in steps {
                let session = SessionKey::new(BASE + shard, 3, 0);
                let (down, name) = match kind {
                    0 => (Down::Extend { session, expires: which }, format!("extend {which}")),
                    1 => (Down::Doubt, "doubt".to_owned()),
                    2 => {
                        let audience = Audience::Sessions([session].into());
                        (Down::Deliver { envelope: Arc::clone(&envelopes[which as usize]), audience }, format!("push {which}"))
                    }
                    _ => {
                        let audience = Audience::Topic { topic: ConvId::channel("news").unwrap(), except: None };
                        (Down::Deliver { envelope: Arc::clone(&envelopes[which as usize]), audience }, format!("topic {which}"))
                    }
                };
                merge.add(BASE + shard, down);
                want[usize::from(shard)].push(name);
            }
            let mut got = vec![Vec::new(); SHARDS.into()];
            for item in merge.finish() {
                match item.into_told(SHARDS).unwrap() {
                    Told::Session(key, Down::Extend { expires, .. }) => got[usize::from(key.shard())].push(format!("extend {expires}")),
                    Told::Doubt(shards) => shards.iter().for_each(|shard| got[usize::from(*shard)].push("doubt".into())),
                    Told::Deliver(envelope, keys) => {
                        keys.iter().for_each(|key| got[usize::from(key.shard())].push(format!("push {}", seq(&envelope))));
                    }
                    Told::Topic(envelope, _, shards, _) => {
                        shards.iter().for_each(|shard| got[usize::from(*shard)].push(format!("topic {}", seq(&envelope))));
                    }
                    other => panic!("{other:?}"),
                }
            }
            prop_assert_eq!(got, want);
        }
    }
}
