//! The metrics page: what edge, router, store and process count, in Prometheus' text format.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use roost_edge::{EdgeHandle, metrics as edge};
use roost_router::metrics as router;
use roost_storage::cql::ErrorKind;
use roost_storage::embedded::Histogram;
use roost_storage::{AnyStore, CqlStore, EmbeddedStore};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::admission::Admission;
use crate::backend::{Backend, Look};
use crate::fleet::NodeBus;
use crate::guests::Guests;
use crate::tls::Tls;

/// How often a store that is elsewhere is asked whether it answers.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The store, and whether it answers.
pub(crate) struct StoreWatch {
    store: AnyStore,
    failure: Arc<Mutex<Option<String>>>,
    looking: Option<JoinHandle<()>>,
}

impl StoreWatch {
    /// Begins to look.
    pub(crate) fn start(store: AnyStore) -> Self {
        let failure = Arc::<Mutex<Option<String>>>::default();
        let looking = match &store {
            AnyStore::Memory(_) | AnyStore::Embedded(_) => None,
            AnyStore::Cql(_) => {
                let (store, failure) = (store.clone(), Arc::clone(&failure));
                Some(tokio::spawn(async move {
                    loop {
                        let found = store.health().await.err().map(|error| error.to_string());
                        Self::saw(&failure, found);
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                }))
            }
        };
        Self { store, failure, looking }
    }

    fn saw(failure: &Mutex<Option<String>>, found: Option<String>) {
        let before = std::mem::replace(&mut *failure.lock(), found.clone());
        match (before, found) {
            (None, Some(error)) => tracing::error!(error, "the store does not answer"),
            (Some(_), None) => tracing::warn!("the store answers again"),
            _ => {}
        }
    }

    /// Writes what it still has to, at the end of a node.
    pub(crate) async fn flush(&self) {
        if let AnyStore::Cql(store) = &self.store {
            store.flush().await;
        }
    }

    /// Why it takes no writes; `None` while it does.
    pub(crate) fn failure(&self) -> Option<String> {
        match &self.store {
            AnyStore::Embedded(store) => store.stopped().map(|error| error.to_string()),
            AnyStore::Memory(_) | AnyStore::Cql(_) => self.failure.lock().clone(),
        }
    }
}

impl Drop for StoreWatch {
    fn drop(&mut self) {
        if let Some(looking) = &self.looking {
            looking.abort();
        }
    }
}

/// Who counts.
pub(crate) struct Sources {
    pub look: Look,
    /// `None` where no clients connect.
    pub front: Option<Front>,
}

/// Who counts of the public port.
pub(crate) struct Front {
    pub edge: EdgeHandle,
    pub guests: Arc<Guests>,
    pub memory: Arc<Admission>,
    pub tls: Option<Arc<Tls>>,
}

impl Sources {
    /// Sessions of clients on this node.
    pub(crate) fn sessions(&self) -> u64 {
        self.front.as_ref().map_or(0, |front| front.edge.metrics().sessions_open())
    }

    /// The page.
    pub(crate) fn render(&self) -> String {
        let mut page = Page::default();
        if let Some(front) = &self.front {
            front.tell(&mut page);
        }
        if let Backend::Router(router) = &self.look.backend {
            page.snapshot(&router.metrics());
        }
        match self.look.store.as_deref().map(|watch| &watch.store) {
            Some(AnyStore::Embedded(store)) => embedded_metrics(store, &mut page),
            Some(AnyStore::Cql(store)) => cql_metrics(store, &mut page),
            Some(AnyStore::Memory(_)) | None => {}
        }
        if let NodeBus::Redis(bus) = &self.look.bus {
            page.snapshot(&bus.metrics());
        }
        if let Some(link) = self.look.link() {
            page.snapshot(&link);
        }
        process_metrics(&mut page);
        page.text
    }
}

impl Front {
    fn tell(&self, page: &mut Page) {
        for sample in self.edge.metrics().iter() {
            let kind = match sample.kind {
                edge::Kind::Counter => "counter",
                edge::Kind::Gauge => "gauge",
            };
            page.sample(sample.name, sample.help, kind, &sample.labels, sample.value);
        }
        let (name, help) = ("roost_guests_refused_total", "Guests refused: too many from one address.");
        page.sample(name, help, "counter", NO_LABELS, self.guests.refused() as f64);
        self.memory_metrics(page);
        self.tls_metrics(page);
    }

    fn memory_metrics(&self, page: &mut Page) {
        let refusing = u8::from(!self.memory.is_open());
        let of = |bytes: u64| Some(bytes as f64);
        for (name, help, value) in [
            (
                "roost_memory_available_bytes",
                "Memory that can be taken before the kernel must kill: the least of the machine's and its control groups'.",
                self.memory.available_bytes().and_then(of),
            ),
            (
                "roost_memory_reserve_bytes",
                "Memory kept free: with less available new sessions are refused.",
                of(self.memory.reserve_bytes()),
            ),
            ("roost_memory_refusing", "1 while new sessions are refused, else 0.", Some(refusing.into())),
        ] {
            if let Some(value) = value {
                page.sample(name, help, "gauge", NO_LABELS, value);
            }
        }
    }

    fn tls_metrics(&self, page: &mut Page) {
        let Some(tls) = &self.tls else { return };
        let (name, help) = (
            "roost_tls_certificate_left_seconds",
            "Time until the certificate ends, if the port speaks TLS; below 0 it has.",
        );
        page.sample(name, help, "gauge", NO_LABELS, tls.left_s() as f64);
        let (name, help) =
            ("roost_tls_reloads_total", "Changed certificates: taken, or not because they cannot be used.");
        let (taken, failed) = tls.reloads();
        page.sample(name, help, "counter", &[("result", "taken")], taken as f64);
        page.sample(name, help, "counter", &[("result", "failed")], failed as f64);
    }
}

fn embedded_metrics(store: &EmbeddedStore, page: &mut Page) {
    let metrics = store.metrics();
    let seconds = |micros: u64| micros as f64 / 1e6;
    let name = "roost_store_commit_seconds";
    page.histogram(name, "Time of a commit, its fsync included.", &metrics.commit_micros, seconds);
    let name = "roost_store_commit_writes";
    page.histogram(name, "Writes that one commit carried.", &metrics.commit_writes, |writes| writes as f64);
    for (name, help, kind, value) in [
        ("roost_store_entries_total", "Entries stored.", "counter", &metrics.entries),
        ("roost_store_conflicts_total", "Appends that met another head.", "counter", &metrics.conflicts),
        ("roost_store_marks_total", "Marks stored.", "counter", &metrics.marks),
        ("roost_store_marks_asked_total", "Marks asked for.", "counter", &metrics.marks_asked),
        ("roost_store_queue_full_total", "Writes refused: too much was waiting.", "counter", &metrics.queue_full),
        ("roost_store_disk_full_total", "Commits refused: no room on the disk.", "counter", &metrics.disk_full),
        ("roost_store_busy_total", "Commits refused: tables lag behind.", "counter", &metrics.refused),
        ("roost_store_failed_total", "Commits that failed otherwise.", "counter", &metrics.failed),
        ("roost_store_queue_writes", "Writes waiting now.", "gauge", &metrics.queue_writes),
        ("roost_store_queue_marks", "Marks waiting now.", "gauge", &metrics.queue_marks),
    ] {
        page.sample(name, help, kind, NO_LABELS, value.load(Relaxed) as f64);
    }
}

fn cql_metrics(store: &CqlStore, page: &mut Page) {
    let metrics = store.metrics();
    let seconds = |micros: u64| micros as f64 / 1e6;
    let name = "roost_cql_append_seconds";
    page.histogram(name, "Time of a conditional batch, failed ones included.", &metrics.append_micros, seconds);
    let name = "roost_cql_request_seconds";
    page.histogram(name, "Time of a plain request, failed ones included.", &metrics.request_micros, seconds);
    for kind in ErrorKind::ALL {
        let failed = metrics.errors[kind as usize].load(Relaxed) as f64;
        page.sample("roost_cql_errors_total", "Failed requests.", "counter", &[("kind", kind.label())], failed);
    }
    for (name, help, value) in [
        ("roost_cql_retries_total", "Requests that were sent a second time.", &metrics.retries),
        ("roost_cql_entries_total", "Entries stored.", &metrics.entries),
        ("roost_cql_conflicts_total", "Appends that met another head.", &metrics.conflicts),
        ("roost_cql_ambiguous_total", "Appends whose outcome had to be read.", &metrics.ambiguous),
        ("roost_cql_unknown_total", "Appends of which that found out nothing.", &metrics.unknown),
        ("roost_cql_repairs_total", "Appends of other writers whose effects were applied here.", &metrics.repairs),
        ("roost_cql_shared_reads_total", "Reads answered together with another one.", &metrics.shared_reads),
        ("roost_cql_marks_total", "Marks stored.", &metrics.marks),
        ("roost_cql_notes_dropped_total", "Notes of applied effects that too many waited for.", &metrics.notes_dropped),
        ("roost_cql_losses_total", "Conversations that ended below what was acknowledged.", &metrics.losses),
    ] {
        page.sample(name, help, "counter", NO_LABELS, value.load(Relaxed) as f64);
    }
}

/// What the kernel says of this process, by the names that dashboards expect.
fn process_metrics(page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        page.sample("process_resident_memory_bytes", "Resident memory.", "gauge", NO_LABELS, bytes as f64);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.sample("process_open_fds", "Open file descriptors.", "gauge", NO_LABELS, open.count() as f64);
    }
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu_s = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    page.sample("process_cpu_seconds_total", "CPU time, user and system.", "counter", NO_LABELS, cpu_s);
}

/// `VmRSS` of this process; `None` where there is no /proc.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

const NO_LABELS: &[(&str, &str)] = &[];

/// Text in the making. Samples of one metric must follow each other.
#[derive(Default)]
struct Page {
    text: String,
    last: String,
}

impl Page {
    fn snapshot(&mut self, snapshot: &router::Snapshot) {
        for sample in snapshot.iter() {
            let kind = match sample.kind {
                router::Kind::Counter => "counter",
                router::Kind::Gauge => "gauge",
            };
            self.sample(sample.name, sample.help, kind, &sample.labels, sample.value);
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        if self.last != name {
            name.clone_into(&mut self.last);
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn sample(&mut self, name: &str, help: &str, kind: &str, labels: &[(&str, impl Display)], value: f64) {
        self.head(name, help, kind);
        self.text.push_str(name);
        for (place, (label, of)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"{of}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn histogram<const N: usize>(&mut self, name: &str, help: &str, of: &Histogram<N>, unit: impl Fn(u64) -> f64) {
        self.head(name, help, "histogram");
        let (buckets, count) = of.cumulative();
        let mut bucket = |bound: &dyn Display, below: u64| {
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        };
        for (bound, below) in buckets {
            bucket(&unit(bound), below);
        }
        bucket(&"+Inf", count);
        let _ = writeln!(self.text, "{name}_sum {}\n{name}_count {count}", unit(of.sum()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_head_for_the_samples_of_one_metric() {
        let mut page = Page::default();
        page.sample("a_total", "A.", "counter", NO_LABELS, 1.0);
        page.sample("b_total", "B.", "counter", &[("code", "4000")], 2.0);
        page.sample("b_total", "B.", "counter", &[("code", "4010"), ("x", "y")], 0.5);
        assert_eq!(
            page.text,
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n\
             # HELP b_total B.\n# TYPE b_total counter\nb_total{code=\"4000\"} 2\nb_total{code=\"4010\",x=\"y\"} 0.5\n"
        );
    }
}
