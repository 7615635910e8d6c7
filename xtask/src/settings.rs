//! Holds docs/operations.md and deploy/ to the settings that there are.

use anyhow::{Context, bail};

use crate::steps::root;

const SOURCE: &str = "server/src/config/layer.rs";
const PAGE: &str = "docs/operations.md";
const USERS: &[&str] = &["deploy/Dockerfile", "deploy/compose.yaml", "deploy/roost.service"];

/// A setting as it is declared.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    name: String,
    variable: String,
    /// As its doc comment tells it; `None` if there is none.
    default: Option<String>,
}

/// Compares them: every setting has its row on the page, with its default; every variable used is a setting.
pub(crate) fn check() -> anyhow::Result<()> {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"));
    let settings = settings(&read(SOURCE)?);
    if settings.is_empty() {
        bail!("{SOURCE} has no settings any more: tell xtask/src/settings.rs where they are");
    }
    let page = read(PAGE)?;
    let mut complaints: Vec<String> = settings.iter().filter_map(|setting| missing(setting, &page)).collect();
    for user in USERS {
        let text = read(user)?;
        let unknown = variables(&text).filter(|used| settings.iter().all(|setting| setting.variable != *used));
        complaints.extend(unknown.map(|used| format!("{user}: {used} is no setting")));
    }
    if complaints.is_empty() { Ok(()) } else { bail!("settings and pages differ:\n  {}", complaints.join("\n  ")) }
}

/// What the page lacks of a setting.
fn missing(setting: &Setting, page: &str) -> Option<String> {
    let Setting { name, default, .. } = setting;
    let Some(row) = page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))) else {
        return Some(format!("{PAGE} has no row for `{name}`"));
    };
    let told = row.split('|').nth(2).unwrap_or_default();
    let default = default.as_ref().filter(|default| !told.contains(&format!("`{default}`")))?;
    Some(format!("{PAGE}: the default of `{name}` is {default}"))
}

/// Every setting: lines `name: Type => "ROOST_NAME";`, below a comment that tells its default in brackets.
fn settings(source: &str) -> Vec<Setting> {
    let mut comment = String::new();
    let mut found = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
        } else if let Some((field, variable)) = line.strip_suffix("\";").and_then(|line| line.split_once(" => \"")) {
            // A list has no blanks behind its commas; words of explanation do.
            let told = comment.split_once("[default: ").and_then(|(_, rest)| rest.split(']').next());
            let default = told.and_then(|told| told.split(", ").next());
            let name = field.split(':').next().unwrap_or_default().to_owned();
            found.push(Setting { name, variable: variable.to_owned(), default: default.map(str::to_owned) });
            comment.clear();
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    found
}

/// Words that begin with `ROOST_`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).filter(|word| word.starts_with("ROOST_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_their_declaration_and_looked_for_on_the_page() {
        let source = "/// Words\nlayer! {\n    /// Where\n    /// [default: here, or there]\n    #[arg(x)]\n    \
                      listen: SocketAddr => \"ROOST_LISTEN\";\n    data: PathBuf => \"ROOST_DATA\";\n}";
        let found = settings(source);
        let names: Vec<_> = found.iter().map(|one| (&*one.name, &*one.variable, one.default.as_deref())).collect();
        assert_eq!(names, [("listen", "ROOST_LISTEN", Some("here")), ("data", "ROOST_DATA", None)]);
        for (page, want) in [
            ("| `listen` | `here`, mostly | x |", None),
            ("| `listen` | `there` | x |", Some("docs/operations.md: the default of `listen` is here")),
            ("", Some("docs/operations.md has no row for `listen`")),
        ] {
            assert_eq!(missing(&found[0], page).as_deref(), want, "{page}");
        }
    }

    #[test]
    fn variables_are_found_in_other_files() {
        let text = "ENV ROOST_DATA=/data ROOST_LISTEN=0.0.0.0:8080";
        assert_eq!(variables(text).collect::<Vec<_>>(), ["ROOST_DATA", "ROOST_LISTEN"]);
    }
}
