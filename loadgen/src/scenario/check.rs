//! Whether a scenario means anything: each fault with its key and what to do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Transport;
use super::fault::Fault;
use super::spec::{Arrivals, Behaviour, Engine, Kind, Network, Phase, Population, Spec, Time};
use crate::client::body::BODY_BYTES_MIN;
use crate::threshold::Threshold;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const MS_100: Duration = Duration::from_millis(100);
/// Sessions that one process may be asked for.
pub(crate) const CLIENTS_MAX: u32 = 4_000_000;
/// Members of all conversations together: beyond it the plan itself is what takes the memory.
const MEMBERSHIPS_MAX: f64 = 2e8;

/// All that is wrong with it.
pub(crate) fn faults(spec: &Spec) -> Vec<Fault> {
    let mut look = Look { spec, faults: Vec::new() };
    look.top();
    look.populations();
    look.networks();
    look.behaviours();
    look.graph();
    look.phases();
    if spec.clients == Engine::Lean {
        look.lean();
    } else {
        look.full();
    }
    look.faults
}

struct Look<'a> {
    spec: &'a Spec,
    faults: Vec<Fault>,
}

impl Look<'_> {
    fn fault(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.faults.push(Fault::new(key, what));
    }

    fn number(&mut self, key: impl Into<String>, value: f64, from: f64, to: f64) {
        if !(from..=to).contains(&value) {
            self.fault(key, format!("{value} is not between {from} and {to}"));
        }
    }

    /// A share that is above nothing.
    fn part(&mut self, key: impl Into<String>, value: f64) {
        if !(value > 0.0 && value <= 1.0) {
            self.fault(key, format!("{value} is not above 0 and at most 1"));
        }
    }

    fn time(&mut self, key: impl Into<String>, value: Time, from: Duration, to: Duration) {
        if value.0 < from || value.0 > to {
            self.fault(key, format!("{value} is not between {} and {}", Time(from), Time(to)));
        }
    }

    fn top(&mut self) {
        let spec = self.spec;
        if spec.name.is_empty() || !spec.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            self.fault("name", format!("`{}` is no name: letters, digits and `-`", spec.name));
        }
        let bytes = (BODY_BYTES_MIN as f64, roost_wire::limits::TEXT_BYTES_MAX as f64);
        self.number("bytes", spec.bytes as f64, bytes.0, bytes.1);
        self.number("connect_rate", spec.connect_rate, 1.0, 1e6);
        self.number("sdk_share", spec.sdk_share, 0.0, 1.0);
        self.time("grace", spec.grace, MS_100, HOUR);
        self.time("marks_after", spec.marks_after, Duration::ZERO, HOUR);
        self.time("heartbeat", spec.heartbeat, SECOND, HOUR);
        for (at, text) in spec.thresholds.iter().enumerate() {
            if let Err(error) = text.parse::<Threshold>() {
                self.fault(format!("thresholds.{}", at + 1), format!("\"{text}\": {error}"));
            }
        }
    }

    fn populations(&mut self) {
        let spec = self.spec;
        if spec.population.is_empty() {
            self.fault("population", "nobody is there: write [[population]] with users = 1000");
        }
        let mut names = BTreeSet::new();
        for (at, population) in spec.population.iter().enumerate() {
            let key = |name: &str| format!("population.{}.{name}", at + 1);
            let Population { name, users, connected, devices, transport, network, behaviour } = population;
            if !names.insert(name) {
                self.fault(key("name"), format!("there are two populations `{name}`: give each a name of its own"));
            }
            self.number(key("users"), *users, 1e-9, 1e9);
            self.part(key("connected"), *connected);
            self.number(key("devices"), f64::from(*devices), 1.0, 8.0);
            match network.as_ref().map(|name| (name, spec.network.get(name))) {
                Some((name, None)) => self.fault(key("network"), format!("there is no [network.{name}]")),
                Some((name, Some(network))) if !transport.is_quic() && *network != Network::default() => self.fault(
                    key("network"),
                    format!("`{name}` delays and loses datagrams, or moves: transport = \"quic\" alone has any"),
                ),
                _ => {}
            }
            if let Some(name) = behaviour.as_ref().filter(|name| !spec.behaviour.contains_key(*name)) {
                self.fault(key("behaviour"), format!("there is no [behaviour.{name}]"));
            }
        }
        let clients = super::compile::clients(spec);
        if clients > f64::from(CLIENTS_MAX) {
            self.fault(
                "population",
                format!("{clients:.0} sessions are more than {CLIENTS_MAX}: run it with a smaller --scale"),
            );
        }
    }

    fn networks(&mut self) {
        let spec = self.spec;
        for (name, Network { delay, jitter, loss, migrating }) in &spec.network {
            let key = |key: &str| format!("network.{name}.{key}");
            self.time(key("delay"), *delay, Duration::ZERO, SECOND * 10);
            self.number(key("loss"), *loss, 0.0, 0.5);
            self.number(key("migrating"), *migrating, 0.0, 1.0);
            if jitter.0 > delay.0 {
                self.fault(
                    key("jitter"),
                    format!("{jitter} is more than the delay of {delay}: nothing arrives before it left"),
                );
            }
            if !spec.population.iter().any(|population| population.network.as_ref() == Some(name)) {
                self.fault(format!("network.{name}"), "nobody uses it: give a population network = … or leave it out");
            }
        }
    }

    fn behaviours(&mut self) {
        let spec = self.spec;
        for (name, behaviour) in &spec.behaviour {
            let key = |key: &str| format!("behaviour.{name}.{key}");
            let Behaviour { think, rate, direct, group, channel, awake, asleep, answers, after } = behaviour;
            if let Some(think) = think.filter(|_| spec.arrivals != Arrivals::Closed) {
                self.time(key("think"), think, MS_100 / 10, WEEK);
            }
            if let Some(rate) = rate {
                self.number(key("rate"), *rate, 0.001, 1e7);
                if think.is_some() {
                    self.fault(key("rate"), "think says it already: leave out one of them");
                }
            }
            for (name, share) in [("direct", direct), ("group", group), ("channel", channel)] {
                if !(*share >= 0.0 && share.is_finite()) {
                    self.fault(key(name), format!("{share} is no weight: 0 and up"));
                }
            }
            if (think.is_some() || rate.is_some()) && direct + group + channel <= 0.0 {
                self.fault(key("direct"), "its messages go nowhere: one of direct, group and channel must be above 0");
            }
            match (awake, asleep) {
                (Some(awake), Some(asleep)) => {
                    self.time(key("awake"), *awake, MS_100, WEEK);
                    self.time(key("asleep"), *asleep, MS_100, WEEK);
                }
                (None, None) => {}
                (Some(_), None) => self.fault(key("awake"), "give asleep as well: how long it is away"),
                (None, Some(_)) => self.fault(key("asleep"), "give awake as well: how long it stays"),
            }
            if let Some(answers) = answers {
                self.number(key("answers"), *answers, 0.0, 1.0);
            }
            if let Some(after) = after {
                self.time(key("after"), *after, Duration::ZERO, HOUR);
                if answers.is_none() {
                    self.fault(key("after"), "it is for those that answer: give answers as well");
                }
            }
            if !spec.population.iter().any(|population| population.behaviour.as_ref() == Some(name)) {
                self.fault(
                    format!("behaviour.{name}"),
                    "nobody behaves so: give a population behaviour = … or leave it out",
                );
            }
        }
    }

    fn graph(&mut self) {
        let graph = &self.spec.graph;
        self.number("graph.partners", graph.partners, 0.0, 100.0);
        self.number("graph.groups", graph.groups, 0.0, 100.0);
        self.number("graph.group_min", f64::from(graph.group_min), 2.0, 512.0);
        self.number("graph.group_max", f64::from(graph.group_max), f64::from(graph.group_min), 512.0);
        self.number("graph.group_zipf", graph.group_zipf, 0.0, 10.0);
        self.number("graph.channels", f64::from(graph.channels), 0.0, 1000.0);
        self.part("graph.subscribers", graph.subscribers);
        self.number("graph.publishers", f64::from(graph.publishers), 1.0, f64::from(CLIENTS_MAX));
        let memberships = super::compile::clients(self.spec)
            * (graph.partners + graph.groups + f64::from(graph.channels) * graph.subscribers);
        if memberships > MEMBERSHIPS_MAX {
            self.fault(
                "graph",
                format!("{memberships:.0} memberships are more than {MEMBERSHIPS_MAX:.0}: fewer partners, groups or subscribers"),
            );
        }
    }

    fn phases(&mut self) {
        let spec = self.spec;
        if spec.phase.is_empty() {
            self.fault("phase", "nothing happens: write [[phase]] with for = \"20s\"");
        }
        let mut names = BTreeSet::new();
        for (at, phase) in spec.phase.iter().enumerate() {
            let key = |name: &str| format!("phase.{}.{name}", at + 1);
            let Phase { name, kind, hold, pace, online, together, share, how, window, .. } = phase;
            if !names.insert(name) {
                self.fault(key("name"), format!("there are two phases `{name}`: give each a name of its own"));
            }
            if spec.clients == Engine::Full || !hold.0.is_zero() {
                self.time(key("for"), *hold, MS_100, WEEK);
            }
            for (name, value, to) in [("pace", pace, 1000.0), ("online", online, 1.0)] {
                if let Some(value) = value {
                    self.number(key(name), *value, 0.0, to);
                }
            }
            if let Some(together) = together {
                self.number(key("together"), f64::from(*together), 1.0, 1000.0);
            }
            if let Some(share) = share {
                self.part(key("share"), *share);
                if !matches!(kind, Kind::Storm | Kind::Network) {
                    self.fault(
                        key("share"),
                        format!("a phase of kind {} has none: it is for storm and network", kind.word()),
                    );
                }
            }
            if let Some(window) = window {
                self.time(key("window"), *window, MS_100, HOUR);
            }
            for (name, there) in [("how", how.is_some()), ("window", window.is_some())] {
                if there && *kind != Kind::Storm {
                    self.fault(key(name), format!("a phase of kind {} has none: it is for storm", kind.word()));
                }
            }
        }
    }

    /// What only the clients can do that are all there is to a user's.
    fn full(&mut self) {
        let spec = self.spec;
        if spec.tickets {
            self.fault("tickets", "only lean clients count handshakes: leave it out, or clients = \"lean\"");
        }
        for (at, phase) in spec.phase.iter().enumerate() {
            if matches!(phase.kind, Kind::Broadcast | Kind::Echo) {
                let kind = phase.kind.word();
                self.fault(
                    format!("phase.{}.kind", at + 1),
                    format!("{kind} is for lean clients: write clients = \"lean\" at the top"),
                );
            }
            for (name, there) in [("publishes", phase.publishes.is_some()), ("rate", phase.rate.is_some())] {
                if there {
                    let key = format!("phase.{}.{name}", at + 1);
                    self.fault(key, "it is for a broadcast of lean clients: here behaviours say what is sent");
                }
            }
            if phase.kind == Kind::Network && spec.population.iter().all(|one| one.users * one.connected < 1e-9) {
                self.fault(format!("phase.{}.kind", at + 1), "nobody is there");
            }
        }
        let sends = spec.behaviour.values().any(|one| one.think.is_some() || one.rate.is_some());
        if spec.arrivals == Arrivals::Closed {
            if spec.graph.partners <= 0.0 {
                self.fault("graph.partners", "closed arrivals are direct messages: there must be partners");
            }
            if spec.behaviour.values().any(|one| one.rate.is_some()) {
                self.fault("arrivals", "closed: everybody sends when the message before was acknowledged, at no rate");
            }
        } else if sends && spec.graph.partners <= 0.0 && spec.graph.groups <= 0.0 && spec.graph.channels == 0 {
            self.fault("graph", "there is nobody to write to: give partners, groups or channels");
        }
        for (name, behaviour) in &spec.behaviour {
            if behaviour.channel > 0.0 && spec.graph.channels == 0 && behaviour.direct + behaviour.group <= 0.0 {
                self.fault(format!("behaviour.{name}.channel"), "there are no channels: give graph.channels = 1");
            }
        }
    }

    /// What lean clients cannot do.
    fn lean(&mut self) {
        let spec = self.spec;
        if spec.population.len() > 1 {
            self.fault("population.2", "lean clients are all alike: one population");
        }
        for (there, key) in [
            (spec.sdk_share > 0.0, "sdk_share"),
            (spec.twice, "twice"),
            (spec.arrivals == Arrivals::Closed, "arrivals"),
            (spec.population.iter().any(|population| population.devices != 1), "population.1.devices"),
            (spec.population.iter().any(|population| population.behaviour.is_some()), "population.1.behaviour"),
            (spec.graph != super::spec::Graph::default(), "graph"),
        ] {
            if there {
                self.fault(key, "lean clients have none: leave it out, or write clients = \"full\"");
            }
        }
        if spec.tickets && spec.population.iter().any(|population| population.transport == Transport::Ws) {
            self.fault("tickets", "there are none without TLS: transport = \"wss\" or \"quic\"");
        }
        let order = [Kind::Ramp, Kind::Steady, Kind::Broadcast, Kind::Echo, Kind::Storm, Kind::Drain];
        let mut last = None;
        for (at, phase) in spec.phase.iter().enumerate() {
            let key = |name: &str| format!("phase.{}.{name}", at + 1);
            let place = order.iter().position(|kind| *kind == phase.kind);
            let words = order.map(Kind::word).join(", ");
            match place {
                None => self
                    .fault(key("kind"), format!("lean clients do {words}: leave it out, or write clients = \"full\"")),
                Some(place) if last.is_some_and(|last| place <= last) => {
                    self.fault(key("kind"), format!("lean clients do {words}, in this order and each once"));
                }
                Some(place) => last = Some(place),
            }
            for (name, there) in [
                ("pace", phase.pace.is_some()),
                ("online", phase.online.is_some()),
                ("share", phase.share.is_some_and(|share| share < 1.0)),
            ] {
                if there {
                    self.fault(key(name), "lean clients come all and send all: leave it out");
                }
            }
            match (phase.kind, phase.publishes) {
                (Kind::Broadcast, None) => self.fault(key("publishes"), "how many messages? write publishes = 20"),
                (Kind::Broadcast, Some(0)) => self.fault(key("publishes"), "0 is not 1 and up"),
                (Kind::Broadcast, Some(_)) | (_, None) => {}
                (_, Some(_)) => self.fault(key("publishes"), "it is for a phase of kind broadcast"),
            }
            if let Some(rate) = phase.rate {
                self.number(key("rate"), rate, 0.001, 1e7);
            }
            if matches!(phase.kind, Kind::Steady | Kind::Echo) && phase.hold.0.is_zero() {
                self.fault(key("for"), "for how long? write for = \"10s\"");
            }
        }
    }
}
