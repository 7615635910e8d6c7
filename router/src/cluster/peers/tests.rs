use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NODE: NodeId = NodeId(7);
const LIMITS: Limits = Limits {
    gap_after: Duration::from_millis(500),
    silent_after: Duration::from_secs(5),
    parcels_ahead_max: 1000,
    users_max: 1000,
};

fn user(number: u64) -> UserId {
    UserId::from_bits(number.into())
}

fn came(number: u64) -> Kind {
    Kind::Counted(Some(News::Came { user: user(number), name: None }))
}

fn list(part: u32, last: bool, users: &[u64]) -> Kind {
    let users = users.iter().map(|number| (user(*number), None)).collect();
    Kind::Counted(Some(News::Users { part, last, users }))
}

struct Rig {
    peers: Peers,
    now: Instant,
    out: Outcome,
}

impl Rig {
    fn new() -> Self {
        Self { peers: Peers::default(), now: Instant::now(), out: Outcome::default() }
    }

    fn hear(&mut self, incarnation: u64, number: u64, kind: Kind) -> Verdict {
        self.peers.hear((NODE, incarnation, number), kind, self.now, &LIMITS, &mut self.out)
    }

    fn beat_after(&mut self, ms: u64) -> usize {
        self.now += Duration::from_millis(ms);
        self.out = Outcome::default();
        self.peers.beat(self.now, &LIMITS, &mut self.out);
        self.out.doubts
    }

    fn online(&self, number: u64) -> bool {
        self.peers.find(&user(number)).is_some()
    }
}

#[test]
fn a_node_that_was_never_heard_begins_with_what_was_missed_of_it() {
    let mut rig = Rig::new();
    assert_eq!(rig.hear(1, 0, Kind::Heartbeat { direct: 0 }), Verdict::New);
    assert_eq!((rig.out.met, rig.beat_after(600)), (1, 0), "it has posted nothing yet");
    rig.hear(1, 1, came(1));
    assert_eq!(rig.out.met, 0, "it is known");
    let mut rig = Rig::new();
    rig.hear(1, 41, Kind::Heartbeat { direct: 0 });
    assert_eq!((rig.out.gaps, rig.beat_after(400), rig.beat_after(200)), (1, 0, 1));
    assert_eq!(rig.out.ask, [NODE]);
    assert_eq!(rig.hear(1, 42, came(1)), Verdict::New);
    assert!(rig.online(1));
}

#[test]
fn news_wait_for_their_turn_and_go_on_when_it_is_given_up() {
    let mut rig = Rig::new();
    rig.hear(1, 3, Kind::Counted(Some(News::Gone { user: user(1) })));
    rig.hear(1, 2, came(1));
    assert!(!rig.online(1));
    rig.hear(1, 1, came(2));
    assert!(!rig.online(1) && rig.online(2));
    rig.hear(1, 5, came(3));
    assert!(!rig.online(3));
    assert_eq!(rig.beat_after(500), 1);
    assert!(rig.online(3));
    assert_eq!(rig.hear(1, 4, came(4)), Verdict::Duplicate);
}

#[test]
fn a_list_that_was_told_whole_says_who_is_gone_and_one_that_was_not_does_not() {
    let mut rig = Rig::new();
    (1..=4).for_each(|number| assert_eq!(rig.hear(1, number, came(number)), Verdict::New));
    // 1 goes and 5 comes while the list is told; 2 and 4 went unheard.
    rig.hear(1, 5, list(0, false, &[1]));
    rig.hear(1, 6, Kind::Counted(Some(News::Gone { user: user(1) })));
    rig.hear(1, 7, came(5));
    assert!(rig.online(2) && rig.online(4), "nobody knows yet");
    rig.hear(1, 8, list(1, true, &[3]));
    assert_eq!((1..=5).map(|number| rig.online(number)).collect::<Vec<_>>(), [false, false, true, false, true]);
    // The beginning of this list was lost.
    rig.hear(1, 9, list(1, true, &[6]));
    assert!(rig.online(3) && rig.online(6));
    assert_eq!(rig.peers.users(), 3);
}

#[test]
fn who_is_asked_and_does_not_tell_is_asked_again() {
    let mut rig = Rig::new();
    rig.hear(1, 5, Kind::Heartbeat { direct: 0 });
    rig.beat_after(500);
    assert_eq!(rig.out.ask, [NODE]);
    rig.beat_after(1000);
    assert_eq!(rig.out.ask, []);
    rig.beat_after(2000);
    assert_eq!(rig.out.ask, [NODE]);
    rig.hear(1, 6, list(0, true, &[]));
    rig.beat_after(3000);
    assert_eq!(rig.out.ask, []);
}

#[test]
fn a_silent_node_and_an_earlier_life_are_void() {
    let mut rig = Rig::new();
    rig.hear(4, 1, came(1));
    assert_eq!((rig.beat_after(4999), rig.beat_after(1), rig.beat_after(60_000)), (0, 1, 0));
    assert!(!rig.online(1));
    assert_eq!(rig.peers.alive(), 0);
    rig.hear(4, 2, came(2));
    assert!(rig.online(2));
    rig.out = Outcome::default();
    rig.hear(5, 1, came(3));
    assert_eq!((rig.out.doubts, rig.online(2), rig.online(3)), (1, false, true));
    assert_eq!(rig.hear(4, 3, came(4)), Verdict::Stale);
    rig.hear(5, 2, Kind::Counted(Some(News::Leaving)));
    assert_eq!((rig.hear(5, 3, came(5)), rig.peers.users()), (Verdict::Stale, 0));
    rig.out = Outcome::default();
    rig.hear(6, 1, came(6));
    assert_eq!(rig.out.doubts, 0, "it had left in good order");
}

#[test]
fn so_many_nodes_are_remembered() {
    let mut rig = Rig::new();
    for node in 0..2 * NODES_MAX as u64 {
        rig.peers.hear((NodeId(node), 1, 1), came(node), rig.now, &LIMITS, &mut rig.out);
    }
    assert_eq!(rig.peers.alive(), NODES_MAX);
    assert_eq!(rig.out.doubts, NODES_MAX);
}

proptest! {
    /// Parcels 1 to `count`, each `copies[n]` times (0: lost), in any order.
    #[test]
    fn each_parcel_is_new_once_and_a_lost_one_is_doubted(
        copies in prop::collection::vec(0usize..3, 1..40),
        order in any::<prop::sample::Index>(),
        gone in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut parcels: Vec<u64> = Vec::new();
        for (place, copies) in copies.iter().enumerate() {
            parcels.extend(std::iter::repeat_n(place as u64 + 1, *copies));
        }
        // Some rotation and interleaving of them.
        let len = parcels.len();
        let step = 1 + order.index(len.max(1));
        parcels.sort_by_key(|number| (*number as usize * step) % (len + 1));
        let mut rig = Rig::new();
        let mut new = BTreeSet::new();
        for number in &parcels {
            // One user, who comes and goes.
            let news = if gone[*number as usize - 1] {
                News::Gone { user: user(1) }
            } else {
                News::Came { user: user(1), name: None }
            };
            if rig.hear(1, *number, Kind::Counted(Some(news))) == Verdict::New {
                prop_assert!(new.insert(*number), "{} twice", number);
            }
        }
        prop_assert_eq!(new.len(), copies.iter().filter(|copies| **copies > 0).count());
        rig.hear(1, copies.len() as u64, Kind::Heartbeat { direct: 0 });
        let lost = copies.contains(&0);
        prop_assert_eq!(rig.beat_after(500), usize::from(lost));
        prop_assert_eq!(rig.out.ask.len(), usize::from(lost));
        let last = new.last().map(|last| !gone[*last as usize - 1]);
        prop_assert_eq!(rig.online(1), last.unwrap_or(false), "the last news count");
        prop_assert_eq!(rig.beat_after(500), 0);
    }
}
