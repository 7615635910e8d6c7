//! Every file, damaged in every way that is tried.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;

use roost_storage::OpenError;
use roost_storage::embedded::check;

use crate::fixture::{Fixture, Opened, Random, scratch};
use crate::mended;
use crate::watched;

pub(crate) static CLOSED: LazyLock<Fixture> = LazyLock::new(|| Fixture::make(true));
pub(crate) static KILLED: LazyLock<Fixture> = LazyLock::new(|| Fixture::make(false));

/// A way to damage one file.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Cut(u64),
    Flip { at: u64, bit: u8 },
    Zero { at: u64, len: u64 },
    Remove,
    Garbage(usize),
}

impl Damage {
    pub(crate) fn apply(&self, path: &Path) {
        let open = || fs::File::options().read(true).write(true).open(path).unwrap();
        match *self {
            Self::Cut(len) => open().set_len(len).unwrap(),
            Self::Flip { at, bit } => {
                let (file, mut byte) = (open(), [0]);
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
            }
            Self::Zero { at, len } => open().write_all_at(&vec![0; len as usize], at).unwrap(),
            Self::Remove => fs::remove_file(path).unwrap(),
            Self::Garbage(len) => {
                let (file, mut random) = (open(), Random(len as u64));
                let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                let at = file.metadata().unwrap().len();
                file.write_all_at(&bytes, at).unwrap();
            }
        }
    }
}

/// Damages of a file with `len` bytes that say something.
pub(crate) fn damages(seed: u64, len: u64, flips: usize) -> Vec<Damage> {
    let mut random = Random(seed);
    let mut all = vec![Damage::Remove, Damage::Garbage(1), Damage::Garbage(100), Damage::Garbage(5000)];
    if len == 0 {
        return all;
    }
    all.extend([0, 1, len / 2, len.saturating_sub(38), len - 1].map(Damage::Cut));
    all.extend((0..flips / 3).map(|_| Damage::Cut(random.below(len))));
    all.extend((0..flips).map(|_| Damage::Flip { at: random.below(len), bit: random.below(8) as u8 }));
    all.push(Damage::Zero { at: 0, len: len.min(512) });
    all.push(Damage::Zero { at: random.below(len) / 512 * 512, len: 512.min(len) });
    all.push(Damage::Zero { at: len - len.min(64), len: len.min(64) });
    all
}

/// Damages one file in one way; how opening ends.
fn try_one(fixture: &Fixture, name: &str, damage: &Damage) -> Opened {
    let dir = scratch();
    fixture.write(dir.path());
    damage.apply(&dir.path().join(name));
    let case = format!("{name} {damage:?}");
    let opened = fixture.open(dir.path(), &case);
    match &opened {
        Opened::Whole => mended::is_sound(dir.path(), &case),
        Opened::Refused(OpenError::Newer { .. }) => {
            assert!(matches!(check(dir.path(), &mut |_, _| ()), Err(OpenError::Newer { .. })), "{case}");
        }
        Opened::Refused(_) => {
            let logs_are_whole = !name.contains("keyspaces/1/") && !name.ends_with(".jnl");
            mended::is_found_and_mended(fixture, dir.path(), &case, logs_are_whole);
        }
    }
    opened
}

fn try_all(fixture: &Fixture, names: impl Iterator<Item = String>, flips: usize) -> (usize, usize) {
    let (mut whole, mut refused) = (0, 0);
    for name in names {
        let len = fixture.file(&name).bytes.len() as u64;
        for damage in damages(len ^ 77, len, flips) {
            match watched(&format!("{name} {damage:?}"), || try_one(fixture, &name, &damage)) {
                Opened::Whole => whole += 1,
                Opened::Refused(error) => {
                    refused += 1;
                    let text = error.to_string();
                    let known =
                        matches!(error, OpenError::Foreign { .. } | OpenError::Newer { .. } | OpenError::Locked { .. });
                    assert!(known || text.contains("roost store check"), "{name} {damage:?}: says what to do: {text}");
                }
            }
        }
    }
    (whole, refused)
}

#[test]
fn an_undamaged_store_is_whole() {
    for fixture in [&*CLOSED, &*KILLED] {
        let dir = scratch();
        fixture.write(dir.path());
        assert!(matches!(fixture.open(dir.path(), "undamaged"), Opened::Whole));
    }
}

#[test]
fn a_damaged_journal_is_whole_or_refused() {
    for fixture in [&*CLOSED, &*KILLED] {
        let (whole, refused) = try_all(fixture, fixture.like(".jnl").into_iter(), 75);
        assert!(refused > 50, "{whole} whole, {refused} refused");
    }
}

#[test]
fn damaged_tables_are_refused() {
    let names = CLOSED.like("tables/");
    assert_eq!(names.len(), 7 * 2 + 1, "two files of each table, and one that lists them: {names:?}");
    let (whole, refused) = try_all(&CLOSED, names.into_iter(), 6);
    assert_eq!(whole, 0, "{refused} refused");
}

#[test]
fn damaged_lists_of_tables_are_refused() {
    let mut names = CLOSED.like("/current");
    for current in names.clone() {
        let version = CLOSED.file(&current).bytes[..8].try_into().map(u64::from_le_bytes).unwrap();
        names.push(format!("{}v{version}", current.strip_suffix("current").unwrap()));
    }
    assert_eq!(names.len(), 16, "{names:?}");
    let (whole, refused) = try_all(&CLOSED, names.into_iter(), 6);
    assert_eq!(whole, 0, "{refused} refused");
}

#[test]
fn damage_beside_the_tables_is_whole_or_refused() {
    for fixture in [&*CLOSED, &*KILLED] {
        let names = ["roost.json", "acknowledged", "LOCK", "data/version", "data/lock"].map(str::to_owned);
        let (whole, refused) = try_all(fixture, names.into_iter(), 30);
        assert!(whole > 0 && refused > 0, "{whole} whole, {refused} refused");
    }
}
