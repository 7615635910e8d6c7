//! Runs commands one after another, shows what runs and how long it took, and counts the tests in their output.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::tally::Tally;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask lies in the workspace").to_owned()
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Waits for the end of a process; one that takes longer than `limit` is killed, and `None`.
pub(crate) fn ended_within(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A command of cargo, of the same tool-chain that runs this.
pub(crate) fn cargo<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Steps that ran.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
    tally: Tally,
}

impl Steps {
    /// Runs a step whose output is only shown.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        self.timed(name, command, |command| Ok(command.status()?.success()))
    }

    /// Runs a step that is to say nothing: some checkers end well and only write what is wrong.
    pub(crate) fn silent(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        self.timed(name, command, |command| {
            let output = command.output()?;
            let said = [output.stdout, output.stderr].concat();
            std::io::stdout().write_all(&said)?;
            Ok(output.status.success() && said.is_empty())
        })
    }

    /// Runs a step whose output is shown and searched for the closing lines of test runners.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        let mut tally = Tally::default();
        let result = self.timed(name, command, |command| {
            let mut child = command.stdout(Stdio::piped()).spawn()?;
            let output = child.stdout.take().context("no output")?;
            let mut shown = std::io::stdout().lock();
            for line in BufReader::new(output).split(b'\n') {
                let line = line?;
                shown.write_all(&line)?;
                shown.write_all(b"\n")?;
                tally.line(&String::from_utf8_lossy(&line));
            }
            Ok(child.wait()?.success())
        });
        self.tally.add(&tally);
        result?;
        if tally.passed == 0 {
            bail!("{name}: it ran no test");
        }
        Ok(())
    }

    /// Runs a step that `run` watches to its end and that says how many tests passed and failed.
    pub(crate) fn watched(
        &mut self,
        name: &str,
        command: &mut Command,
        run: impl FnOnce(&mut Command) -> anyhow::Result<Tally>,
    ) -> anyhow::Result<()> {
        let mut tally = Tally::default();
        let result = self.timed(name, command, |command| {
            tally = run(command)?;
            Ok(tally.failed == 0)
        });
        self.tally.add(&tally);
        result
    }

    fn timed(
        &mut self,
        name: &str,
        command: &mut Command,
        run: impl FnOnce(&mut Command) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        println!("\n==> {name}: {command:?}");
        let began = Instant::now();
        let program = command.get_program().to_owned();
        let well = run(command).with_context(|| format!("{name}: cannot run {}", program.display()))?;
        self.done.push((name.to_owned(), began.elapsed(), well));
        if !well {
            bail!("{name} failed; to repeat it:\n  {command:?}");
        }
        Ok(())
    }

    /// Prints what ran. The last line counts the tests, if there were any.
    pub(crate) fn summary(&self) {
        println!();
        for (name, took, well) in &self.done {
            println!("{:>7.1} s  {}  {name}", took.as_secs_f64(), if *well { "well  " } else { "FAILED" });
        }
        if self.tally != Tally::default() {
            println!("{}", self.tally);
        }
    }
}
