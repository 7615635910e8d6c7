//! Every key of a scenario: what is not here is refused, and `docs/scenarios.md` has a row for each (a test compares them).

/// A key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its table; empty for the top.
    pub(crate) table: &'static str,
    pub(crate) name: &'static str,
    /// What it is if it is not written, as in the document.
    pub(crate) default: &'static str,
    /// What it may be, as in the document.
    pub(crate) limits: &'static str,
}

const fn key(table: &'static str, name: &'static str, default: &'static str, limits: &'static str) -> Key {
    Key { table, name, default, limits }
}

/// All of them, in the order of the document.
pub(crate) const KEYS: &[Key] = &[
    key("", "name", "that of the file", "letters, digits and `-`"),
    key("", "about", "nothing", "text"),
    key("", "clients", "`full`", "`full`, `lean`"),
    key("", "seed", "1", "0 and up"),
    key("", "arrivals", "`poisson`", "`poisson`, `uniform`, `closed`"),
    key("", "bytes", "128", "46 to 32768"),
    key("", "connect_rate", "4000", "1 to 1000000"),
    key("", "grace", "`10s`", "100ms to 1h"),
    key("", "marks_after", "`1s`", "0 to 1h"),
    key("", "sdk_share", "0", "0 to 1; full"),
    key("", "heartbeat", "`1m`", "1s to 1h; lean"),
    key("", "tickets", "`false`", "`true`, `false`; lean"),
    key("", "twice", "`false`", "`true`, `false`; full"),
    key("", "thresholds", "none", "texts"),
    key("population", "name", "`everybody`", "each its own"),
    key("population", "users", "required", "1 to 1000000000"),
    key("population", "connected", "1", "above 0, to 1"),
    key("population", "devices", "1", "1 to 8; full"),
    key("population", "transport", "`ws`", "`ws`, `wss`, `quic`"),
    key("population", "network", "as it is", "a `network`"),
    key("population", "behaviour", "says nothing", "a `behaviour`"),
    key("network", "delay", "0", "0 to 10s; `quic`"),
    key("network", "jitter", "0", "0 to the delay; `quic`"),
    key("network", "loss", "0", "0 to 0.5; `quic`"),
    key("network", "migrating", "0", "0 to 1; `quic`"),
    key("behaviour", "think", "never", "10ms to 7d"),
    key("behaviour", "rate", "by `think`", "0.001 to 10000000"),
    key("behaviour", "direct", "1", "0 and up"),
    key("behaviour", "group", "1", "0 and up"),
    key("behaviour", "channel", "0", "0 and up"),
    key("behaviour", "awake", "stays", "100ms to 7d"),
    key("behaviour", "asleep", "with `awake`", "100ms to 7d"),
    key("behaviour", "answers", "0", "0 to 1"),
    key("behaviour", "after", "`1s`", "0 to 1h"),
    key("graph", "partners", "1", "0 to 100"),
    key("graph", "groups", "0", "0 to 100"),
    key("graph", "group_min", "3", "2 to 512"),
    key("graph", "group_max", "50", "`group_min` to 512"),
    key("graph", "group_zipf", "1.5", "0 to 10"),
    key("graph", "channels", "0", "0 to 1000"),
    key("graph", "subscribers", "1", "above 0, to 1"),
    key("graph", "publishers", "1", "1 and up"),
    key("phase", "name", "its kind", "each its own"),
    key(
        "phase",
        "kind",
        "`steady`",
        "full: `ramp`, `steady`, `burst`, `storm`, `deploy`, `network`, `drain`; lean: `ramp`, `steady`, `broadcast`, `echo`, `storm`, `drain`",
    ),
    key("phase", "for", "required; lean: by the kind", "100ms to 7d"),
    key("phase", "pace", "1; `burst`: 5; `drain`: 0", "0 to 1000; full"),
    key("phase", "online", "as before, at first 1; `drain`: 0", "0 to 1; full"),
    key("phase", "together", "1; `burst`: 10", "1 to 1000"),
    key("phase", "share", "1; `network`: 0.5", "above 0, to 1; full: `storm`, `network`"),
    key("phase", "how", "`rst`", "`rst`, `fin`; `storm`"),
    key("phase", "window", "a quarter of `for`; lean: by `connect_rate`", "100ms to 1h; `storm`"),
    key("phase", "publishes", "required", "1 and up; lean: `broadcast`"),
    key("phase", "rate", "1", "0.001 to 10000000; lean: `broadcast`"),
];

/// The keys of a table.
pub(crate) fn of(table: &str) -> impl Iterator<Item = &'static str> + Clone {
    KEYS.iter().filter(move |key| key.table == table).map(|key| key.name)
}

/// The tables, those that have their own name in the file (`network`, `behaviour`) and lists (`population`, `phase`) alike.
pub(crate) const TABLES: &[&str] = &["population", "network", "behaviour", "graph", "phase"];

/// What was most likely meant.
pub(crate) fn nearest<'a>(word: &str, of: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    of.map(|known| (distance(word, known), known))
        .filter(|(far, _)| *far <= 2.max(word.len() / 3))
        .min()
        .map(|(_, known)| known)
}

/// How many letters are to be put in, left out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let changed = corner + usize::from(letter != *other);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
