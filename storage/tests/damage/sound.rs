//! Check finds nothing in a store that was only written by its own rules.

use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{Append, EmbeddedStore, IndexUpdate, Mark, Member, MemberChange, Store, User};
use roost_wire::pb::Role;

use crate::fixture::{CONVS, Random, USERS, options, scratch};
use crate::mended::is_sound;

const SEEDS: u64 = 12;
const STEPS: u64 = 60;

async fn step(store: &EmbeddedStore, random: &mut Random, number: u64) {
    let (id, who) = (CONVS[random.below(4) as usize], user(USERS[random.below(4) as usize]));
    let head = store.metas(&[conv(id)]).await.unwrap()[0].as_ref().map(|meta| meta.head);
    let role = [Role::Owner, Role::Admin, Role::Member][random.below(3) as usize];
    match (random.below(6), head) {
        (0..3, Some(head)) => {
            let last = head + 1 + random.below(4);
            let entries = (head + 1..=last).map(|seq| entry(seq, who.as_str(), &format!("{number} {seq}"))).collect();
            let index = USERS.iter().filter(|_| random.below(2) == 0);
            let index = index.map(|id| IndexUpdate { user: user(id), head: Some(last), read: None }).collect();
            let change = MemberChange { user: who, role: (random.below(3) > 0).then_some(role) };
            let members = if random.below(3) == 0 { vec![change] } else { Vec::new() };
            let name = (random.below(5) == 0).then(|| format!("Name {number}"));
            store.append(Append { entries, index, members, name, ..append(id, head + 1, "") }).await.unwrap();
        }
        (3, Some(head)) => {
            let mut seq = || Some(random.below(head + 1));
            let mark = Mark { user: who, conv: conv(id), delivered: seq(), read: seq() };
            store.mark(vec![mark]).await.unwrap();
        }
        (4, _) => {
            let name = format!("{} {}", ["Ada", "ΑΣΑ", "\0", ""][random.below(4) as usize], random.below(3));
            store.put_users(vec![User { user: who, name, created_ms: 1, last_seen_ms: number }]).await.unwrap();
        }
        _ => {
            store.create(group(id), vec![Member { user: who, role }]).await.unwrap();
        }
    }
}

#[test]
fn check_finds_nothing_after_any_operations() {
    for seed in 0..SEEDS {
        let (dir, mut random) = (scratch(), Random(seed));
        let mut store = Some(EmbeddedStore::open(dir.path(), &options()).unwrap());
        for number in 0..STEPS {
            run(step(store.as_ref().unwrap(), &mut random, number));
            match random.below(20) {
                0 => store.as_ref().unwrap().write_out().unwrap(),
                1 => {
                    drop(store.take());
                    is_sound(dir.path(), &format!("seed {seed}, step {number}"));
                    store = Some(EmbeddedStore::open(dir.path(), &options()).unwrap());
                }
                _ => {}
            }
        }
        drop(store.take());
        is_sound(dir.path(), &format!("seed {seed}"));
    }
}
