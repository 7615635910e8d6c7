//! What a run tells while it goes on: a dashboard on a terminal, a line every second elsewhere.
//!
//! It also keeps what only a bystander sees: when each step began, and what a [`Watch`] saw of the server.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::dashboard::Dashboard;
use crate::host::watch::{Watch, Watched};

/// How a run stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub live: u64,
    pub wanted: u64,
    /// Of the last second.
    pub sent: u64,
    pub acknowledged: u64,
    pub delivered: u64,
    /// Sessions that came about, where that is what goes on.
    pub connected: Option<u64>,
    pub delivery_p50_us: Option<u64>,
    pub delivery_p99_us: Option<u64>,
    /// So far.
    pub errors: u64,
    pub unsent: u64,
    /// Sessions that never came about, and that ended by themselves.
    pub failed: u64,
    pub dropped: u64,
    /// How late the generator is, at the 99th percentile so far; `None` for loads without intended times.
    pub late_p99_us: Option<u64>,
    /// Seconds of the load that are over, and that there are.
    pub second: Option<(u64, u64)>,
}

/// How much is told, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Telling {
    /// Nothing.
    pub quiet: bool,
    /// A line every second, whatever it is written to.
    pub plain: bool,
}

impl From<bool> for Telling {
    fn from(quiet: bool) -> Self {
        Self { quiet, plain: false }
    }
}

/// A step of a run, and when it began.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub name: String,
    pub began: Instant,
}

/// What was seen of a run from beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub steps: Vec<Step>,
    /// When second 0 of the load began.
    pub zero: Option<Instant>,
    pub ended: Option<Instant>,
    /// `None` if nobody looked at the server.
    pub watched: Option<Watched>,
}

/// Where it is told.
pub(crate) struct Progress {
    face: RefCell<Face>,
    seen: Seen,
    watching: Option<Watching>,
}

enum Face {
    Quiet,
    Lines,
    /// One live line.
    Bar(ProgressBar),
    Dashboard(Box<Dashboard>),
}

struct Watching {
    watch: Watch,
    pid: Option<u32>,
    admin: Option<SocketAddr>,
}

impl Progress {
    /// Tells on the terminal, if standard output is one; else on standard error.
    pub(crate) fn new(telling: impl Into<Telling>) -> Self {
        let Telling { quiet, plain } = telling.into();
        let face = if quiet {
            Face::Quiet
        } else if plain {
            Face::Lines
        } else if std::io::stdout().is_terminal()
            && let Some(dashboard) = Dashboard::open()
        {
            Face::Dashboard(Box::new(dashboard))
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {prefix:.bold} {wide_msg}");
            bar.set_style(style.expect("the template is well-formed"));
            bar.enable_steady_tick(Duration::from_millis(120));
            Face::Bar(bar)
        } else {
            Face::Lines
        };
        Self { face: RefCell::new(face), seen: Seen::default(), watching: None }
    }

    /// What is run, in a few words: the head of the dashboard.
    pub(crate) fn title(&self, title: &str) {
        if let Face::Dashboard(dashboard) = &mut *self.face.borrow_mut() {
            dashboard.board.title = title.to_owned();
            dashboard.draw();
        }
    }

    /// The phases of the load and how many seconds each is to last.
    pub(crate) fn plan(&self, phases: &[(String, f64)]) {
        if let Face::Dashboard(dashboard) = &mut *self.face.borrow_mut() {
            dashboard.board.plan = phases.to_vec();
            dashboard.draw();
        }
    }

    /// Looks at the server from now on: at a process of this host, and at the counters of an admin address.
    pub(crate) fn watch(&mut self, pid: Option<u32>, admin: Option<SocketAddr>) {
        self.watching = Some(Watching { watch: Watch::start(pid, admin), pid, admin });
    }

    /// Second 0 of the load is then.
    pub(crate) const fn zero(&mut self, at: Instant) {
        self.seen.zero = Some(at);
    }

    /// A step begins.
    pub(crate) fn phase(&mut self, phase: &str) {
        self.seen.steps.push(Step { name: phase.to_owned(), began: Instant::now() });
        match &mut *self.face.borrow_mut() {
            Face::Quiet => {}
            Face::Lines => eprintln!("{phase}"),
            Face::Bar(bar) => {
                bar.set_prefix(phase.to_owned());
                bar.set_message("");
            }
            Face::Dashboard(dashboard) => {
                dashboard.board.begin(phase);
                dashboard.draw();
            }
        }
    }

    /// How it stands; called about once a second.
    pub(crate) fn tell(&self, standing: &Standing) {
        self.tell_as(standing, &line(standing));
    }

    /// The same, with the caller's own words where there is a line only.
    pub(crate) fn tell_as(&self, standing: &Standing, line: &str) {
        if let Face::Dashboard(dashboard) = &mut *self.face.borrow_mut() {
            let looks = self.watching.as_ref().map(|watching| watching.watch.last());
            dashboard.board.tell(standing, looks);
            dashboard.draw();
            return;
        }
        self.line(line);
    }

    /// Something in words of the caller's.
    pub(crate) fn line(&self, line: &str) {
        match &mut *self.face.borrow_mut() {
            Face::Quiet => {}
            Face::Lines => eprintln!("  {line}"),
            Face::Bar(bar) => bar.set_message(line.to_owned()),
            Face::Dashboard(dashboard) => {
                dashboard.board.note = line.to_owned();
                dashboard.draw();
            }
        }
    }

    /// The run is over: gives the terminal back, and tells what was seen. Ask while the server still lives.
    pub(crate) fn end(mut self) -> Seen {
        let ended = Some(Instant::now());
        let watched = self.watching.take().map(|Watching { watch, pid, admin }| watch.end(pid, admin));
        Seen { ended, watched, ..std::mem::take(&mut self.seen) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Face::Bar(bar) = &*self.face.borrow() {
            bar.finish_and_clear();
        }
    }
}

fn line(standing: &Standing) -> String {
    let Standing { live, wanted, sent, acknowledged, delivered, delivery_p99_us, errors, second, .. } = standing;
    let mut line = String::new();
    if let Some((second, of)) = second {
        line += &format!("{second:>3}/{of} s  ");
    }
    line += &format!("{live}/{wanted} sessions");
    if second.is_some() {
        line += &format!("  {sent} sent/s  {acknowledged} acknowledged/s  {delivered} delivered/s");
        if let Some(us) = delivery_p99_us {
            line += &format!("  p99 {}", time(*us));
        }
    }
    if *errors > 0 {
        line += &format!("  {errors} errors");
    }
    line
}

/// Microseconds as people read them.
pub(crate) fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000 => format!("{:.2} ms", us as f64 / 1e3),
        10_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let mut standing = Standing { live: 7, wanted: 10, ..Standing::default() };
        assert_eq!(line(&standing), "7/10 sessions");
        standing.second = Some((3, 20));
        standing.delivery_p99_us = Some(12_345);
        standing.errors = 2;
        let told = line(&standing);
        assert_eq!(told, "  3/20 s  7/10 sessions  0 sent/s  0 acknowledged/s  0 delivered/s  p99 12.3 ms  2 errors");
    }

    #[test]
    fn times_keep_three_digits() {
        for (us, text) in
            [(7, "7 µs"), (1234, "1.23 ms"), (12_345, "12.3 ms"), (123_456, "123 ms"), (9_876_543, "9.88 s")]
        {
            assert_eq!(time(us), text);
        }
    }

    #[test]
    fn steps_are_kept_in_their_order() {
        let mut progress = Progress::new(true);
        progress.phase("connecting");
        progress.zero(Instant::now());
        progress.phase("load");
        let seen = progress.end();
        assert_eq!(seen.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["connecting", "load"]);
        assert!(seen.zero.is_some() && seen.watched.is_none() && seen.ended >= seen.zero);
    }
}
