//! What is wrong although every file is whole: each is found, and mended.

use std::path::Path;

use roost_wire::pb::{Kind, Role};

use super::{ProblemKind, check};
use crate::embedded::engine::Engine;
use crate::embedded::keys::{self, Table};
use crate::embedded::ledger::{self, Ledger};
use crate::embedded::values::{self, Unsealed};
use crate::embedded::{EmbeddedStore, repair};
use crate::testkit::conformance::{append, conv, entry, group, user};
use crate::testkit::run;
use crate::{Append, ConvMeta, EmbeddedOptions, IndexRow, IndexUpdate, Member, Range, Store, User};

fn options() -> EmbeddedOptions {
    EmbeddedOptions { disk_reserve_bytes: 0, marks_wait_ms: 0, ..EmbeddedOptions::default() }
}

/// Two conversations of Ada and Bob with five entries each.
fn make(dir: &Path) {
    let store = EmbeddedStore::open(dir, &options()).unwrap();
    run(async {
        for id in ["c_1", "c_2"] {
            let members = ["u_ada", "u_bob"].map(|id| Member { user: user(id), role: Role::Member }).to_vec();
            store.create(group(id), members).await.unwrap();
            for seq in 1..=5 {
                let index = vec![IndexUpdate { user: user("u_bob"), head: Some(seq), read: None }];
                store.append(Append { index, ..append(id, seq, &format!("{seq}")) }).await.unwrap();
            }
        }
        let ada = User { user: user("u_ada"), name: "Ada".into(), created_ms: 1, last_seen_ms: 2 };
        store.put_users(vec![ada]).await.unwrap();
    });
}

/// Writes as the store would, with links and the watermark, but what it never would.
fn doctor(dir: &Path, changes: Vec<(Table, Vec<u8>, Option<Unsealed>)>) {
    let engine = Engine::open(&dir.join("data"), &options()).ok().unwrap();
    let path = ledger::path(dir);
    let commits = ledger::read(&path).unwrap();
    let mut ledger = Ledger::open(&path, commits).unwrap();
    let mut batch = engine.batch();
    let touched: Vec<_> = changes.iter().map(|(table, ..)| *table).collect();
    for (table, key, value) in changes {
        match value {
            Some(value) => batch.insert(engine.tables.keyspace(table), &key[..], value.seal(table, &key)),
            None => batch.remove(engine.tables.keyspace(table), &key[..]),
        }
    }
    let tables = Table::ALL.into_iter().filter(|table| touched.contains(table) || *table == Table::System);
    let (links, after) = ledger.commits().next(tables);
    for (table, link) in links {
        batch.insert(engine.tables.keyspace(table), keys::LINK, values::encode_link(link).seal(table, keys::LINK));
    }
    engine.commit(batch).unwrap();
    ledger.note(after).unwrap();
}

fn row(head: u64, read: u64, role: Option<Role>, changed: u64) -> Option<Unsealed> {
    Some(values::encode_row(&IndexRow { conv: conv("c_1"), head, read, delivered: read, role, changed }))
}

/// A case: what is changed, the kind that is found, and the entries of `c_1` that are kept.
type Case = (&'static str, ProblemKind, Vec<(Table, Vec<u8>, Option<Unsealed>)>, usize);

fn cases() -> Vec<Case> {
    let (one, bob) = (conv("c_1"), user("u_bob"));
    let at = |seq| keys::entry(&one, seq).to_vec();
    let (bobs_row, bobs_place) = (keys::row(&bob, &one).to_vec(), keys::member(&one, &bob).to_vec());
    let meta = |head| Some(values::encode_meta(&ConvMeta { kind: Kind::Group, head, changed: 1, ..group("c_1") }));
    let double = || Some(values::encode_entry(entry(5, "u_ada", "4")));
    let (member, stamp) = (Some(Role::Member), values::encode_counter(1));
    vec![
        ("an entry is missing", ProblemKind::Gap, vec![(Table::Log, at(3), None)], 2),
        ("a cmid comes twice", ProblemKind::Double, vec![(Table::Log, at(5), double())], 5),
        ("the head is above the log", ProblemKind::Head, vec![(Table::Metas, b"c_1".to_vec(), meta(9))], 5),
        ("the head is below the log", ProblemKind::Head, vec![(Table::Metas, b"c_1".to_vec(), meta(3))], 5),
        ("the conversation is missing", ProblemKind::Head, vec![(Table::Metas, b"c_1".to_vec(), None)], 5),
        ("a row is missing", ProblemKind::Row, vec![(Table::Rows, bobs_row.clone(), None)], 5),
        ("a row is above the log", ProblemKind::Row, vec![(Table::Rows, bobs_row.clone(), row(7, 0, member, 1))], 5),
        ("a mark is above the log", ProblemKind::Mark, vec![(Table::Rows, bobs_row.clone(), row(5, 6, member, 1))], 5),
        ("a row has another role", ProblemKind::Member, vec![(Table::Rows, bobs_row.clone(), row(5, 0, None, 1))], 5),
        ("a row is newer than all", ProblemKind::Stamp, vec![(Table::Rows, bobs_row, row(5, 0, member, 999))], 5),
        ("a member is missing", ProblemKind::Member, vec![(Table::Members, bobs_place.clone(), None)], 5),
        (
            "a value of another table",
            ProblemKind::Value,
            vec![(Table::Members, bobs_place, Some(values::encode_counter(3)))],
            5,
        ),
        (
            "an unreadable entry",
            ProblemKind::Value,
            vec![(Table::Log, at(4), Some(values::encode_counter(u64::MAX)))],
            3,
        ),
        ("no stamp", ProblemKind::Stamp, vec![(Table::System, keys::STAMP.to_vec(), Some(stamp))], 5),
        (
            "a name is missing",
            ProblemKind::Name,
            vec![(Table::Names, keys::name("ada", &user("u_ada")).to_vec(), None)],
            5,
        ),
        ("a user is missing", ProblemKind::Name, vec![(Table::Users, b"u_ada".to_vec(), None)], 5),
    ]
}

#[test]
fn whatever_does_not_agree_is_found_and_mended() {
    for (case, kind, changes, kept) in cases() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        assert!(check(dir.path(), &mut |_, _| ()).unwrap().is_sound(), "{case}: before");
        doctor(dir.path(), changes);
        let report = check(dir.path(), &mut |_, _| ()).unwrap();
        assert!(report.problems_by_kind.contains_key(&kind), "{case}: {:#?}", report.problems);
        let lost = report.problems_by_kind.contains_key(&ProblemKind::Lost);
        assert!(!lost, "{case}: links and watermark are as they should be: {:#?}", report.problems);
        let repaired = repair(dir.path(), false, &mut |_, _| ()).unwrap();
        let report = check(dir.path(), &mut |_, _| ()).unwrap();
        assert!(report.is_sound(), "{case}: {:#?}", report.problems);
        let store = EmbeddedStore::open(dir.path(), &options()).unwrap();
        run(async {
            let log = store.range(&conv("c_1"), Range::After(0), 99).await.unwrap();
            assert_eq!(log.len(), kept, "{case}");
            let other = store.range(&conv("c_2"), Range::After(0), 99).await.unwrap();
            assert_eq!(other.len(), 5, "{case}: the other conversation is as it was");
            let rows = store.rows(&conv("c_2"), &[user("u_ada"), user("u_bob")]).await.unwrap();
            assert_eq!(rows[1].as_ref().map(|row| (row.head, row.role)), Some((5, Some(Role::Member))), "{case}");
        });
        assert_eq!(!repaired.lost.is_empty(), kept < 5 || case.contains("above the log"), "{case}: {repaired:?}");
    }
}

#[test]
fn a_sound_store_is_not_touched_by_repair() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let manifest = std::fs::metadata(dir.path().join("data")).unwrap();
    let repaired = repair(dir.path(), true, &mut |_, _| ()).unwrap();
    assert!(repaired.before.is_sound() && repaired.backup.is_none() && repaired.notes.is_empty());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(dir.path().join("data")).unwrap().ino(), manifest.ino());
    assert_eq!(
        std::fs::read_dir(dir.path().parent().unwrap())
            .unwrap()
            .filter(|found| {
                found.as_ref().unwrap().path().to_string_lossy().contains("before-repair")
                    && found.as_ref().unwrap().path().to_string_lossy().starts_with(dir.path().to_str().unwrap())
            })
            .count(),
        0,
        "no copy was made"
    );
}

#[test]
fn the_copy_before_a_repair_is_the_damaged_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    make(&store);
    std::fs::write(store.join("acknowledged"), "x").unwrap();
    let repaired = repair(&store, true, &mut |_, _| ()).unwrap();
    let backup = repaired.backup.unwrap();
    let before = check(&backup, &mut |_, _| ()).unwrap();
    assert_eq!(before.problems_by_kind, repaired.before.problems_by_kind);
    assert_eq!(std::fs::read(backup.join("acknowledged")).unwrap(), b"x");
}
