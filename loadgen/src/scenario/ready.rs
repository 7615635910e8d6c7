//! Scenarios that come along: `loadgen/scenarios/*.toml`.

use super::keys::nearest;

macro_rules! ready {
    ($($name:literal)+) => {
        /// Their names and texts, in the order in which they are listed.
        pub(crate) const READY: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),+];
    };
}

ready! {
    "quick" "hold" "broadcast" "storm" "chat-day" "group-fanout" "reconnect" "migrate" "soak" "echo" "seed-parity"
}

/// The text of a ready scenario.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    READY.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Why there is no scenario of this name, and what there is.
pub(crate) fn missing(name: &str, error: &std::io::Error) -> String {
    let names = READY.iter().map(|(name, _)| *name);
    match nearest(name, names.clone()) {
        Some(near) => {
            format!("there is neither a file ({error}) nor a ready scenario of this name; did you mean `{near}`?")
        }
        None => {
            let all: Vec<&str> = names.collect();
            format!("there is neither a file ({error}) nor a ready scenario of this name; there are {}", all.join(", "))
        }
    }
}
