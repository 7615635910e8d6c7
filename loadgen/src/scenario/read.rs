//! From a text in TOML to a scenario, with all that is wrong with it at once.

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::fault::{Fault, Faults, Lines};
use super::spec::{Behaviour, Graph, Network, Phase, Population, Spec};
use super::{check, keys};

/// Bytes of a file: what is longer is no scenario.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A change to a scenario from the command line: `phase.ramp.for=5s`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    path: String,
    value: Value,
}

impl std::str::FromStr for Set {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = text.split_once('=').ok_or("write it as key=value, such as graph.partners=3")?;
        let (path, value) = (path.trim(), value.trim());
        if path.is_empty() {
            return Err("write it as key=value, such as graph.partners=3".into());
        }
        // What is no number, list or truth is a text: `5s` needs no quotes.
        let parsed =
            toml::from_str::<Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
        Ok(Self { path: path.to_owned(), value: parsed.unwrap_or_else(|| Value::String(value.to_owned())) })
    }
}

impl Spec {
    /// Reads a scenario: a ready one's name, or a file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn find(name: &str, sets: &[Set]) -> Result<Self, Faults> {
        if let Some(text) = super::ready::text(name) {
            return Self::read(text, name, sets);
        }
        let faults = |what: String| Faults { of: name.to_owned(), all: vec![Fault::new("", what)] };
        let path = std::path::Path::new(name);
        let size = std::fs::metadata(path).map_err(|error| faults(super::ready::missing(name, &error)))?;
        if !size.is_file() || size.len() > FILE_BYTES_MAX {
            return Err(faults(format!("it is no file of at most {FILE_BYTES_MAX} bytes: give a scenario in TOML")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| faults(format!("cannot read it: {error}")))?;
        Self::read(&text, name, sets)
    }

    /// Reads a scenario's text; `of`: its file or name, `sets`: what is to be different.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn read(text: &str, of: &str, sets: &[Set]) -> Result<Self, Faults> {
        let lines = Lines::of(text);
        // What a flag says has no line.
        let told = |mut all: Vec<Fault>, changed: &[(String, &Set)]| {
            for fault in &mut all {
                match changed.iter().find(|(key, _)| *key == fault.key) {
                    Some((_, set)) => fault.key = format!("--set {}", set.path),
                    None => fault.line = fault.line.or_else(|| lines.find(&fault.key)),
                }
            }
            all.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
            Faults { of: of.to_owned(), all }
        };
        let mut table: Table = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| lines.at(span.start));
            told(vec![Fault { key: String::new(), line, what: format!("this is no TOML: {}", error.message()) }], &[])
        })?;
        let (mut changed, mut wrong) = (Vec::new(), Vec::new());
        for set in sets {
            match put(&mut table, set) {
                Ok(key) => changed.push((key, set)),
                Err(fault) => wrong.push(fault),
            }
        }
        if !wrong.is_empty() {
            return Err(told(wrong, &[]));
        }
        let faults = look(&table);
        if !faults.is_empty() {
            return Err(told(faults, &changed));
        }
        let read = Self::deserialize(table);
        let mut spec = read.map_err(|error| told(vec![Fault::new("", error.message().to_owned())], &changed))?;
        spec.fill(of);
        let faults = check::faults(&spec);
        if faults.is_empty() { Ok(spec) } else { Err(told(faults, &changed)) }
    }

    /// What is not written and follows from the rest.
    fn fill(&mut self, of: &str) {
        if self.name.is_empty() {
            let stem = std::path::Path::new(of).file_stem().map(|stem| stem.to_string_lossy().into_owned());
            self.name = stem.unwrap_or_else(|| of.to_owned());
        }
        for population in &mut self.population {
            if population.name.is_empty() {
                population.name = EVERYBODY.into();
            }
        }
        for phase in &mut self.phase {
            if phase.name.is_empty() {
                phase.name = phase.kind.word().into();
            }
        }
    }
}

/// The name of a population without one.
const EVERYBODY: &str = "everybody";

/// Puts a value where a path points. Returns the key that faults are told with.
fn put(table: &mut Table, set: &Set) -> Result<String, Fault> {
    let mut parts = set.path.split('.');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let fault = |what: String| Err(Fault::new(format!("--set {}", set.path), what));
    match (first, rest.as_slice()) {
        (name, []) if !keys::TABLES.contains(&name) => _ = table.insert(name.to_owned(), set.value.clone()),
        ("graph", [key]) => {
            let graph = table.entry("graph").or_insert_with(|| Value::Table(Table::new()));
            let Some(graph) = graph.as_table_mut() else { return fault("`graph` is no table".into()) };
            graph.insert((*key).to_owned(), set.value.clone());
        }
        ("network" | "behaviour", [name, key]) => {
            let Some(one) = table.get_mut(first).and_then(|all| all.get_mut(*name)).and_then(Value::as_table_mut)
            else {
                return fault(format!("there is no {first} `{name}`"));
            };
            one.insert((*key).to_owned(), set.value.clone());
        }
        ("population" | "phase", [name, key]) => {
            let default = |one: &Value| match first {
                "phase" => one.get("kind").and_then(Value::as_str).unwrap_or("steady").to_owned(),
                _ => EVERYBODY.to_owned(),
            };
            let names =
                |one: &Value| one.get("name").and_then(Value::as_str).map_or_else(|| default(one), str::to_owned);
            let all = table.get_mut(first).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default();
            let known: Vec<String> = all.iter().map(names).collect();
            let at = known.iter().position(|known| known == name);
            let at = at.or_else(|| name.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < known.len()));
            let Some(one) = at.and_then(|at| all[at].as_table_mut()) else {
                return fault(format!("there is no {first} `{name}`; there are {}", known.join(", ")));
            };
            one.insert((*key).to_owned(), set.value.clone());
            return Ok(format!("{first}.{}.{key}", at.map_or(0, |at| at + 1)));
        }
        _ => {
            return fault(
                "write it as KEY, graph.KEY, or as population, network, behaviour or phase with a name: phase.NAME.KEY"
                    .into(),
            );
        }
    }
    Ok(set.path.clone())
}

/// Keys that are not known, and values that are of another kind than they must be.
fn look(table: &Table) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, value) in table {
        match (name.as_str(), value) {
            ("graph", Value::Table(graph)) => one::<Graph>("graph", "graph", graph, &mut faults),
            ("network" | "behaviour", Value::Table(all)) => {
                for (own, value) in all {
                    let at = format!("{name}.{own}");
                    match (name.as_str(), value) {
                        ("network", Value::Table(network)) => one::<Network>("network", &at, network, &mut faults),
                        (_, Value::Table(behaviour)) => one::<Behaviour>("behaviour", &at, behaviour, &mut faults),
                        _ => faults.push(Fault::new(at, format!("each has a name: write [{name}.some-name]"))),
                    }
                }
            }
            ("population" | "phase", Value::Array(all)) => {
                for (at, value) in all.iter().enumerate() {
                    let at = format!("{name}.{}", at + 1);
                    match (name.as_str(), value) {
                        ("population", Value::Table(one_of)) => {
                            one::<Population>("population", &at, one_of, &mut faults);
                        }
                        (_, Value::Table(one_of)) => one::<Phase>("phase", &at, one_of, &mut faults),
                        _ => faults.push(Fault::new(at, format!("write it as a table: [[{name}]]"))),
                    }
                }
            }
            ("population" | "phase", _) => {
                faults.push(Fault::new(name, format!("there may be several: write [[{name}]]")));
            }
            ("graph", _) => faults.push(Fault::new(name, "write it as a table: [graph]")),
            ("network" | "behaviour", _) => {
                faults.push(Fault::new(name, format!("each has a name: write [{name}.some-name]")));
            }
            _ => {
                let tables = keys::TABLES.iter().copied();
                try_one::<Spec>(name, keys::of("").chain(tables), name, value, &mut faults);
            }
        }
    }
    faults
}

/// Each key of a table by itself.
fn one<T: DeserializeOwned>(kind: &'static str, at: &str, table: &Table, faults: &mut Vec<Fault>) {
    for (name, value) in table {
        try_one::<T>(name, keys::of(kind), &format!("{at}.{name}"), value, faults);
    }
}

fn try_one<'a, T: DeserializeOwned>(
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    at: &str,
    value: &Value,
    faults: &mut Vec<Fault>,
) {
    if !known.clone().any(|known| known == name) {
        let all: Vec<&str> = known.clone().collect();
        let meant = match keys::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", all.join(", ")),
        };
        return faults.push(Fault::new(at, format!("this key is not known; {meant}")));
    }
    let alone = Table::from_iter([(name.to_owned(), value.clone())]);
    if let Err(error) = T::deserialize(alone) {
        faults.push(Fault::new(at, error.message().to_owned()));
    }
}
