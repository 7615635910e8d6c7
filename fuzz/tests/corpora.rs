//! Every kept input, on the stable compiler: what fuzzing found worth keeping, and what once failed.

use std::fs;
use std::path::{Path, PathBuf};

use roost_fuzz::{TARGETS, Target, seeds};

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

/// The files of a folder, by name; none if there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    files.sort();
    files
}

fn run_kept(target: &Target) -> usize {
    let kept = files(&folder("corpus", target.name));
    assert!(!kept.is_empty(), "{}: its corpus is empty", target.name);
    let once_failed = files(&folder("regressions", target.name));
    for path in kept.iter().chain(&once_failed) {
        let input = fs::read(path).expect("an input can be read");
        // The name of the input is said when it fails, and only then.
        let tried = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(tried.is_ok(), "{}: {} fails", target.name, path.display());
    }
    kept.len() + once_failed.len()
}

macro_rules! kept_inputs {
    ($($target:ident)+) => {
        mod kept_inputs_hold {
            $(#[test]
            fn $target() {
                let name = stringify!($target);
                let target = super::TARGETS.iter().find(|target| target.name == name).expect("a target");
                println!("{} inputs", super::run_kept(target));
            })+
        }

        /// The tests above, to be compared with the targets there are.
        const TESTED: &[&str] = &[$(stringify!($target)),+];
    };
}

kept_inputs! { ws_stream deflate handshake_head frames_json frames_protobuf session_commands tls_session quic tungstenite_differential }

#[test]
fn every_target_has_a_test_a_program_and_first_inputs_that_hold() {
    let mut programs: Vec<String> = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/fuzz_targets"))
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    programs.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(TESTED, names);
    names.sort_unstable();
    assert_eq!(programs, names);
    for target in TARGETS {
        let seeds = seeds(target.name);
        assert!(!seeds.is_empty(), "{}", target.name);
        for (name, input) in seeds {
            let tried = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(tried.is_ok(), "{}: {name} fails", target.name);
        }
    }
}

/// Inputs of each target that chance makes, the same each time.
const BY_CHANCE: u64 = 60;

#[test]
fn inputs_that_chance_makes_hold() {
    for target in TARGETS {
        for number in 0..BY_CHANCE {
            // splitmix64 (Steele, Lea, Flood): any spread will do.
            let mut state = number << 32;
            let mut draw = || {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            };
            let len = draw() % 400;
            let input: Vec<u8> = (0..len).map(|_| draw() as u8).collect();
            let tried = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(tried.is_ok(), "{}: {input:?} fails", target.name);
        }
    }
}

#[test]
fn no_folder_of_inputs_is_without_a_target() {
    for kind in ["corpus", "regressions"] {
        for path in files(&folder(kind, "")) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(TARGETS.iter().any(|target| target.name == name), "{}", path.display());
        }
    }
}
