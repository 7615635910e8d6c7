use std::collections::BTreeSet;
use std::time::Duration;

use super::compile::Compiled;
use super::keys::KEYS;
use super::read::Set;
use super::spec::{Behaviour, Engine, Graph, Network, Phase, Population, Spec, Time};
use super::*;

const DOC: &str = include_str!("../../../docs/scenarios.md");

fn full(text: &str) -> Scenario {
    match Spec::read(text, "test", &[]).unwrap().compile() {
        Compiled::Full(scenario) => *scenario,
        #[cfg(target_os = "linux")]
        Compiled::Lean(_) => panic!("it is for lean clients"),
    }
}

fn faults(text: &str) -> Vec<String> {
    let faults = Spec::read(text, "test.toml", &[]).expect_err(text);
    faults.all.iter().map(ToString::to_string).collect()
}

/// A scenario that is well, with more at its end.
fn with(more: &str) -> String {
    format!(
        "[[population]]\nusers = 10\nbehaviour = \"b\"\n[behaviour.b]\nthink = \"1s\"\n[[phase]]\nfor = \"1s\"\n{more}"
    )
}

#[test]
fn the_document_has_a_row_for_each_key_with_its_default_and_limits_and_no_other() {
    let mut rows = BTreeSet::new();
    let mut table = None;
    for line in DOC.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            let named = title.split(['`', '.', ' ']).map(|word| word.trim_matches(['[', ']']));
            table = named.clone().find(|word| keys::TABLES.contains(word)).or(Some(""));
        } else if line.starts_with("## ") {
            table = None;
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let (Some(table), [key, default, limits, _]) = (table, &cells[..])
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            assert!(rows.insert((table, key, *default, *limits)), "{table}.{key} is there twice");
        }
    }
    let known: BTreeSet<_> = KEYS.iter().map(|key| (key.table, key.name, key.default, key.limits)).collect();
    let missing: Vec<_> = known.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&known).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not in docs/scenarios.md: {missing:#?}\nnot a key: {unknown:#?}"
    );
}

#[test]
fn the_list_of_keys_is_what_the_parser_takes() {
    fn names(of: impl Serialize) -> BTreeSet<String> {
        let Ok(toml::Value::Table(table)) = toml::Value::try_from(of) else { panic!("it is a table") };
        table.keys().cloned().collect()
    }
    let time = Some(Time::seconds(1));
    let population = Population { network: Some("n".into()), behaviour: Some("b".into()), ..Population::default() };
    let behaviour = Behaviour {
        think: time,
        rate: Some(1.0),
        awake: time,
        asleep: time,
        answers: Some(1.0),
        after: time,
        ..Behaviour::default()
    };
    let phase = Phase {
        pace: Some(1.0),
        online: Some(1.0),
        together: Some(1),
        share: Some(1.0),
        how: Some(Cut::Fin),
        window: time,
        publishes: Some(1),
        rate: Some(1.0),
        ..Phase::default()
    };
    for (table, fields) in [
        ("", names(Spec::default())),
        ("population", names(population)),
        ("network", names(Network::default())),
        ("behaviour", names(behaviour)),
        ("graph", names(Graph::default())),
        ("phase", names(phase)),
    ] {
        let tables = keys::TABLES.iter().copied().filter(|_| table.is_empty());
        let listed: BTreeSet<String> = keys::of(table).chain(tables).map(str::to_owned).collect();
        assert_eq!(fields, listed, "{table}");
    }
}

#[test]
fn defaults_are_those_of_the_document() {
    let spec = Spec::default();
    for (key, default) in [
        ("bytes", spec.bytes.to_string()),
        ("seed", spec.seed.to_string()),
        ("connect_rate", spec.connect_rate.to_string()),
        ("grace", spec.grace.to_string()),
        ("marks_after", spec.marks_after.to_string()),
        ("heartbeat", spec.heartbeat.to_string()),
        ("partners", spec.graph.partners.to_string()),
        ("groups", spec.graph.groups.to_string()),
        ("group_min", spec.graph.group_min.to_string()),
        ("group_max", spec.graph.group_max.to_string()),
        ("group_zipf", spec.graph.group_zipf.to_string()),
        ("subscribers", spec.graph.subscribers.to_string()),
        ("connected", Population::default().connected.to_string()),
        ("direct", Behaviour::default().direct.to_string()),
        ("channel", Behaviour::default().channel.to_string()),
    ] {
        let said = KEYS.iter().find(|known| known.name == key).unwrap().default.replace('`', "");
        assert_eq!(said, default, "{key}");
    }
}

#[test]
fn the_document_s_example_and_every_ready_scenario_is_without_faults() {
    let (_, example) = DOC.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    assert_eq!(full(example).clients, 1000);
    for (name, _) in ready::READY {
        let spec = Spec::find(name, &[]).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(spec.name == *name && !spec.about.is_empty(), "{name}");
        assert!(DOC.contains(&format!("| `{name}` |")), "{name} has no row in docs/scenarios.md");
        let told = summary::of(&spec);
        assert!(told.contains("memory") && told.contains("descriptors"), "{told}");
    }
}

#[test]
fn each_fault_is_told_with_its_line_and_its_key() {
    let text = "\
        clints = \"full\"\n\
        grace = 5\n\
        [[population]]\n\
        users = -3\n\
        behavior = \"chatty\"\n\
        [behaviour.chatty]\n\
        think = \"soon\"\n\
        [[phase]]\n\
        kind = \"strom\"\n\
        for = \"1s\"\n";
    let told = faults(text);
    for (line, key, part) in [
        (1, "clints", "did you mean `clients`"),
        (2, "grace", "a time with its unit"),
        (5, "population.1.behavior", "did you mean `behaviour`"),
        (7, "behaviour.chatty.think", "`soon` is no time"),
        (9, "phase.1.kind", "unknown variant `strom`"),
    ] {
        let found = told.iter().find(|fault| fault.starts_with(&format!("line {line}: {key}: ")));
        assert!(found.is_some_and(|fault| fault.contains(part)), "{line} {key} {part}: {told:#?}");
    }
    assert_eq!(told.len(), 5, "what it means is looked at when it can be read: {told:#?}");
    assert!(faults("a = [1,\n  2\nb = 3\n")[0].starts_with("line "), "{:?}", faults("a = [1,\n  2\nb = 3\n"));
}

#[test]
fn what_means_nothing_is_refused_and_says_what_to_do() {
    for (text, key, part) in [
        (String::new(), "population", "[[population]]"),
        (with("pace = -1"), "line 8: phase.1.pace", "between 0 and 1000"),
        (with("share = 0.5"), "line 8: phase.1.share", "storm and network"),
        (with("[[phase]]\nkind = \"storm\"\nfor = \"1s\"\nshare = 0"), "phase.2.share", "above 0"),
        (with("[[phase]]\nfor = \"1s\""), "phase.2.name", "two phases `steady`"),
        (with("[[phase]]\nname = \"x\""), "phase.2.for", "between 100ms"),
        (with("[[phase]]\nkind = \"echo\"\nfor = \"1s\""), "phase.2.kind", "lean"),
        (with("[behaviour.c]\nthink = \"1s\""), "behaviour.c", "nobody behaves so"),
        (with("[network.bad]\ndelay = \"1s\""), "network.bad", "nobody uses it"),
        (with("[graph]\npartners = 0"), "graph", "nobody to write to"),
        (with("[graph]\ngroup_max = 2"), "graph.group_max", "between 3 and 512"),
        (
            format!("thresholds = [\"lost == 0\", \"p98_delivery < 1s\"]\n{}", with("")),
            "line 1: thresholds.2",
            "p98_delivery",
        ),
        (format!("bytes = 3\n{}", with("")), "line 1: bytes", "between 46"),
        (format!("tickets = true\n{}", with("")), "line 1: tickets", "lean"),
        (format!("sdk_share = 2\n{}", with("")), "line 1: sdk_share", "between 0 and 1"),
        (with("").replace("users = 10", "users = 10\nconnected = 0"), "population.1.connected", "above 0"),
        (with("").replace("users = 10", "users = 5000000"), "population", "--scale"),
        (with("").replace("\"b\"", "\"c\""), "population.1.behaviour", "no [behaviour.c]"),
        (with("").replace("think = \"1s\"", "awake = \"1s\""), "behaviour.b.awake", "give asleep"),
        (with("").replace("think = \"1s\"", "after = \"1s\""), "behaviour.b.after", "give answers"),
        (with("").replace("think = \"1s\"", "think = \"1s\"\nrate = 5"), "behaviour.b.rate", "leave out one"),
        (with("").replace("think = \"1s\"", "think = \"1s\"\ndirect = 0\ngroup = 0"), "behaviour.b.direct", "nowhere"),
        (
            with("").replace("users = 10", "users = 10\nnetwork = \"n\"") + "[network.n]\nloss = 0.1",
            "population.1.network",
            "quic",
        ),
        (format!("clients = \"lean\"\n{}", with("")), "population.1.behaviour", "lean clients have none"),
        (format!("arrivals = \"closed\"\n{}", with("[graph]\npartners = 0")), "graph.partners", "direct messages"),
    ] {
        let told = faults(&text);
        assert!(
            told.iter().any(|fault| fault.contains(key) && fault.contains(part)),
            "{key} {part}: {told:#?}\n{text}"
        );
    }
}

#[test]
fn lean_clients_do_their_phases_in_order() {
    let lean = "clients = \"lean\"\n[[population]]\nusers = 10\n";
    let phase = |kind: &str| format!("[[phase]]\nkind = \"{kind}\"\nfor = \"1s\"\n");
    let told = faults(&(lean.to_owned() + &phase("storm") + &phase("steady") + &phase("deploy")));
    assert!(told.iter().any(|fault| fault.contains("phase.2.kind") && fault.contains("in this order")), "{told:?}");
    assert!(told.iter().any(|fault| fault.contains("phase.3.kind") && fault.contains("full")), "{told:?}");
}

#[test]
fn what_people_write_becomes_what_is_run() {
    let scenario = full(
        "bytes = 64\nconnect_rate = 100\n\
        [[population]]\nname = \"a\"\nusers = 1000\nconnected = 0.1\ndevices = 2\nbehaviour = \"x\"\n\
        [[population]]\nname = \"b\"\nusers = 50\nbehaviour = \"y\"\n\
        [behaviour.x]\nthink = \"20s\"\nawake = \"3s\"\nasleep = \"2s\"\n\
        [behaviour.y]\nrate = 7\nchannel = 1\nanswers = 0.5\n\
        [graph]\nchannels = 2\nsubscribers = 0.5\ngroups = 1\n\
        [[phase]]\nkind = \"ramp\"\nfor = \"2s\"\nonline = 0.5\n\
        [[phase]]\nkind = \"burst\"\nfor = \"1s\"\n\
        [[phase]]\nkind = \"storm\"\nfor = \"4s\"\nhow = \"fin\"\n\
        [[phase]]\nkind = \"drain\"\nfor = \"1s\"\n",
    );
    assert_eq!((scenario.clients, scenario.users(), scenario.body_bytes), (250, 150, 64));
    assert_eq!(scenario.sends_per_second(), 100.0 / 20.0 + 7.0);
    assert_eq!(scenario.crowds[0].sleeps.map(|sleeps| sleeps.asleep), Some(Duration::from_secs(2)));
    assert_eq!(scenario.crowds[1].answers, Some(Answers { share: 0.5, after: Duration::from_secs(1) }));
    let phases: Vec<_> =
        scenario.phases.iter().map(|phase| (phase.online, phase.pace, phase.gradual, phase.together)).collect();
    assert_eq!(phases, [(0.5, 1.0, true, 1), (0.5, 5.0, false, 10), (0.5, 1.0, false, 1), (0.0, 0.0, true, 1)]);
    let storm = Event::Storm { share: 1.0, how: Cut::Fin, window: Duration::from_secs(1) };
    assert_eq!((scenario.phases[2].event, scenario.load.hold()), (storm, Duration::from_secs(8)));
    assert_eq!(scenario.population.channels, [Channel { subscribers: 0.5, publishers: 1 }; 2]);
    let text = serde_json::to_string(&scenario).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario, "it can be told to a worker");
}

#[test]
fn sizes_of_groups_follow_zipf_and_neighbours_stand_for_each_other() {
    let graph = Graph { groups: 1.0, group_min: 2, group_max: 500, group_zipf: 1.5, ..Graph::default() };
    let text = format!(
        "[[population]]\nusers = 10\n[[phase]]\nfor = \"1s\"\n[graph]\ngroups = 1\ngroup_min = {}\ngroup_max = {}\n",
        graph.group_min, graph.group_max
    );
    let sizes = full(&text).population.group_sizes;
    assert!(sizes.len() <= 33 && sizes.windows(2).all(|pair| pair[0].members < pair[1].members), "{sizes:?}");
    let weight = |size: u32| f64::from(size).powf(-1.5);
    let (mean, total) = sizes
        .iter()
        .fold((0.0, 0.0), |(mean, total), size| (mean + f64::from(size.members) * size.weight, total + size.weight));
    let (exact, whole) =
        (2..=500).fold((0.0, 0.0), |(mean, total), size| (mean + f64::from(size) * weight(size), total + weight(size)));
    assert!((total - 1.0).abs() < 1e-6 && (mean / total / (exact / whole) - 1.0).abs() < 0.02);
}

#[test]
fn flags_change_what_they_name_and_keep_the_rest_in_proportion() {
    let text = with("[[phase]]\nname = \"later\"\nfor = \"3s\"\n");
    let read = |sets: &[&str]| {
        let sets: Vec<Set> = sets.iter().map(|set| set.parse().unwrap()).collect();
        Spec::read(&text, "test", &sets)
    };
    let mut spec =
        read(&["phase.later.for=9s", "graph.partners=4", "bytes=64", "population.1.users=20", "behaviour.b.think=2s"])
            .unwrap();
    assert_eq!((spec.phase[1].hold, spec.graph.partners, spec.bytes), (Time::seconds(9), 4.0, 64));
    assert_eq!(spec.behaviour["b"].think, Some(Time::seconds(2)));
    spec.with_length(Duration::from_secs(5));
    assert_eq!((spec.phase[0].hold.0, spec.phase[1].hold.0), (Duration::from_millis(500), Duration::from_millis(4500)));
    spec.with_clients(400);
    assert_eq!(compile::clients(&spec), 400.0);
    assert!(spec.with_rate(1000.0));
    let Compiled::Full(scenario) = spec.compile() else { panic!("it is for full clients") };
    assert!((scenario.sends_per_second() - 1000.0).abs() < 1e-6);
    for (set, part) in [
        ("phase.soon.for=1s", "no phase `soon`; there are steady, later"),
        ("behaviour.c.think=1s", "no behaviour `c`"),
        ("graph.partner=1", "did you mean `partners`"),
        ("phase.later.for=9", "a time with its unit"),
        ("nothing.of.it.at.all=9", "phase.NAME.KEY"),
    ] {
        let told = read(&[set]).unwrap_err().to_string();
        assert!(told.contains(part) && !told.contains("line "), "{set}: {told}");
    }
    assert!("bytes".parse::<Set>().is_err() && "=3".parse::<Set>().is_err());
}

#[test]
fn a_name_that_is_nearly_one_of_ours_is_told() {
    let told = Spec::find("chatday", &[]).unwrap_err().to_string();
    assert!(told.contains("did you mean `chat-day`"), "{told}");
    assert!(Spec::find("src", &[]).unwrap_err().to_string().contains("no file"));
}

#[cfg(target_os = "linux")]
#[test]
fn short_forms_and_ready_scenarios_mean_the_same() {
    let ready = |name: &str| match Spec::find(name, &[]).unwrap().compile() {
        Compiled::Full(scenario) => *scenario,
        Compiled::Lean(_) => panic!("{name} is for lean clients"),
    };
    let (quick, short) = (ready("quick"), Scenario::quick(2000, 2000.0, Duration::from_secs(20)));
    assert_eq!((quick.clients, quick.population, quick.load), (short.clients, short.population, short.load));
    assert_eq!((quick.crowds[0].sends_per_second, quick.crowds[0].shares.direct), (2000.0, 0.6));
    assert_eq!(
        (quick.grace, quick.connects_per_second, quick.body_bytes),
        (short.grace, short.connects_per_second, short.body_bytes)
    );
    let Compiled::Lean(broadcast) = Spec::find("broadcast", &[]).unwrap().compile() else {
        panic!("it is for lean clients")
    };
    assert_eq!((broadcast.connections, broadcast.broadcast.map(|one| one.publishes)), (2000, Some(500)));
    assert_eq!(Spec::find("hold", &[]).unwrap().clients, Engine::Lean);
}
