//! Holds pages to the tree: files and functions that they name, and links, must be there.

use std::path::Path;

use anyhow::{Context, bail};

use crate::steps::root;

/// Pages that name files.
const PAGES: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/README.md", "deploy/README.md"];
/// A folder of such pages.
const FOLDERS: &[&str] = &["docs", "docs/adr"];
/// Endings by which a word is a file.
const ENDINGS: &[&str] = &["rs", "js", "py", "md", "toml", "proto", "yml", "yaml", "conf", "service"];

/// Looks for files, functions and links that are not there.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut pages: Vec<String> = PAGES.iter().map(|page| (*page).to_owned()).collect();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(root().join(folder)).with_context(|| format!("{folder} is missing"))? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    let mut complaints = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(root().join(&page)).with_context(|| format!("{page} is missing"))?;
        complaints.extend(problems(&text, Path::new(&page)).into_iter().map(|problem| format!("{page}: {problem}")));
    }
    if complaints.is_empty() { Ok(()) } else { bail!("pages name what is not there:\n  {}", complaints.join("\n  ")) }
}

fn problems(text: &str, page: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        // Outside, between backticks, outside, … Examples in fences have none.
        let words: Vec<&str> = line.split('`').collect();
        let mut file = None;
        for at in (1..words.len()).step_by(2) {
            let word = words[at];
            if is_file(word) {
                file = Some(word);
                if !root().join(word).exists() && !target_exists(page, word) {
                    found.push(format!("there is no {word}"));
                }
            // A name right behind its file: a function there.
            } else if let (Some(file), " ") = (file.take(), words[at - 1]) {
                let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
                if !has_function(&source, word) {
                    found.push(format!("there is no function {word} in {file}"));
                }
            }
        }
        found.extend(links(line).filter(|link| !target_exists(page, link)).map(|link| format!("broken link: {link}")));
    }
    found
}

/// A path of this tree: with a folder and an ending, and without holes to fill in.
fn is_file(word: &str) -> bool {
    let known = word.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending));
    known && word.contains('/') && !word.starts_with(['/', '<']) && !word.contains(['<', '*', '…', ' '])
}

fn has_function(source: &str, name: &str) -> bool {
    source.match_indices(&format!("fn {name}")).any(|(at, found)| source[at + found.len()..].starts_with(['(', '<']))
}

/// Relative targets of links, anchors taken off.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let link = rest.split(')').next()?.split('#').next()?;
        (!link.is_empty() && !link.contains("://")).then_some(link)
    })
}

fn target_exists(page: &Path, link: &str) -> bool {
    root().join(page.parent().unwrap_or(Path::new(""))).join(link).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_functions_and_links_are_found() {
        let page = Path::new("docs/x.md");
        for (line, count) in [
            ("see `xtask/src/pages.rs` and `cargo xtask check`", 0),
            ("| `xtask/src/pages.rs` `problems` | `anything` |", 0),
            ("| `xtask/src/pages.rs` `problem` | |", 1),
            ("see `xtask/src/nothing.rs`", 1),
            ("writes `results/<date>-baseline.md`, `/etc/roost.toml`, `1.5`", 0),
            ("[page](../ARCHITECTURE.md#threads) [web](https://example.org/x.md)", 0),
            ("[page](ARCHITECTURE.md)", 1),
        ] {
            assert_eq!(problems(line, page).len(), count, "{line}");
        }
    }
}
