//! A store with everything in it, as files in memory, and what it must answer.

use std::fs;
use std::path::{Path, PathBuf};

use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{
    Append, Appended, EmbeddedOptions, EmbeddedStore, Entry, IndexUpdate, Mark, Member, MemberChange, OpenError, Range,
    Store, StoreError, User,
};
use roost_wire::pb::Role;

pub(crate) const CONVS: [&str; 4] = ["c_g1", "c_g11", "c_d2", "news"];
pub(crate) const USERS: [&str; 4] = ["u_ada", "u_bob", "u_b", "u_eve"];

/// A file: its name below the directory, its bytes without the zeros at the end, its length.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) len: u64,
}

/// A store on no disk.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) files: Vec<File>,
    /// Everything acknowledged, in words.
    pub(crate) answers: Vec<String>,
    /// The logs.
    pub(crate) logs: Vec<Vec<Entry>>,
}

pub(crate) fn options() -> EmbeddedOptions {
    EmbeddedOptions { disk_reserve_bytes: 0, marks_wait_ms: 0, ..EmbeddedOptions::default() }
}

/// A directory in memory where there is one: these tests ask for many syncs and no durability.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.unwrap()
}

impl Fixture {
    /// Everything in tables and journal, then closed, or (as a killed process leaves it) not.
    pub(crate) fn make(closed: bool) -> Self {
        let dir = scratch();
        let store = EmbeddedStore::open(dir.path(), &options()).unwrap();
        let answers = run(async {
            begin(&store).await;
            for part in 0..3 {
                fill(&store, part).await;
                if part < 2 {
                    store.write_out().unwrap();
                }
            }
            store.secret("token-key").unwrap();
            everything(&store).await.unwrap()
        });
        let logs = run(logs(&store)).unwrap();
        let store = (!closed).then_some(store);
        let files = read_all(dir.path());
        drop(store);
        Self { files, answers, logs }
    }

    /// Writes the files below `dir`.
    pub(crate) fn write(&self, dir: &Path) {
        for file in &self.files {
            let path = dir.join(&file.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.bytes).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_len(file.len).unwrap();
        }
    }

    pub(crate) fn file(&self, name: &str) -> &File {
        self.files.iter().find(|file| file.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The files whose names hold `part`.
    pub(crate) fn like(&self, part: &str) -> Vec<String> {
        self.files.iter().filter(|file| file.name.contains(part)).map(|file| file.name.clone()).collect()
    }
}

async fn begin(store: &EmbeddedStore) {
    for id in CONVS {
        let roles = [Role::Owner, Role::Admin, Role::Member];
        let members = USERS.iter().zip(roles).map(|(id, role)| Member { user: user(id), role }).collect();
        assert!(store.create(group(id), members).await.unwrap().1);
    }
}

/// Entries, index rows, marks, members, names: all tables.
async fn fill(store: &EmbeddedStore, part: u64) {
    for (place, id) in CONVS.iter().enumerate() {
        for step in 1..=12 {
            let seq = part * 12 + step;
            let text = format!("{id} {seq} {}", noise(seq * 31 + place as u64, 40 + (seq as usize * 97) % 700));
            let index =
                USERS[..3].iter().map(|id| IndexUpdate { user: user(id), head: Some(seq), read: None }).collect();
            let change = MemberChange { user: user("u_eve"), role: part.is_multiple_of(2).then_some(Role::Member) };
            let members = if step == 5 { vec![change] } else { Vec::new() };
            let stored = store.append(Append { index, members, ..append(id, seq, &text) }).await;
            assert!(matches!(stored, Ok(Appended::Stored { .. })), "{stored:?}");
        }
        let mark =
            Mark { user: user("u_bob"), conv: conv(id), delivered: Some(part * 12 + 9), read: Some(part * 12 + 4) };
        store.mark(vec![mark]).await.unwrap();
    }
    let users = USERS.iter().map(|id| User {
        user: user(id),
        name: format!("Name {part} of {id}"),
        created_ms: 1,
        last_seen_ms: part,
    });
    store.put_users(users.collect()).await.unwrap();
}

/// Letters that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> String {
    let mut random = Random(seed);
    (0..len).map(|_| char::from(b'!' + (random.next() % 90) as u8)).collect()
}

/// Splitmix64: the same numbers in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

pub(crate) async fn logs(store: &EmbeddedStore) -> Result<Vec<Vec<Entry>>, StoreError> {
    let mut logs = Vec::new();
    for id in CONVS {
        logs.push(store.range(&conv(id), Range::After(0), usize::MAX).await?);
    }
    Ok(logs)
}

/// Everything that can be read, in words.
pub(crate) async fn everything(store: &EmbeddedStore) -> Result<Vec<String>, StoreError> {
    let (convs, users): (Vec<_>, Vec<_>) = (CONVS.map(conv).to_vec(), USERS.map(user).to_vec());
    let mut all = vec![
        format!("{:?}", store.metas(&convs).await?),
        format!("{:?}", store.last_entries(&convs).await?),
        format!("{:?}", store.users(&users).await?),
        format!("{:?}", store.search("", 100).await?),
    ];
    for log in logs(store).await? {
        all.push(format!("{log:?}"));
    }
    for conv in &convs {
        all.push(format!("{:?} {:?}", store.members(conv).await?, store.rows(conv, &users).await?));
    }
    for user in &users {
        all.push(format!("{:?} {:?}", store.index(user, 0, 100).await?, store.last_change(user).await?));
    }
    Ok(all)
}

fn read_all(dir: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for found in fs::read_dir(next).unwrap() {
            let path: PathBuf = found.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            let len = bytes.len() as u64;
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            files.push(File { name, bytes, len });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// How opening ended.
pub(crate) enum Opened {
    /// Everything that was acknowledged is there.
    Whole,
    /// It refused.
    Refused(OpenError),
}

impl Fixture {
    /// Opens the store in `dir`; it must be whole or refuse.
    pub(crate) fn open(&self, dir: &Path, case: &str) -> Opened {
        match EmbeddedStore::open(dir, &options()) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(dir.to_str().unwrap()), "{case}: the message names the directory: {text}");
                assert!(!text.contains('\n'), "{case}: one line: {text}");
                Opened::Refused(error)
            }
            Ok(store) => {
                let answers = run(everything(&store));
                let answers = answers.unwrap_or_else(|error| panic!("{case}: opened, but cannot be read: {error}"));
                for (answer, expected) in answers.iter().zip(&self.answers) {
                    assert_eq!(answer, expected, "{case}: opened, but is not what was acknowledged");
                }
                let head = run(store.metas(&[conv(CONVS[0])])).unwrap()[0].as_ref().unwrap().head;
                let entries = vec![entry(head + 1, "u_ada", "after")];
                let stored = run(store.append(Append { entries, ..append(CONVS[0], head + 1, "") }));
                assert!(
                    matches!(stored, Ok(Appended::Stored { .. })),
                    "{case}: opened, but takes no writes: {stored:?}"
                );
                Opened::Whole
            }
        }
    }
}
