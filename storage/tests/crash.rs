//! SIGKILL at any moment loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use roost_storage::testkit::conformance::{append, conv, group, user};
use roost_storage::testkit::run;
use roost_storage::{Append, Appended, EmbeddedOptions, EmbeddedStore, IndexUpdate, Member, Range, Store};
use roost_wire::pb::Role;

const CHILD: &str = "ROOST_STORAGE_CRASH_TEST_DIR";
const ROUNDS: u64 = 20;
const CONVS: usize = 4;

fn open(dir: &Path) -> EmbeddedStore {
    let options = EmbeddedOptions { disk_reserve_bytes: 0, memtable_bytes: 1024 * 1024, ..EmbeddedOptions::default() };
    EmbeddedStore::open(dir, &options).expect("the store opens after a crash")
}

/// Appends for ever from several tasks, and says on standard output what was acknowledged.
fn child(dir: &Path) {
    let store = open(dir);
    run(async {
        let mut tasks = Vec::new();
        for task in 0..CONVS * 2 {
            let (id, store) = (format!("c_{}", task % CONVS), store.clone());
            store.create(group(&id), vec![Member { user: user("u_bob"), role: Role::Owner }]).await.unwrap();
            tasks.push(tokio::spawn(append_for_ever(store, id, task)));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn append_for_ever(store: EmbeddedStore, id: String, task: usize) {
    let mut expected = store.metas(&[conv(&id)]).await.unwrap()[0].as_ref().unwrap().head + 1;
    loop {
        let text = format!("{id}:{task}:{expected}:{}", "x".repeat(expected as usize * 37 % 3000));
        let index = vec![IndexUpdate { user: user("u_bob"), head: Some(expected), read: None }];
        match store.append(Append { index, ..append(&id, expected, &text) }).await.unwrap() {
            Appended::Stored { .. } => {
                let line = format!("ack {id} {expected} {text}\n");
                std::io::stdout().write_all(line.as_bytes()).unwrap(); // one write: lines stay whole
                expected += 1;
            }
            Appended::Conflict { head, .. } => expected = head + 1,
        }
    }
}

/// Lets a child run for a while after its first acknowledgement, kills it, and adds what it acknowledged to `all`.
fn round(dir: &Path, run_for: Duration, all: &mut BTreeMap<(String, u64), String>) {
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this)
        .args(["sigkill_loses_nothing_acknowledged", "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut killed = false;
    let mut first = None;
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap() == 0 {
            break;
        }
        let mut words = line.strip_suffix('\n').unwrap_or_default().splitn(4, ' ');
        // The first word may stand behind what the test harness prints.
        if words.next().is_some_and(|word| word.ends_with("ack"))
            && let (Some(id), Some(seq), Some(text)) = (words.next(), words.next(), words.next())
        {
            all.insert((id.to_owned(), seq.parse().unwrap()), text.to_owned());
            let begin = *first.get_or_insert_with(std::time::Instant::now);
            if !killed && begin.elapsed() >= run_for {
                child.kill().unwrap(); // SIGKILL on Unix; what is in the pipe is still read
                killed = true;
            }
        }
    }
    assert!(killed, "the child ended by itself: {:?}", child.wait());
    child.wait().unwrap();
}

fn check(dir: &Path, all: &BTreeMap<(String, u64), String>) {
    let store = open(dir);
    run(async {
        for place in 0..CONVS {
            let id = format!("c_{place}");
            let log = store.range(&conv(&id), Range::After(0), usize::MAX).await.unwrap();
            assert!(log.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "the log of {id} has no gap");
            let meta = store.metas(&[conv(&id)]).await.unwrap().remove(0);
            // The first round may end before all of them are made.
            let head = meta.as_ref().map_or(0, |meta| meta.head);
            assert_eq!(head, log.len() as u64);
            let row = store.rows(&conv(&id), &[user("u_bob")]).await.unwrap().remove(0);
            assert_eq!(row.map(|row| row.head), meta.map(|meta| meta.head), "the index row came with its entry");
            let first = (id.clone(), 0);
            for ((_, seq), text) in all.range(first..).take_while(|((other, _), _)| *other == id) {
                let stored = log.get(*seq as usize - 1).map(|entry| entry.body.text.as_str());
                assert_eq!(stored, Some(text.as_str()), "{id} {seq} was acknowledged");
            }
        }
    });
}

#[test]
fn sigkill_loses_nothing_acknowledged() {
    if let Some(dir) = std::env::var_os(CHILD) {
        child(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    let mut random = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    for number in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let run_for = Duration::from_micros((random >> 33) % 120_000);
        let before = all.len();
        round(dir.path(), run_for, &mut all);
        assert!(all.len() > before, "round {number} acknowledged something");
        check(dir.path(), &all);
    }
}
