//! The rules of [`crate::Store`] as tests. A back end passes all of them:
//!
//! ```text
//! roost_storage::conformance!(async || (MemoryStore::default(), ()));
//! ```
//! The closure gives a new, empty store, and something that is held until the test ends (a temporary directory).

pub mod index;
pub mod log;
pub mod race;
pub mod users;

use roost_wire::pb::{Body, Kind, Role};
use roost_wire::{ConvId, Seq, UserId};

use crate::{Append, Appended, ConvMeta, Entry, IndexUpdate, Member, MemberChange, Result, Stamp, Store};

/// Makes one test of each rule.
#[macro_export]
macro_rules! conformance {
    ($open:expr) => {
        $crate::conformance! { @ $open; log:
            a_new_conversation_has_an_empty_log_its_members_and_their_rows,
            creating_again_changes_nothing_and_says_so,
            a_conversation_that_breaks_a_rule_is_refused,
            entries_are_numbered_without_gaps_and_come_back_as_they_were,
            an_append_to_an_unknown_conversation_is_refused,
            an_append_that_breaks_a_rule_is_refused_and_writes_nothing,
            an_append_at_another_head_gets_the_tail_and_writes_nothing,
            a_long_tail_is_cut,
            f23_a_log_is_read_in_pages_both_ways,
            reading_what_is_not_there_gives_nothing,
            answers_keep_the_order_of_the_question,
            an_append_changes_the_name_and_openness_it_carries,
            conversations_whose_ids_begin_alike_stay_apart,
            channels_have_logs_like_any_other,
        }
        $crate::conformance! { @ $open; index:
            f18_rows_are_found_by_the_stamp_of_their_change,
            f18_paging_by_stamp_gives_each_row_once,
            f18_a_row_that_changes_while_paging_is_never_missed,
            the_row_of_a_member_who_left_stays,
            a_member_who_comes_back_finds_the_old_marks,
            heads_and_marks_only_rise,
            a_mark_of_delivery_keeps_the_stamp_and_one_of_reading_does_not,
            marks_of_many_rows_have_different_stamps,
            rows_are_made_by_membership_only,
            an_update_that_changes_nothing_keeps_the_stamp,
            members_are_ordered_by_id_and_take_effect_with_their_entry,
            a_membership_change_names_the_same_user_twice_and_the_last_wins,
        }
        $crate::conformance! { @ $open; users:
            users_come_back_in_the_order_asked,
            a_newer_record_replaces_the_older_but_last_seen_never_goes_back,
            search_finds_prefixes_whatever_the_case,
            search_is_ordered_by_name_then_id_and_cut,
            search_follows_a_change_of_name,
            names_of_any_characters_are_kept_and_found,
            a_name_above_the_limit_is_refused,
        }
        $crate::conformance! { @ $open; race:
            racing_appends_leave_a_gapless_log_with_every_entry_once,
            racing_creations_have_one_winner,
            what_has_resolved_is_seen_by_every_read,
            paging_an_index_while_others_write_misses_nothing,
            a_dropped_append_happens_whole_or_not_at_all,
        }
    };
    (@ $open:expr; $module:ident: $($rule:ident,)*) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $rule() {
                    $crate::testkit::run(async {
                        let (store, _held) = ($open)().await;
                        $crate::testkit::conformance::$module::$rule(store).await;
                    });
                }
            )*
        }
    };
}

/// The id of a conversation.
///
/// # Panics
/// If `id` is none.
#[must_use]
pub fn conv(id: &str) -> ConvId {
    ConvId::new(id).unwrap_or_else(|error| panic!("{id}: {error}"))
}

/// The id of a user.
///
/// # Panics
/// If `id` is none.
#[must_use]
pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap_or_else(|error| panic!("{id}: {error}"))
}

/// An entry with a text, its cmid made from both.
#[must_use]
pub fn entry(seq: Seq, from: &str, text: &str) -> Entry {
    Entry {
        seq,
        ts_ms: 1_790_000_000_000_u64.wrapping_add(seq),
        from: user(from),
        cmid: format!("{from}/{text}"),
        body: Body { text: text.to_owned(), event: None },
    }
}

/// An append of one entry by `u_ada` and nothing else.
#[must_use]
pub fn append(id: &str, expected: Seq, text: &str) -> Append {
    Append {
        conv: conv(id),
        expected,
        entries: vec![entry(expected, "u_ada", text)],
        index: Vec::new(),
        members: Vec::new(),
        name: None,
        open: None,
    }
}

/// Meta data of a new group.
#[must_use]
pub fn group(id: &str) -> ConvMeta {
    ConvMeta {
        conv: conv(id),
        kind: Kind::Group,
        name: "Birds".to_owned(),
        open: false,
        created_ms: 1_790_000_000_000,
        head: 0,
        changed: 0,
    }
}

fn member(id: &str, role: Role) -> Member {
    Member { user: user(id), role }
}

fn change(id: &str, role: Option<Role>) -> MemberChange {
    MemberChange { user: user(id), role }
}

fn head(id: &str, seq: Seq) -> IndexUpdate {
    IndexUpdate { user: user(id), head: Some(seq), read: None }
}

/// Makes a group with these members, the first as its owner.
async fn make<S: Store>(store: &S, id: &str, members: &[&str]) -> ConvMeta {
    let role = |place| if place == 0 { Role::Owner } else { Role::Member };
    let members = members.iter().enumerate().map(|(place, id)| member(id, role(place))).collect();
    let (meta, made) = store.create(group(id), members).await.expect("create");
    assert!(made, "{id} is new");
    meta
}

/// The stamp of an append that must have been stored.
fn stored(result: Result<Appended>) -> Stamp {
    match result {
        Ok(Appended::Stored { stamp }) => stamp,
        other => panic!("not stored: {other:?}"),
    }
}
