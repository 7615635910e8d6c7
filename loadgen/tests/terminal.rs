//! The dashboard on a real terminal, and the terminal after it.
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// Enters and leaves the terminal's other screen; hides and shows the cursor.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";
const SHOW: &str = "\u{1b}[?25h";
/// How long anything here may take before something is wrong.
const WITHIN: Duration = Duration::from_secs(60);

/// A terminal: what is written to it, and its other end.
struct Terminal {
    screen: File,
    line: OwnedFd,
}

/// A run, which does not outlive its test.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminal() -> Terminal {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::io::ioctl_fionbio(&screen, true).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let line = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&line, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut modes = tcgetattr(&line).unwrap();
    modes.local_modes.insert(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&line, OptionalActions::Now, &modes).unwrap();
    Terminal { screen: screen.into(), line: line.into() }
}

impl Terminal {
    /// Runs it here.
    fn spawn(&self, command: &mut Command) -> Run {
        let end = || self.line.try_clone().unwrap();
        Run(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap())
    }

    /// Reads until `text` was written, and returns what was.
    fn read_until(&mut self, text: &str) -> String {
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        let until = Instant::now() + WITHIN;
        loop {
            match self.screen.read(&mut part) {
                Ok(count) => all.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("the terminal is gone: {error}"),
            }
            let read = String::from_utf8_lossy(&all);
            if read.contains(text) {
                return read.into_owned();
            }
            assert!(Instant::now() < until, "{text} was not written: {read}");
        }
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.line).unwrap().local_modes
    }
}

#[test]
fn a_signal_gives_the_terminal_back_as_it_was() {
    let out = tempfile::tempdir().unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut terminal = terminal();
        let before = terminal.modes();
        let args = ["quick", "--clients", "10", "--rate", "50", "--for", "600s"];
        let mut run = terminal.spawn(common::command(&args, out.path()).env("TERM", "xterm-256color"));
        let shown = terminal.read_until("of 600");
        assert!(shown.contains(ENTER), "no dashboard: {shown}");
        let meanwhile = terminal.modes();
        assert!(!meanwhile.contains(LocalModes::ECHO), "keys would be written into the picture");
        assert!(meanwhile.contains(LocalModes::ISIG), "Ctrl-C is a signal still");
        kill_process(Pid::from_child(&run.0), signal).unwrap();
        let after = terminal.read_until("report.html");
        assert_eq!(run.0.wait().unwrap().code(), Some(130), "{after}");
        let left = after.find(LEAVE).expect("the other screen is left");
        assert!(after.contains(SHOW), "the cursor is shown again");
        // The summary stands on the screen that stays.
        assert!(after[left..].contains("INTERRUPTED"), "{after}");
        assert_eq!(terminal.modes(), before);
    }
}

#[test]
fn plain_is_lines_without_control_sequences() {
    let out = tempfile::tempdir().unwrap();
    let mut terminal = terminal();
    let args = ["quick", "--clients", "10", "--rate", "50", "--for", "2s", "--plain"];
    let _run = terminal.spawn(common::command(&args, out.path()).env("TERM", "xterm-256color"));
    let shown = terminal.read_until("report.html");
    assert!(shown.contains("connecting") && shown.contains("acknowledged/s"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn a_terminal_that_can_do_nothing_gets_lines() {
    let out = tempfile::tempdir().unwrap();
    let mut terminal = terminal();
    let args = ["quick", "--clients", "10", "--rate", "50", "--for", "1s"];
    let _run = terminal.spawn(common::command(&args, out.path()).env("TERM", "dumb"));
    let shown = terminal.read_until("report.html");
    assert!(!shown.contains(ENTER), "{shown:?}");
}
