//! Index rows, their stamps, members.
#![allow(missing_docs, reason = "each name is the rule")]

use roost_wire::pb::Role;
use roost_wire::{ConvId, Seq};

use super::{append, change, conv, head, make, member, stored, user};
use crate::{Append, IndexPage, IndexRow, IndexUpdate, Mark, MemberChange, Stamp, Store};

async fn row<S: Store>(store: &S, id: &str, who: &str) -> IndexRow {
    store.rows(&conv(id), &[user(who)]).await.unwrap().remove(0).unwrap_or_else(|| panic!("{who} has no row in {id}"))
}

/// Appends one entry at the head with heads of these users, and returns the stamp.
async fn say<S: Store>(store: &S, id: &str, to: &[&str]) -> Stamp {
    let seq = store.metas(&[conv(id)]).await.unwrap()[0].as_ref().unwrap().head + 1;
    let index = to.iter().map(|to| head(to, seq)).collect();
    stored(store.append(Append { index, ..append(id, seq, "x") }).await)
}

async fn change_members<S: Store>(store: &S, id: &str, members: Vec<MemberChange>) -> Stamp {
    let seq = store.metas(&[conv(id)]).await.unwrap()[0].as_ref().unwrap().head + 1;
    stored(store.append(Append { members, ..append(id, seq, "x") }).await)
}

fn mark(id: &str, who: &str, delivered: Option<Seq>, read: Option<Seq>) -> Mark {
    Mark { user: user(who), conv: conv(id), delivered, read }
}

fn convs(page: &IndexPage) -> Vec<ConvId> {
    page.rows.iter().map(|row| row.conv.clone()).collect()
}

/// Checks where the last page of `newest` rows ends: at the newest stamp, or below it where that is not settled yet.
/// Returns the newest stamp, after which the test reads on.
fn end<S: Store>(store: &S, page: &IndexPage, newest: Stamp) -> Stamp {
    assert!(!page.more);
    assert!(page.stamp == newest || (page.stamp < newest && page.stamp <= store.settled()), "{page:?} of {newest}");
    newest
}

pub async fn f18_rows_are_found_by_the_stamp_of_their_change<S: Store>(store: S) {
    for id in ["c_1", "c_2", "c_3"] {
        make(&store, id, &["u_ada", "u_bob"]).await;
    }
    let all = store.index(&user("u_bob"), 0, 10).await.unwrap();
    assert_eq!(convs(&all), [conv("c_1"), conv("c_2"), conv("c_3")]);
    let newest = end(&store, &all, store.last_change(&user("u_bob")).await.unwrap());
    let none = store.index(&user("u_bob"), newest, 10).await.unwrap();
    assert!(none.rows.is_empty());
    end(&store, &none, newest);
    let stamp = say(&store, "c_2", &["u_bob"]).await;
    assert!(stamp > newest);
    let changed = store.index(&user("u_bob"), newest, 10).await.unwrap();
    assert_eq!(convs(&changed), [conv("c_2")]);
    assert_eq!((changed.rows[0].head, changed.rows[0].changed), (1, stamp));
    end(&store, &changed, stamp);
    assert_eq!(store.last_change(&user("u_bob")).await.unwrap(), stamp);
    assert!(store.last_change(&user("u_ada")).await.unwrap() < stamp, "the row of u_ada did not change");
    // A stamp from elsewhere gives nothing, and leads back.
    let ahead = store.index(&user("u_bob"), stamp + 1000, 10).await.unwrap();
    assert!(ahead.rows.is_empty());
    end(&store, &ahead, stamp);
}

pub async fn f18_paging_by_stamp_gives_each_row_once<S: Store>(store: S) {
    let ids: Vec<String> = (10..33).map(|place| format!("c_{place}")).collect();
    for id in &ids {
        make(&store, id, &["u_ada"]).await;
    }
    // In another order than that of the ids.
    for id in ids.iter().rev().step_by(2) {
        say(&store, id, &["u_ada"]).await;
    }
    for limit in [1, 2, 5, 22, 23, 24] {
        let (mut since, mut seen, mut pages) = (0, Vec::new(), 0);
        loop {
            let page = store.index(&user("u_ada"), since, limit).await.unwrap();
            assert!(page.rows.len() <= limit);
            assert!(page.rows.is_sorted_by_key(|row| row.changed));
            seen.extend(convs(&page));
            pages += 1;
            assert!(pages <= 30, "paging ends");
            if !page.more {
                end(&store, &page, store.last_change(&user("u_ada")).await.unwrap());
                break;
            }
            assert!(page.stamp > since, "paging goes on");
            since = page.stamp;
        }
        seen.sort_unstable();
        assert_eq!(seen, ids.iter().map(|id| conv(id)).collect::<Vec<_>>(), "limit {limit}");
    }
    let nothing = store.index(&user("u_ada"), 0, 0).await.unwrap();
    assert_eq!((nothing.rows, nothing.stamp, nothing.more), (vec![], 0, true));
}

pub async fn f18_a_row_that_changes_while_paging_is_never_missed<S: Store>(store: S) {
    for id in ["c_1", "c_2", "c_3", "c_4"] {
        make(&store, id, &["u_ada"]).await;
    }
    let first = store.index(&user("u_ada"), 0, 2).await.unwrap();
    assert_eq!((convs(&first), first.more), (vec![conv("c_1"), conv("c_2")], true));
    // One that was seen, and one that was not, move to the end.
    say(&store, "c_1", &["u_ada"]).await;
    say(&store, "c_3", &["u_ada"]).await;
    let second = store.index(&user("u_ada"), first.stamp, 2).await.unwrap();
    assert_eq!((convs(&second), second.more), (vec![conv("c_4"), conv("c_1")], true));
    let third = store.index(&user("u_ada"), second.stamp, 2).await.unwrap();
    assert_eq!((convs(&third), third.more), (vec![conv("c_3")], false));
    assert_eq!(third.rows[0].head, 1);
}

pub async fn the_row_of_a_member_who_left_stays<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada", "u_bob"]).await;
    say(&store, "c_1", &["u_ada", "u_bob"]).await;
    let stamp = change_members(&store, "c_1", vec![change("u_bob", None), change("u_eve", None)]).await;
    assert_eq!(store.members(&conv("c_1")).await.unwrap(), [member("u_ada", Role::Owner)]);
    let left = row(&store, "c_1", "u_bob").await;
    assert_eq!((left.role, left.head, left.changed), (None, 1, stamp));
    assert_eq!(store.index(&user("u_bob"), 0, 10).await.unwrap().rows, [left]);
    assert_eq!(store.rows(&conv("c_1"), &[user("u_eve")]).await.unwrap(), [None], "who never was there has no row");
    // Removing again is no change of the row.
    change_members(&store, "c_1", vec![change("u_bob", None)]).await;
    assert_eq!(row(&store, "c_1", "u_bob").await.changed, stamp);
}

pub async fn a_member_who_comes_back_finds_the_old_marks<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada", "u_bob"]).await;
    say(&store, "c_1", &["u_bob"]).await;
    store.mark(vec![mark("c_1", "u_bob", Some(1), Some(1))]).await.unwrap();
    change_members(&store, "c_1", vec![change("u_bob", None)]).await;
    let stamp = change_members(&store, "c_1", vec![change("u_bob", Some(Role::Admin))]).await;
    let back = row(&store, "c_1", "u_bob").await;
    assert_eq!((back.role, back.head, back.read, back.delivered), (Some(Role::Admin), 1, 1, 1));
    assert_eq!(back.changed, stamp);
}

pub async fn heads_and_marks_only_rise<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    let raise = |seq, head, read| {
        let index = vec![IndexUpdate { user: user("u_ada"), head, read }];
        Append { index, ..append("c_1", seq, "x") }
    };
    stored(store.append(raise(1, Some(7), Some(5))).await);
    store.mark(vec![mark("c_1", "u_ada", Some(6), None)]).await.unwrap();
    let high = row(&store, "c_1", "u_ada").await;
    assert_eq!((high.head, high.read, high.delivered), (7, 5, 6));
    stored(store.append(raise(2, Some(3), Some(4))).await);
    store.mark(vec![mark("c_1", "u_ada", Some(2), Some(1)), mark("c_1", "u_ada", None, Some(5))]).await.unwrap();
    assert_eq!(row(&store, "c_1", "u_ada").await, high, "nothing was lowered, so nothing changed");
    store.mark(vec![mark("c_1", "u_ada", Some(8), Some(9))]).await.unwrap();
    let higher = row(&store, "c_1", "u_ada").await;
    assert_eq!((higher.head, higher.read, higher.delivered), (7, 9, 8));
}

pub async fn a_mark_of_delivery_keeps_the_stamp_and_one_of_reading_does_not<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    let before = say(&store, "c_1", &["u_ada"]).await;
    store.mark(vec![mark("c_1", "u_ada", Some(1), None)]).await.unwrap();
    assert_eq!(row(&store, "c_1", "u_ada").await.changed, before);
    assert_eq!(row(&store, "c_1", "u_ada").await.delivered, 1);
    store.mark(vec![mark("c_1", "u_ada", None, Some(1))]).await.unwrap();
    let after = row(&store, "c_1", "u_ada").await;
    assert!(after.changed > before);
    assert_eq!(store.last_change(&user("u_ada")).await.unwrap(), after.changed);
    assert!(say(&store, "c_1", &["u_ada"]).await > after.changed, "appends and marks share one order");
}

pub async fn marks_of_many_rows_have_different_stamps<S: Store>(store: S) {
    for id in ["c_1", "c_2", "c_3"] {
        make(&store, id, &["u_ada", "u_bob"]).await;
    }
    let since = store.last_change(&user("u_ada")).await.unwrap();
    let ids = ["c_1", "c_2", "c_3"];
    store.mark(ids.iter().map(|id| mark(id, "u_ada", Some(1), Some(1))).collect()).await.unwrap();
    let (mut since, mut seen) = (since, 0);
    for _ in ids {
        let page = store.index(&user("u_ada"), since, 1).await.unwrap();
        seen += page.rows.len();
        since = page.stamp;
    }
    assert_eq!(seen, 3, "a page may end between any two rows");
}

pub async fn rows_are_made_by_membership_only<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    say(&store, "c_1", &["u_ada", "u_eve"]).await;
    store.mark(vec![mark("c_1", "u_eve", Some(1), Some(1)), mark("c_9", "u_ada", Some(1), None)]).await.unwrap();
    assert_eq!(store.rows(&conv("c_1"), &[user("u_eve")]).await.unwrap(), [None]);
    assert_eq!(store.rows(&conv("c_9"), &[user("u_ada")]).await.unwrap(), [None]);
    let seq = 2;
    let join = Append {
        members: vec![change("u_eve", Some(Role::Member))],
        index: vec![IndexUpdate { user: user("u_eve"), head: Some(seq), read: Some(1) }],
        ..append("c_1", seq, "u_eve joins")
    };
    let stamp = stored(store.append(join).await);
    let made = row(&store, "c_1", "u_eve").await;
    assert_eq!((made.head, made.read, made.role, made.changed), (2, 1, Some(Role::Member), stamp));
    assert_eq!(made.delivered, 0, "a mark from before is of no account");
}

pub async fn an_update_that_changes_nothing_keeps_the_stamp<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada", "u_bob"]).await;
    let stamp = say(&store, "c_1", &["u_bob"]).await;
    let idle = Append {
        members: vec![change("u_bob", Some(Role::Member))],
        index: vec![IndexUpdate { user: user("u_bob"), head: Some(1), read: None }],
        ..append("c_1", 2, "x")
    };
    let later = stored(store.append(idle).await);
    assert!(later > stamp);
    assert_eq!(row(&store, "c_1", "u_bob").await.changed, stamp);
    assert_eq!(store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().changed, later);
}

pub async fn members_are_ordered_by_id_and_take_effect_with_their_entry<S: Store>(store: S) {
    make(&store, "c_1", &["u_m"]).await;
    let joins =
        vec![change("u_z", Some(Role::Member)), change("u_a", Some(Role::Admin)), change("u_m", Some(Role::Member))];
    change_members(&store, "c_1", joins).await;
    let want = [member("u_a", Role::Admin), member("u_m", Role::Member), member("u_z", Role::Member)];
    assert_eq!(store.members(&conv("c_1")).await.unwrap(), want);
    assert_eq!(row(&store, "c_1", "u_a").await.role, Some(Role::Admin));
    assert_eq!(row(&store, "c_1", "u_m").await.role, Some(Role::Member));
}

pub async fn a_membership_change_names_the_same_user_twice_and_the_last_wins<S: Store>(store: S) {
    make(&store, "c_1", &["u_ada"]).await;
    let twice = vec![change("u_bob", Some(Role::Member)), change("u_bob", None), change("u_ada", None)];
    change_members(&store, "c_1", twice).await;
    assert_eq!(store.members(&conv("c_1")).await.unwrap(), []);
    assert_eq!(row(&store, "c_1", "u_bob").await.role, None);
    change_members(&store, "c_1", vec![change("u_bob", None), change("u_bob", Some(Role::Owner))]).await;
    assert_eq!(store.members(&conv("c_1")).await.unwrap(), [member("u_bob", Role::Owner)]);
}
