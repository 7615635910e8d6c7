//! Holds docs/operations.md and deploy/ to the settings that there are.

use std::collections::BTreeSet;

use anyhow::{Context, bail};

use crate::steps::root;

const SOURCE: &str = "server/src/config/layer.rs";
const PAGE: &str = "docs/operations.md";
const USERS: &[&str] = &["deploy/Dockerfile", "deploy/compose.yaml", "deploy/roost.service"];

/// Compares them: every setting has its row on the page, every variable used is a setting.
pub(crate) fn check() -> anyhow::Result<()> {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"));
    let settings = settings(&read(SOURCE)?);
    if settings.is_empty() {
        bail!("{SOURCE} has no settings any more: tell xtask/src/settings.rs where they are");
    }
    let page = read(PAGE)?;
    let missing = settings.iter().filter(|(name, _)| !page.contains(&format!("\n| `{name}` |")));
    let mut complaints: Vec<String> = missing.map(|(name, _)| format!("{PAGE} has no row for `{name}`")).collect();
    for user in USERS {
        let text = read(user)?;
        let unknown = variables(&text).filter(|used| settings.iter().all(|(_, variable)| variable != used));
        complaints.extend(unknown.map(|used| format!("{user}: {used} is no setting")));
    }
    if complaints.is_empty() { Ok(()) } else { bail!("settings and pages differ:\n  {}", complaints.join("\n  ")) }
}

/// Every setting with its environment variable: lines `name: Type => "ROOST_NAME";`.
fn settings(source: &str) -> BTreeSet<(String, String)> {
    let line = |line: &str| {
        let (field, variable) = line.trim().strip_suffix("\";")?.split_once(" => \"")?;
        Some((field.split_once(':')?.0.to_owned(), variable.to_owned()))
    };
    source.lines().filter_map(line).collect()
}

/// Words that begin with `ROOST_`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).filter(|word| word.starts_with("ROOST_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_their_declaration() {
        let source = "layer! {\n    /// Where\n    listen: SocketAddr => \"ROOST_LISTEN\";\n}\nlet x = \"ROOST_NOT\";";
        assert_eq!(settings(source), BTreeSet::from([("listen".to_owned(), "ROOST_LISTEN".to_owned())]));
        let text = "ENV ROOST_DATA=/data ROOST_LISTEN=0.0.0.0:8080";
        assert_eq!(variables(text).collect::<Vec<_>>(), ["ROOST_DATA", "ROOST_LISTEN"]);
    }
}
