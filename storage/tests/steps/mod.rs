//! Operations of a store, drawn at random: on few conversations and users, so that they meet.

use proptest::prelude::*;
use roost_wire::pb::Role;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        conv: u8,
        members: Vec<(u8, Role)>,
    },
    /// `off` is added to the head + 1 that the model has.
    Append {
        conv: u8,
        off: i8,
        entries: u8,
        index: Vec<(u8, u8, Option<u8>)>,
        members: Vec<(u8, Option<Role>)>,
        name: Option<String>,
    },
    Mark {
        conv: u8,
        user: u8,
        delivered: Option<u8>,
        read: Option<u8>,
    },
    Users(Vec<(u8, String, u64)>),
    Range {
        conv: u8,
        after: bool,
        seq: u8,
        limit: usize,
    },
    Index {
        user: u8,
        since: u8,
        limit: usize,
    },
    Search {
        prefix: String,
        limit: usize,
    },
    Reopen,
}

pub(crate) fn id(place: u8) -> String {
    ["c_1", "c_11", "c_1-", "news"][usize::from(place % 4)].to_owned()
}

pub(crate) fn who(place: u8) -> String {
    ["u_ada", "u_bob", "u_b", "u_eve"][usize::from(place % 4)].to_owned()
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Owner), Just(Role::Admin), Just(Role::Member), Just(Role::Unspecified)]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    use prop::collection::vec;
    use prop::option::of;
    let name = "[aAbB\0]{0,3}";
    let index = vec((0..4_u8, 0..8_u8, of(0..8_u8)), 0..4);
    let members = vec((0..4_u8, of(role())), 0..3);
    let append = (0..4_u8, prop_oneof![6 => Just(0_i8), 1 => -3..3_i8], 0..4_u8, index, members, of(name)).prop_map(
        |(conv, off, entries, index, members, name)| Step::Append { conv, off, entries, index, members, name },
    );
    let mark = (0..4_u8, 0..4_u8, of(0..8_u8), of(0..8_u8));
    prop_oneof![
        2 => (0..4_u8, vec((0..4_u8, role()), 0..4)).prop_map(|(conv, members)| Step::Create { conv, members }),
        8 => append,
        3 => mark.prop_map(|(conv, user, delivered, read)| Step::Mark { conv, user, delivered, read }),
        2 => vec((0..4_u8, name.prop_map(String::from), 0..100_u64), 0..4).prop_map(Step::Users),
        2 => (0..4_u8, any::<bool>(), 0..12_u8, 0..6_usize)
            .prop_map(|(conv, after, seq, limit)| Step::Range { conv, after, seq, limit }),
        2 => (0..4_u8, 0..30_u8, 0..5_usize).prop_map(|(user, since, limit)| Step::Index { user, since, limit }),
        1 => (name.prop_map(String::from), 0..5_usize).prop_map(|(prefix, limit)| Step::Search { prefix, limit }),
        1 => Just(Step::Reopen),
    ]
}
