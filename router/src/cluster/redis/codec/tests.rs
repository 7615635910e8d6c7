use proptest::prelude::*;
use roost_wire::FrameBody;
use roost_wire::pb::{Body, Event, Role};

use super::*;

fn user() -> impl Strategy<Value = UserId> {
    "[a-zA-Z0-9._:@-]{1,64}".prop_map(|id| UserId::new(&id).unwrap())
}

fn conv() -> impl Strategy<Value = ConvId> {
    "[a-zA-Z0-9._:@-]{1,64}".prop_map(|id| ConvId::new(&id).unwrap())
}

fn name() -> impl Strategy<Value = Option<Arc<str>>> {
    prop::option::of(".{0,20}".prop_map(Arc::from))
}

fn members() -> impl Strategy<Value = Arc<[Member]>> {
    let role = prop::sample::select(vec![Role::Owner, Role::Admin, Role::Member]);
    prop::collection::vec((user(), role).prop_map(|(user, role)| Member { user, role }), 0..8).prop_map(Arc::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let event = prop::option::of(prop::collection::vec(".{0,8}", 0..3))
        .prop_map(|users| users.map(|users| Event { kind: 2, users, name: "n".into(), role: 1 }));
    (any::<u64>(), any::<u64>(), user(), ".{0,40}", ".{0,80}", event)
        .prop_map(|(seq, ts_ms, from, cmid, text, event)| Entry { seq, ts_ms, from, cmid, body: Body { text, event } })
}

fn frame() -> impl Strategy<Value = FrameBody> {
    prop_oneof![
        (conv(), user(), any::<bool>()).prop_map(|(conv, user, on)| {
            FrameBody::Typing(wire::Typing { conv: conv.to_string(), user: user.to_string(), on })
        }),
        (conv(), any::<u64>()).prop_map(|(conv, read)| {
            FrameBody::Receipt(wire::Receipt { conv: conv.to_string(), user: "u".into(), delivered: read, read })
        }),
        Just(FrameBody::Changed(wire::Changed { more: true, ..Default::default() })),
    ]
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        prop::collection::vec(user(), 0..5).prop_map(|users| To::Users(users.into())),
        (members(), prop::option::of(user())).prop_map(|(members, but)| To::Members { members, but }),
    ]
}

fn notice() -> impl Strategy<Value = Notice> {
    let node = || any::<u64>().prop_map(NodeId);
    let known = (node(), any::<u64>(), any::<u64>()).prop_map(|(node, incarnation, number)| Known {
        node,
        incarnation,
        number,
    });
    let lane = any::<bool>().prop_map(|durable| if durable { Lane::Durable } else { Lane::Ephemeral });
    prop_oneof![
        (conv(), prop::collection::vec(entry(), 0..4), prop::option::of(members()))
            .prop_map(|(conv, entries, members)| Notice::Appended { conv, entries: entries.into(), members }),
        conv().prop_map(|conv| Notice::Missed { conv }),
        (to(), lane, frame()).prop_map(|(to, lane, body)| Notice::Push { to, envelope: Envelope::new(lane, body) }),
        (user(), ".{0,20}", prop::collection::vec(known, 0..4)).prop_map(|(user, device, knew)| Notice::SessionTaken {
            user,
            device: device.into(),
            knew: knew.into()
        }),
        (user(), name()).prop_map(|(user, name)| Notice::Came { user, name }),
        user().prop_map(|user| Notice::Gone { user }),
        prop::collection::vec((node(), any::<u64>()), 0..4)
            .prop_map(|direct| Notice::Heartbeat { direct: direct.into() }),
        Just(Notice::Blind),
        user().prop_map(|user| Notice::Disconnect { user }),
        Just(Notice::Leaving),
        node().prop_map(|of| Notice::Ask { of }),
        (any::<u32>(), any::<bool>(), prop::collection::vec((user(), name()), 0..8))
            .prop_map(|(part, last, users)| Notice::Users { part, last, users: users.into() }),
    ]
}

fn parcels() -> impl Strategy<Value = Vec<Parcel>> {
    let parcel = (any::<bool>(), any::<u64>(), notice()).prop_map(|(direct, number, notice)| Parcel {
        from: NodeId(7),
        incarnation: 1_790_000_000_000,
        direct,
        number,
        notice,
    });
    prop::collection::vec(parcel, 0..6)
}

fn message(parcels: &[Parcel]) -> Bytes {
    let mut message = header(NodeId(7), 1_790_000_000_000, 0);
    parcels.iter().for_each(|parcel| append(parcel, &mut message).unwrap());
    message.into()
}

fn read(message: Bytes) -> Result<Vec<Parcel>, CodecError> {
    match open(message)? {
        Opened::Ping { .. } => Ok(Vec::new()),
        Opened::Batch { from, incarnation, parcels } => {
            parcels.into_iter().map(|bytes| parcel(from, incarnation, bytes)).collect()
        }
    }
}

proptest! {
    #[test]
    fn every_parcel_survives_the_way(parcels in parcels()) {
        let read = read(message(&parcels)).unwrap();
        // An envelope shows its frame and its lane; all else shows all of itself.
        prop_assert_eq!(format!("{read:?}"), format!("{parcels:?}"));
        for pair in read.iter().zip(&parcels) {
            if let (Notice::Push { envelope: one, .. }, Notice::Push { envelope: other, .. }) = (&pair.0.notice, &pair.1.notice) {
                prop_assert_eq!(one.frame(), other.frame());
                prop_assert_eq!(one.lane(), other.lane());
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(bytes.clone().into());
        let _ = parcel(NodeId(1), 1, bytes.into());
    }

    #[test]
    fn no_packed_members_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in any::<u16>(), members in members()) {
        let _ = unpack(&bytes);
        let packed = pack(&members).packed;
        let cut = usize::from(cut) % (packed.len() + 1);
        if let Ok(some) = unpack(&packed[..cut]) {
            prop_assert_eq!(&some[..], &members[..some.len()]);
        }
    }

    #[test]
    fn a_message_that_was_cut_or_changed_panics_nobody(parcels in parcels(), cut in any::<u16>(), place in any::<u16>(), bit in 0..8u8) {
        let message = message(&parcels);
        let cut = usize::from(cut) % (message.len() + 1);
        let _ = read(message.slice(..cut));
        let mut changed = message.to_vec();
        let place = usize::from(place) % changed.len();
        changed[place] ^= 1 << bit;
        let _ = read(changed.into());
    }
}

#[test]
fn a_notice_of_a_newer_node_counts_as_heard() {
    // Field 99, which this schema does not have, beside the number 5.
    let newer = Bytes::from_static(&[0x08, 5, 0x9a, 0x06, 1, 0]);
    let read = parcel(NodeId(3), 9, newer).unwrap();
    assert_eq!((read.number, read.from), (5, NodeId(3)));
    assert!(matches!(read.notice, Notice::Ask { of: NodeId(3) }), "nobody but the sender is asked");
}

#[test]
fn another_version_and_too_many_bytes_are_refused() {
    let batch = pb::Batch { version: VERSION + 1, ..Default::default() };
    assert_eq!(open(batch.encode_to_vec().into()), Err(CodecError::Version(VERSION + 1)));
    let large = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    assert_eq!(open(large), Err(CodecError::TooLarge(MESSAGE_BYTES_MAX + 1)));
}

#[test]
fn a_parcel_that_is_broken_breaks_no_other_one() {
    let good = Parcel { from: NodeId(7), incarnation: 1, direct: false, number: 1, notice: Notice::Leaving };
    let mut bytes = header(NodeId(7), 1, 0);
    append(&good, &mut bytes).unwrap();
    encode_key(PARCELS, WireType::LengthDelimited, &mut bytes);
    encode_varint(2, &mut bytes);
    bytes.extend([0xff, 0xff]);
    append(&good, &mut bytes).unwrap();
    let Ok(Opened::Batch { parcels, .. }) = open(bytes.into()) else { panic!() };
    let read: Vec<bool> = parcels.into_iter().map(|bytes| parcel(NodeId(7), 1, bytes).is_ok()).collect();
    assert_eq!(read, [true, false, true]);
}

#[test]
fn entries_that_are_too_many_bytes_become_a_hint_to_read_the_log() {
    let conv = ConvId::new("c_1").unwrap();
    let text = "x".repeat(PARCEL_BYTES_MAX);
    let from = UserId::new("ada").unwrap();
    let entry = Entry { seq: 1, ts_ms: 1, from: from.clone(), cmid: "1".into(), body: Body { text, event: None } };
    let notice = Notice::Appended { conv: conv.clone(), entries: [entry].into(), members: None };
    let large = Parcel { from: NodeId(7), incarnation: 1, direct: false, number: 3, notice };
    let read = read(message(&[large])).unwrap();
    assert!(matches!(&read[0], Parcel { number: 3, notice: Notice::Missed { conv: told }, .. } if *told == conv));

    let knew: Vec<Known> =
        (0..PARCEL_BYTES_MAX as u64 / 9).map(|n| Known { node: NodeId(n), incarnation: n, number: n }).collect();
    let notice = Notice::SessionTaken { user: from, device: "d".into(), knew: knew.into() };
    let large = Parcel { from: NodeId(7), incarnation: 1, direct: false, number: 4, notice };
    let mut bytes = Vec::new();
    assert!(matches!(append(&large, &mut bytes), Err(CodecError::TooLarge(_))));
    assert!(bytes.is_empty());
}
