//! Files that stand in for each other, and journals of which there are several.

use std::fs;
use std::path::Path;

use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{Append, EmbeddedStore, Member, OpenError, Range, Store, User};
use roost_wire::pb::Role;

use crate::files::{CLOSED, Damage};
use crate::fixture::{Opened, noise, options, scratch};
use crate::mended::{is_found_and_mended, is_sound};

/// A way to damage a directory.
type Harm<'a> = &'a dyn Fn(&Path);

fn swap(dir: &Path, one: &str, two: &str) {
    let aside = dir.join("aside");
    fs::rename(dir.join(one), &aside).unwrap();
    fs::rename(dir.join(two), dir.join(one)).unwrap();
    fs::rename(aside, dir.join(two)).unwrap();
}

#[test]
fn files_that_stand_in_for_each_other_are_refused() {
    let tables = CLOSED.like("tables/");
    let lists = CLOSED.like("/current");
    let pairs = tables.windows(2).chain(lists.windows(2));
    let beside = ["acknowledged".to_owned(), "roost.json".to_owned()];
    for pair in pairs.chain([&beside[..]]) {
        let (dir, case) = (scratch(), format!("{pair:?}"));
        CLOSED.write(dir.path());
        swap(dir.path(), &pair[0], &pair[1]);
        match CLOSED.open(dir.path(), &case) {
            Opened::Whole => panic!("{case}: opened"),
            Opened::Refused(OpenError::Damaged { .. }) => {}
            Opened::Refused(error) => panic!("{case}: {error}"),
        }
        let in_log = pair.iter().any(|name| name.contains("keyspaces/1/"));
        is_found_and_mended(&CLOSED, dir.path(), &case, !in_log);
    }
}

/// Entries of 1 MiB, so that journals are closed and tables written out by themselves.
const LARGE: u64 = 72;

fn large(dir: &Path) {
    let store = EmbeddedStore::open(dir, &options()).unwrap();
    run(async {
        for id in ["c_small", "c_large"] {
            store.create(group(id), Vec::new()).await.unwrap();
        }
        let text = noise(7, 900_000);
        for seq in 1..=LARGE {
            let entries = vec![entry(seq, "u_ada", &format!("{seq}{text}"))];
            store.append(Append { entries, ..append("c_large", seq, "") }).await.unwrap();
            store.append(append("c_small", seq, &format!("{seq}"))).await.unwrap();
        }
        // Every table has something in the newer journal too, so that only the links tell that the older one is missing.
        let bob = User { user: user("u_bob"), name: "Bob".into(), created_ms: 1, last_seen_ms: 1 };
        store.put_users(vec![bob]).await.unwrap();
        store.create(group("c_late"), vec![Member { user: user("u_bob"), role: Role::Owner }]).await.unwrap();
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let path = found.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn journals(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("data")).unwrap().map(|found| found.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".jnl")).map(|name| format!("data/{name}")).collect();
    names.sort();
    names
}

#[test]
fn a_journal_that_is_missing_cut_or_in_the_place_of_another_is_refused() {
    let sound = scratch();
    large(sound.path());
    is_sound(sound.path(), "large");
    let names = journals(sound.path());
    assert_eq!(names.len(), 2, "one was closed by itself: {names:?}");
    let len = fs::metadata(sound.path().join(&names[0])).unwrap().len();
    let cases: [(&str, Harm<'_>); 5] = [
        ("the older is missing", &|dir| fs::remove_file(dir.join(&names[0])).unwrap()),
        ("the newer is missing", &|dir| fs::remove_file(dir.join(&names[1])).unwrap()),
        ("they are exchanged", &|dir| swap(dir, &names[0], &names[1])),
        ("the older is cut", &|dir| Damage::Cut(len / 2).apply(&dir.join(&names[0]))),
        ("the older has a wrong bit", &|dir| Damage::Flip { at: len / 3, bit: 3 }.apply(&dir.join(&names[0]))),
    ];
    for (case, damage) in cases {
        let dir = scratch();
        copy(sound.path(), dir.path());
        damage(dir.path());
        match EmbeddedStore::open(dir.path(), &options()) {
            Err(OpenError::Damaged { .. }) => {}
            Err(error) => panic!("{case}: {error}"),
            Ok(_) => panic!("{case}: opened"),
        }
        let report = roost_storage::embedded::check(dir.path(), &mut |_, _| ()).unwrap();
        assert!(!report.is_sound(), "{case}");
        roost_storage::embedded::repair(dir.path(), false, &mut |_, _| ())
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        is_sound(dir.path(), case);
        let store = EmbeddedStore::open(dir.path(), &options()).unwrap();
        let log = run(store.range(&conv("c_small"), Range::After(0), 1000)).unwrap();
        assert!(log.iter().zip(1..).all(|(found, seq)| *found == entry(seq, "u_ada", &format!("{seq}"))), "{case}");
        if case == "they are exchanged" {
            assert_eq!(log.len() as u64, LARGE, "{case}: all can still be read");
        }
    }
}
