//! The data directory: kept, locked, versioned, refused.

use std::fs;
use std::path::Path;

use roost_storage::embedded::read_secret;
use roost_storage::testkit::conformance::{append, conv, entry, group};
use roost_storage::testkit::run;
use roost_storage::{Appended, EmbeddedOptions, EmbeddedStore, Member, OpenError, Range, Store, StoreError, User};
use roost_wire::UserId;
use roost_wire::pb::Role;

fn options() -> EmbeddedOptions {
    EmbeddedOptions { disk_reserve_bytes: 0, ..EmbeddedOptions::default() }
}

fn open(dir: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(dir, &options())
}

/// Every name below `dir` with the bytes of its file, to show that nothing was touched.
fn contents(dir: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            all.push((path.display().to_string(), path.is_file().then(|| fs::read(&path).unwrap())));
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
    all.sort();
    all
}

/// A directory with a store that was closed properly.
fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    dir
}

#[test]
fn reopening_keeps_everything_and_stamps_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let ada = User { user: UserId::new("u_ada").unwrap(), name: "Ada".into(), created_ms: 1, last_seen_ms: 2 };
    let (id, secret, stamp) = run(async {
        let store = open(dir.path()).unwrap();
        store.create(group("c_1"), vec![Member { user: ada.user.clone(), role: Role::Owner }]).await.unwrap();
        for seq in 1..=20 {
            store.append(append("c_1", seq, &seq.to_string())).await.unwrap();
        }
        store.put_users(vec![ada.clone()]).await.unwrap();
        let meta = store.metas(&[conv("c_1")]).await.unwrap().remove(0).unwrap();
        (store.store_id().to_owned(), store.secret("hs256").unwrap(), meta.changed)
    });
    run(async {
        let store = open(dir.path()).unwrap();
        assert_eq!(store.store_id(), id);
        assert_eq!(id.len(), 32);
        assert_eq!(store.secret("hs256").unwrap(), secret);
        assert_eq!(read_secret(&EmbeddedStore::secret_path(dir.path(), "hs256")).unwrap(), secret);
        let log = store.range(&conv("c_1"), Range::After(0), 100).await.unwrap();
        assert_eq!(log, (1..=20).map(|seq| entry(seq, "u_ada", &seq.to_string())).collect::<Vec<_>>());
        assert_eq!(store.users(std::slice::from_ref(&ada.user)).await.unwrap(), [Some(ada.clone())]);
        assert_eq!(store.search("ad", 9).await.unwrap(), std::slice::from_ref(&ada));
        match store.append(append("c_1", 21, "x")).await {
            Ok(Appended::Stored { stamp: later }) => assert!(later > stamp),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn every_store_has_an_id_and_secrets_of_its_own() {
    let (one, two) = (made(), made());
    let (one, two) = (open(one.path()).unwrap(), open(two.path()).unwrap());
    assert_ne!(one.store_id(), two.store_id());
    assert_ne!(one.secret("hs256").unwrap(), two.secret("hs256").unwrap());
}

#[test]
fn a_second_opener_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains("stop that process"), "{text}");
    let clone = first.clone();
    drop(first);
    assert!(matches!(open(dir.path()), Err(OpenError::Locked { .. })), "a clone holds it too");
    drop(clone);
    assert!(open(dir.path()).is_ok(), "the last clone gave it free");
}

#[test]
fn a_missing_directory_is_made_with_its_parents() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    drop(open(&deep).unwrap());
    assert!(deep.join("roost.json").is_file());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = made();
    let manifest = dir.path().join("roost.json");
    fs::write(&manifest, r#"{"format": 3, "shape": ["unknown"]}"#).unwrap();
    let before = contents(dir.path());
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 3, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("format 3") && text.contains("up to format 2") && text.contains("newer roost"), "{text}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "do not lose").unwrap();
    let before = contents(dir.path());
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("choose an empty or a new one"), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(open(&file), Err(OpenError::Io { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_garbled_manifest_is_refused_and_left_alone() {
    let good = fs::read_to_string(made().path().join("roost.json")).unwrap();
    let cut = &good[..good.len() / 2];
    let no_id = good.replace("\"store\"", "\"stove\"");
    for bad in ["", "\0\0\0", "[]", "{}", r#"{"format": "one"}"#, r#"{"format": 0}"#, r#"{"format": -1}"#, cut, &no_id]
    {
        let dir = made();
        fs::write(dir.path().join("roost.json"), bad).unwrap();
        let before = contents(dir.path());
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{bad:?}: {error}");
        assert_eq!(contents(dir.path()), before, "{bad:?}");
    }
}

#[test]
fn missing_tables_are_damage_and_not_a_new_store() {
    let dir = made();
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_first_start_that_died_is_begun_again() {
    let dir = made();
    let manifest = dir.path().join("roost.json");
    let unfinished = fs::read_to_string(&manifest).unwrap().replace("true", "false");
    fs::write(&manifest, unfinished).unwrap();
    fs::remove_file(dir.path().join("data/version")).unwrap();
    run(async {
        let store = open(dir.path()).unwrap();
        store.create(group("c_1"), vec![]).await.unwrap();
    });
    // Even earlier: only the lock, or a manifest that was not yet renamed.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("LOCK"), "").unwrap();
    fs::write(dir.path().join("roost.json.tmp"), "{\"for").unwrap();
    drop(open(dir.path()).unwrap());
    assert!(!dir.path().join("roost.json.tmp").exists());
}

#[test]
fn what_was_waiting_when_the_store_was_dropped_is_written() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = open(dir.path()).unwrap();
        store.create(group("c_1"), vec![]).await.unwrap();
        let writer = store.clone();
        let task = tokio::spawn(async move { writer.append(append("c_1", 1, "last words")).await });
        drop(store);
        assert!(matches!(task.await.unwrap(), Ok(Appended::Stored { .. })));
    });
    run(async {
        let store = open(dir.path()).unwrap();
        assert_eq!(store.range(&conv("c_1"), Range::After(0), 9).await.unwrap().len(), 1);
        assert_eq!(store.append(append("c_9", 1, "x")).await, Err(StoreError::NoConversation));
    });
}
