//! Named places where a test lets the store die, fail, wait, or write half of what it was to write.
//!
//! A test sets the environment variable [`VARIABLE`] of a child process to `place=action` or `place=action@3` (at the
//! third passage). A place is a variant of [`Point`]: one that is not listed does not compile, and one that is listed
//! and never passed fails the test that walks [`Point::ALL`]. Nothing of this is in a build without the feature
//! `failpoints`: there [`failpoint!`] is empty.
//!
//! The crate `fail` was weighed: it has a registry at run time where a name may be misspelt, and nothing that tears a
//! batch. This is smaller.

/// Passes a named place. Gives `io::Result<()>` to the `?` it has inside.
macro_rules! failpoint {
    ($point:ident) => {
        #[cfg(feature = "failpoints")]
        $crate::embedded::failpoint::pass($crate::embedded::failpoint::Point::$point)?;
    };
}

/// The bytes to write at a named place: all of them, unless a test wants half and then death.
macro_rules! torn {
    ($point:ident, $bytes:expr, $write:expr) => {{
        #[cfg(feature = "failpoints")]
        if $crate::embedded::failpoint::tears($crate::embedded::failpoint::Point::$point) {
            let bytes: &[u8] = $bytes;
            $write(&bytes[..bytes.len() / 2])?;
            $crate::embedded::failpoint::die();
        }
        $write($bytes)
    }};
}

pub(crate) use {failpoint, torn};

#[cfg(feature = "failpoints")]
pub use active::{Point, VARIABLE, When};
#[cfg(feature = "failpoints")]
pub(crate) use active::{die, pass, tears};

#[cfg(feature = "failpoints")]
mod active {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Duration;

    /// Names the place, the action and the passage: `place=kill`, `place=error@2`, `place=delay`, `place=torn`.
    pub const VARIABLE: &str = "ROOST_STORAGE_FAILPOINT";

    macro_rules! points {
        ($($point:ident $name:literal $torn:literal $when:ident,)*) => {
            /// Every place.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Point {
                $(#[doc = $name] $point,)*
            }

            impl Point {
                /// All of them, in no order.
                pub const ALL: &[Self] = &[$(Self::$point,)*];

                /// Its name in [`VARIABLE`].
                #[must_use]
                pub const fn name(self) -> &'static str {
                    match self { $(Self::$point => $name,)* }
                }

                /// True if half of a write can be left there.
                #[must_use]
                pub const fn tears(self) -> bool {
                    match self { $(Self::$point => $torn,)* }
                }

                /// What a process must do to pass there.
                #[must_use]
                pub const fn when(self) -> When {
                    match self { $(Self::$point => When::$when,)* }
                }
            }
        };
    }

    /// What leads to a place.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum When {
        /// Making a store.
        Make,
        /// Opening one that has a journal with a torn end.
        OpenTorn,
        /// Opening one of the former format.
        Migrate,
        /// Opening one.
        Open,
        /// Writing.
        Write,
        /// Closing.
        Close,
        /// Asking for a secret for the first time.
        Secret,
        /// Repairing a damaged one.
        Repair,
    }

    points! {
        DirMake "directory.make" false Make,
        DirSync "directory.sync-parent" false Make,
        LockOpen "directory.lock" false Open,
        LockSign "directory.lock-sign" true Open,
        Clear "directory.clear-unfinished" false Make,
        ManifestBegin "directory.first-manifest" false Make,
        ManifestReady "directory.ready" false Make,
        WholeCreate "files.create-temporary" false Make,
        WholeWrite "files.write-temporary" true Make,
        WholeSync "files.sync-temporary" false Make,
        WholeRename "files.rename" false Make,
        WholeSyncDir "files.sync-directory" false Make,
        SecretDir "files.make-secret-directory" false Secret,
        SecretWrite "files.write-secret" false Secret,
        JournalTrim "engine.trim-journal" false OpenTorn,
        JournalTrimSync "engine.sync-trimmed-journal" false OpenTorn,
        TablesOpen "engine.open-tables" false Open,
        TablesMake "engine.make-tables" false Make,
        TablesSync "engine.sync-after-open" false Open,
        LedgerMake "ledger.make" true Make,
        LedgerFirst "ledger.first-commit" false Make,
        LedgerWrite "ledger.write" true Write,
        LedgerSync "ledger.sync" false Write,
        Migrate "ledger.migrate" false Migrate,
        MigrateDone "ledger.migrated" false Migrate,
        CommitBegin "commit.before-the-batch" false Write,
        CommitTorn "commit.batch" true Write,
        CommitSynced "commit.synced-not-shown" false Write,
        CommitShown "commit.shown-not-noted" false Write,
        CommitNoted "commit.noted-not-answered" false Write,
        CommitAnswered "commit.answered" false Write,
        WriterEnd "writer.end" false Close,
        BackupCopy "repair.copy-to-backup" false Repair,
        BackupDone "repair.backup-done" false Repair,
        RepairBegin "repair.make-new-tables" false Repair,
        RepairWrite "repair.write-new-tables" false Repair,
        RepairAside "repair.set-old-tables-aside" false Repair,
        RepairPlace "repair.put-new-tables-in-place" false Repair,
        RepairDone "repair.write-manifest" false Repair,
        RepairClean "repair.remove-old-tables" false Repair,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Error,
        Delay,
        Torn,
    }

    struct Plan {
        place: String,
        action: Action,
        passages_left: AtomicU32,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| parse(&text))).as_ref()
    }

    fn parse(text: &str) -> Plan {
        let (place, action) = text.split_once('=').unwrap_or_else(|| panic!("{VARIABLE}: no `=` in {text}"));
        let (action, count) = action.split_once('@').unwrap_or((action, "1"));
        let action = match action {
            "kill" => Action::Kill,
            "error" => Action::Error,
            "delay" => Action::Delay,
            "torn" => Action::Torn,
            other => panic!("{VARIABLE}: unknown action {other}"),
        };
        assert!(Point::ALL.iter().any(|point| point.name() == place), "{VARIABLE}: unknown place {place}");
        let passages_left = count.parse().unwrap_or_else(|error| panic!("{VARIABLE}: {count}: {error}"));
        Plan { place: place.to_owned(), action, passages_left: AtomicU32::new(passages_left) }
    }

    /// The plan, if this passage is the one it means.
    fn due(point: Point, wanted: impl Fn(Action) -> bool) -> Option<&'static Plan> {
        let plan = plan().filter(|plan| plan.place == point.name() && wanted(plan.action))?;
        let left = plan.passages_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        let due = left == Ok(1);
        if due {
            eprintln!("failpoint {}", point.name()); // the parent must know that the child came here
        }
        due.then_some(plan)
    }

    pub(crate) fn pass(point: Point) -> io::Result<()> {
        match due(point, |action| action != Action::Torn).map(|plan| plan.action) {
            Some(Action::Kill) => die(),
            Some(Action::Error) => Err(io::Error::other(format!("an injected failure at {}", point.name()))),
            Some(Action::Delay) => {
                std::thread::sleep(Duration::from_millis(30));
                Ok(())
            }
            Some(Action::Torn) | None => Ok(()),
        }
    }

    pub(crate) fn tears(point: Point) -> bool {
        due(point, |action| action == Action::Torn).is_some()
    }

    /// SIGKILL, as a crash would be: no destructor runs.
    pub(crate) fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
