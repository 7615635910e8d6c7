//! Every named place of the store, and every way to be disturbed there: what was acknowledged is there afterwards, once,
//! and nothing is half there.
//!
//! The places are those that the crate lists. A child process (this test binary again) runs into one of them; then the
//! store is opened, checked and read. A listed place that no child reaches fails the test.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roost_storage::embedded::{FAILPOINT_VARIABLE, Point, When, check, repair};
use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{
    Append, Appended, EmbeddedOptions, EmbeddedStore, IndexUpdate, Mark, Member, MemberChange, Range, Store, User,
};
use roost_wire::pb::Role;

const DIR: &str = "ROOST_STORAGE_FAILPOINT_DIR";
const WHEN: &str = "ROOST_STORAGE_FAILPOINT_WHEN";
const CONVS: [&str; 2] = ["c_1", "c_2"];
/// Entries of one append: all of them or none.
const EACH: u64 = 3;
const ROUNDS: u64 = 8;

fn options() -> EmbeddedOptions {
    EmbeddedOptions { disk_reserve_bytes: 0, marks_wait_ms: 0, ..EmbeddedOptions::default() }
}

/// In memory where there is such a place: SIGKILL is the subject here, not the disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn text(id: &str, seq: u64) -> String {
    format!("{id} {seq} {}", "x".repeat(seq as usize * 37 % 900))
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap(); // one write: lines stay whole
}

/// Writes of every kind. Says each acknowledgement on standard output, and the first error.
fn write(store: &EmbeddedStore) {
    let written: Result<(), String> = run(async {
        for id in CONVS {
            let members = vec![Member { user: user("u_ada"), role: Role::Owner }];
            store.create(group(id), members).await.map_err(|error| error.to_string())?;
            say(&format!("made {id}"));
        }
        for round in 0..ROUNDS {
            for id in CONVS {
                append_some(store, id, round).await?;
            }
            let mark = Mark { user: user("u_ada"), conv: conv("c_1"), delivered: Some(2), read: Some(round.min(2)) };
            store.mark(vec![mark]).await.map_err(|error| error.to_string())?;
            let bob = User { user: user("u_bob"), name: format!("Bob {round}"), created_ms: 1, last_seen_ms: round };
            store.put_users(vec![bob]).await.map_err(|error| error.to_string())?;
            say(&format!("user {round}"));
        }
        Ok(())
    });
    if let Err(error) = written {
        say(&format!("failed {error}"));
    }
}

async fn append_some(store: &EmbeddedStore, id: &str, round: u64) -> Result<(), String> {
    let head = store.metas(&[conv(id)]).await.unwrap()[0].as_ref().unwrap().head;
    let entries = (head + 1..=head + EACH).map(|seq| entry(seq, "u_ada", &text(id, seq))).collect();
    let index = vec![IndexUpdate { user: user("u_ada"), head: Some(head + EACH), read: None }];
    let role = round.is_multiple_of(2).then_some(Role::Member);
    let members = vec![MemberChange { user: user("u_eve"), role }];
    let append = Append { entries, index, members, ..append(id, head + 1, "") };
    match store.append(append).await.map_err(|error| error.to_string())? {
        Appended::Stored { .. } => say(&format!("ack {id} {}", head + EACH)),
        Appended::Conflict { head, .. } => panic!("nobody else writes, but the head is {head}"),
    }
    Ok(())
}

fn child(dir: &Path, when: &str) {
    if when == "Repair" {
        match repair(dir, true, &mut |_, _| ()) {
            Ok(_) => say("repaired"),
            Err(error) => say(&format!("failed {error}")),
        }
        return;
    }
    match EmbeddedStore::open(dir, &options()) {
        Ok(store) => {
            if when == "Secret"
                && let Err(error) = store.secret("token-key")
            {
                say(&format!("failed {error}"));
            }
            write(&store);
        }
        Err(error) => say(&format!("failed {error}")),
    }
}

/// A directory as the place needs it.
fn prepare(dir: &Path, when: When) {
    if when == When::Make {
        return;
    }
    let store = EmbeddedStore::open(dir, &options()).unwrap();
    write(&store);
    store.write_out().unwrap();
    write(&store);
    drop(store);
    match when {
        When::OpenTorn => {
            let names = std::fs::read_dir(dir.join("data")).unwrap().map(|found| found.unwrap().path());
            let journal = names.filter(|path| path.extension().is_some_and(|end| end == "jnl")).max().unwrap();
            let journal = std::fs::File::options().write(true).open(journal).unwrap();
            let end = journal.metadata().unwrap().len();
            journal.write_all_at(b"\x01\x01\0\0\0half of a batch", end).unwrap();
        }
        When::Migrate => {
            let manifest = dir.join("roost.json");
            let text = std::fs::read_to_string(&manifest).unwrap();
            assert!(text.contains("\"format\": 2"));
            std::fs::write(&manifest, text.replace("\"format\": 2", "\"format\": 1")).unwrap();
            std::fs::remove_file(dir.join("acknowledged")).unwrap();
        }
        When::Repair => std::fs::write(dir.join("data/keyspaces/2/current"), [0; 25]).unwrap(),
        _ => {}
    }
}

/// Highest acknowledged seq of each conversation, told by `prepare` and by the child.
fn acknowledged(output: &Output, prepared: bool) -> BTreeMap<String, u64> {
    let mut heads: BTreeMap<String, u64> = BTreeMap::new();
    if prepared {
        heads.extend(CONVS.map(|id| (id.to_owned(), 2 * ROUNDS * EACH)));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["ack", id, seq] => heads.extend([(id.to_owned(), seq.parse().unwrap())]),
            ["made", id] => {
                heads.entry(id.to_owned()).or_default();
            }
            _ => {}
        }
    }
    heads
}

fn verify(dir: &Path, heads: &BTreeMap<String, u64>, case: &str) {
    let store = EmbeddedStore::open(dir, &options()).unwrap_or_else(|error| panic!("{case}: {error}"));
    run(async {
        for (id, acknowledged) in heads {
            let log = store.range(&conv(id), Range::After(0), usize::MAX).await.unwrap();
            let expected: Vec<_> = (1..=log.len() as u64).map(|seq| entry(seq, "u_ada", &text(id, seq))).collect();
            assert_eq!(log, expected, "{case}: each entry of {id} is there once");
            assert!(log.len() as u64 >= *acknowledged, "{case}: {id} has {} of {acknowledged}", log.len());
            assert_eq!(log.len() as u64 % EACH, 0, "{case}: half of an append is in {id}");
            let row = store.rows(&conv(id), &[user("u_ada")]).await.unwrap().remove(0).unwrap();
            assert_eq!(row.head, log.len() as u64, "{case}: the index row came with its entry");
        }
    });
    write(&store); // it takes writes
    drop(store);
    let report = check(dir, &mut |_, _| ()).unwrap();
    assert!(report.is_sound(), "{case}: {:#?}", report.problems);
}

fn walk(point: Point, action: &str, passage: u32) {
    let case = format!("{}={action}@{passage}", point.name());
    let scratch = scratch();
    let dir: PathBuf = scratch.path().join("a/store");
    let when = point.when();
    prepare(&dir, when);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["every_place_can_be_disturbed_and_loses_nothing_acknowledged", "--exact", "--nocapture"])
        .env(DIR, &dir)
        .env(WHEN, format!("{when:?}"))
        .env(FAILPOINT_VARIABLE, &case)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(&format!("failpoint {}", point.name())), "{case}: no child passes there: {told}");
    let killed = output.status.signal() == Some(9);
    assert_eq!(killed, action == "kill" || action == "torn", "{case}: {:?}", output.status);
    assert!(killed || output.status.success(), "{case}: {:?} {told}", output.status);
    if action == "delay" {
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(!told.lines().any(|line| line.starts_with("failed ")), "{case}: {told}");
    }
    if when == When::Repair {
        let repaired = repair(&dir, false, &mut |_, _| ()).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(repaired.lost, [], "{case}");
    }
    verify(&dir, &acknowledged(&output, when != When::Make), &case);
}

#[test]
fn every_place_can_be_disturbed_and_loses_nothing_acknowledged() {
    if let Some(dir) = std::env::var_os(DIR) {
        child(Path::new(&dir), &std::env::var(WHEN).unwrap());
        return;
    }
    assert!(Point::ALL.len() > 30);
    for point in Point::ALL {
        for action in ["kill", "error"] {
            walk(*point, action, 1);
        }
        if point.tears() {
            walk(*point, "torn", 1);
        }
        if point.when() == When::Write && point.name() != "ledger.sync" {
            walk(*point, "delay", 2);
            walk(*point, "kill", 9);
        }
    }
}
