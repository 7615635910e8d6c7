//! Unsafe code lives in named places alone, and says why it is sound.
//!
//! Three things hold together: every crate forbids unsafe code but those named here; the compiler denies it in the others
//! of the workspace unless a file says otherwise, and clippy denies a block without its SAFETY note; and this check knows
//! every file that has any, so that a new one is a decision and not an accident.

use std::path::Path;

use anyhow::{Context, bail};

use crate::steps::root;

/// Crates that do not forbid it as a whole, by the folder of their manifest, and why.
const CRATES: &[(&str, &str)] =
    &[("uring", "rings share memory with the kernel"), ("edge", "its io_uring driver shares memory with the kernel")];

/// Where unsafe code may stand: a file, or a folder with `/` behind it, and why.
const PLACES: &[(&str, &str)] = &[
    ("uring/src/", "the kernel reads and writes memory that it was told of"),
    ("edge/src/driver/poll/hatch.rs", "a thread gets a table of descriptors of its own"),
    ("edge/src/driver/quic/steer.rs", "an option of sockets that no crate has: a program that picks one of them"),
    ("edge/src/driver/uring/", "what the kernel was told of stays where it is until it is done with it"),
    ("storage/tests/fsync.rs", "cachestat(2) has no safe wrapper"),
    ("benches/peers/bare/main.rs", "a thread gets a table of descriptors of its own"),
    ("benches/tests/session_memory.rs", "an allocator that counts can be written in no other way"),
    ("edge/tests/quic_memory/main.rs", "an allocator that counts can be written in no other way"),
    ("router/tests/memory.rs", "an allocator that counts can be written in no other way"),
];

/// Lints of the workspace that this leans on.
const LINTS: &[&str] = &["unsafe_code = \"deny\"", "undocumented_unsafe_blocks = \"deny\""];

/// Prints each crate's state.
///
/// # Errors
/// Unsafe code outside of its places, without its note, or a crate that neither forbids it nor is named.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    let workspace = read("Cargo.toml")?;
    complaints
        .extend(LINTS.iter().filter(|lint| !workspace.contains(*lint)).map(|lint| format!("Cargo.toml: no {lint}")));
    println!("\n==> unsafe code");
    for member in members(&workspace)? {
        let (state, complaint) = crate_state(&member)?;
        println!("  {member:<10} {state}");
        complaints.extend(complaint);
    }
    let mut files = Vec::new();
    sources(&root(), "", &mut files)?;
    let mut blocks = 0;
    let mut used = vec![0; PLACES.len()];
    for file in files {
        let text = read(&file)?;
        let place =
            PLACES.iter().position(|(place, _)| file == *place || (place.ends_with('/') && file.starts_with(place)));
        for (line, documented) in uses(&text) {
            blocks += 1;
            match place {
                Some(place) => used[place] += 1,
                None => {
                    complaints.push(format!("{file}:{line}: unsafe code has no place here (xtask/src/unsafe_code.rs)"));
                }
            }
            if !documented {
                complaints.push(format!("{file}:{line}: no `SAFETY:` above it says why this is sound"));
            }
        }
    }
    for ((place, reason), count) in PLACES.iter().zip(used) {
        println!("  {place}: {count} (why: {reason})");
        if count == 0 {
            complaints.push(format!("{place} is named in xtask/src/unsafe_code.rs and has no unsafe code"));
        }
    }
    if complaints.is_empty() {
        println!("  {blocks} uses, each in its place and with its note");
        return Ok(());
    }
    bail!("unsafe code:\n  {}", complaints.join("\n  "))
}

fn read(file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root().join(file)).with_context(|| format!("cannot read {file}"))
}

/// Folders of the workspace's members.
fn members(workspace: &str) -> anyhow::Result<Vec<String>> {
    let list = workspace.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list);
    let list = list.context("Cargo.toml lists no members")?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// What a crate's root files and manifest say of unsafe code, and what is wrong with that.
fn crate_state(member: &str) -> anyhow::Result<(String, Option<String>)> {
    let manifest = read(&format!("{member}/Cargo.toml"))?;
    if !manifest.contains("[lints]\nworkspace = true") {
        return Ok(("?".into(), Some(format!("{member}/Cargo.toml: does not take the lints of the workspace"))));
    }
    let root_file = ["src/lib.rs", "src/main.rs"].map(|name| format!("{member}/{name}"));
    let root_file = root_file.iter().find(|file| root().join(file).exists()).context("a crate without a root file")?;
    let forbids = read(root_file)?.lines().any(|line| line == "#![forbid(unsafe_code)]");
    Ok(match (forbids, CRATES.iter().find(|(name, _)| *name == member)) {
        (true, None) => ("forbids it".into(), None),
        (false, Some((_, reason))) => (format!("denies it but for named places: {reason}"), None),
        (true, Some(_)) => {
            ("forbids it".into(), Some(format!("{member} is named in xtask/src/unsafe_code.rs and needs not be")))
        }
        (false, None) => ("?".into(), Some(format!("{root_file}: #![forbid(unsafe_code)] is missing"))),
    })
}

/// Every Rust file below `folder`, by its path from the root.
fn sources(root: &Path, folder: &str, files: &mut Vec<String>) -> anyhow::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(root.join(folder))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                sources(root, &path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Lines with the keyword, and whether a note stands above (`SAFETY:`, or `# Safety` in the docs of a function or trait,
/// which is for its callers).
fn uses(text: &str) -> Vec<(usize, bool)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = code(line);
        let Some(after) = keyword(&code) else { continue };
        let contract = after.starts_with("fn") || after.starts_with("trait") || after.starts_with("extern");
        // A method of an unsafe trait has the trait's contract, which its `unsafe impl` answers for.
        let inherits = contract && lines[..at].iter().rev().any(|line| line.starts_with("unsafe impl"));
        let note = if contract { "# Safety" } else { "SAFETY:" };
        let above = lines[..at].iter().rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("#[") || line.ends_with('=') || line.ends_with('(')
        });
        found.push((at + 1, inherits || above.into_iter().any(|line| line.contains(note))));
    }
    found
}

/// A line without its comment and the texts in it. Good enough for this tree: no text in it spans lines and has the word.
fn code(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if quoted => _ = chars.next(),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            char if !quoted => code.push(char),
            _ => {}
        }
    }
    code
}

/// What follows the keyword, if it is there.
fn keyword(code: &str) -> Option<&str> {
    const WORD: &str = "unsafe";
    let part = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(WORD).find_map(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + WORD.len()..]);
        (!before.ends_with(part) && !after.starts_with(part)).then(|| after.trim_start())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_found_and_so_are_missing_notes() {
        for (text, wanted) in [
            ("let x = unsafe { y() };", &[(1, false)][..]),
            ("// SAFETY: y is sound.\nlet x = unsafe { y() };", &[(2, true)]),
            ("// SAFETY: y is sound.\nlet x =\n    unsafe { y() };", &[(3, true)]),
            ("// SAFETY: of another one.\nlet z = 1;\nunsafe { y() }", &[(3, false)]),
            ("/// # Safety\n/// No null.\n#[inline]\npub unsafe fn y() {}", &[(4, true)]),
            ("pub unsafe fn y() {}", &[(1, false)]),
            ("// SAFETY: all of it.\nunsafe impl Z for X {\n    unsafe fn y() {}\n}", &[(2, true), (3, true)]),
            ("// nothing unsafe here\nlet text = \"unsafe { }\"; // unsafe\n#![forbid(unsafe_code)]", &[]),
        ] {
            assert_eq!(uses(text), wanted, "{text}");
        }
    }

    #[test]
    fn members_are_read_from_the_manifest() {
        let members = members("[workspace]\nmembers = [\n    \"wire\",\n    \"edge/core\",\n]\n").unwrap();
        assert_eq!(members, ["wire", "edge/core"]);
    }
}
