//! Threads that move bytes for many clients: one epoll and a share of the clients each.
//!
//! The main thread tells all of them one [`Command`] at a time and waits until each has told [`Done`]; meanwhile they
//! tell what they measured, once a second, by [`Note::Tick`].

mod absence;
mod conn;
mod happen;
mod line;
mod load;
#[cfg(target_os = "linux")]
mod quic;
mod source;
mod steps;
mod timer;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use mio::{Poll, Token, Waker};
use roost_wire::{Seq, UserId, pb};

use crate::client::Names;
use crate::clock::Clock;
use crate::ledger::Evidence;
#[cfg(target_os = "linux")]
use crate::lines::Carrier;
use crate::plan::{ClientNo, Conv, Plan, UserNo};
use crate::recorder::Recorder;
use crate::scenario::Scenario;
use crate::schedule::{Digest, Speakers};

/// What all threads know and none changes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub scenario: Scenario,
    pub plan: Plan,
    pub speakers: Arc<Speakers>,
    pub clock: Clock,
    pub target: Target,
    /// What carries the connections of each crowd.
    #[cfg(target_os = "linux")]
    pub carriers: Vec<Carrier>,
    pub credentials: Credentials,
    pub threads: u32,
}

impl Shared {
    /// The device of a client: each of its user's has another.
    pub(crate) fn device(&self, client: ClientNo) -> String {
        let before =
            (1..=client).take_while(|back| self.plan.user_of(client - back) == self.plan.user_of(client)).count();
        if before == 0 { "load".into() } else { format!("load-{before}") }
    }
}

/// Where to connect.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub address: SocketAddr,
    /// As in the `Host` field.
    pub host: String,
    pub path: String,
    /// Further nodes of the same fleet: clients take turns.
    pub others: Vec<(SocketAddr, String)>,
}

impl Target {
    /// Where a client connects, and the `Host` field.
    pub(crate) fn of(&self, client: ClientNo) -> (SocketAddr, &str) {
        match client as usize % (self.others.len() + 1) {
            0 => (self.address, &self.host),
            place => (self.others[place - 1].0, &self.others[place - 1].1),
        }
    }
}

/// How clients enter.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// With tokens made for users of this run. Ids begin with this number.
    Key { keys: Box<roost_router::auth::Keys>, run: u64, now_ms: u64 },
    /// As new guests.
    Guests,
}

impl Credentials {
    /// How long tokens are valid: longer than a run.
    const TTL_S: u64 = 7 * 24 * 3600;

    /// The CONNECT of a device of a user; `token` is that of an earlier WELCOME.
    pub(crate) fn connect(&self, user: UserNo, device: &str, token: Option<&str>) -> pb::Connect {
        let mut connect = pb::Connect { device: device.into(), ..pb::Connect::default() };
        match (token, self.token(user)) {
            (Some(token), _) => connect.token = token.to_owned(),
            (None, Some(token)) => connect.token = token,
            (None, None) => connect.guest = name(user),
        }
        connect
    }

    /// A token of a user; `None`: there are guests only.
    pub(crate) fn token(&self, user: UserNo) -> Option<String> {
        use roost_router::auth::{Claims, Scope};
        let Self::Key { keys, run, now_ms } = self else { return None };
        let id = UserId::from_bits(u128::from(*run) << 32 | u128::from(user));
        Some(keys.mint(&Claims::new(id, &name(user), Scope::User, *now_ms, Self::TTL_S)))
    }
}

fn name(user: UserNo) -> String {
    format!("Load {user}")
}

/// What a thread is told.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Connect every client.
    Connect,
    /// Make the conversations whose first member is here. The ids of users by client number.
    Create(Arc<Vec<String>>),
    /// These are the conversations; subscribe to channels.
    Join(Arc<Names>),
    /// Send from `start_ns` on, until the load is over or [`Command::Drain`].
    Load { start_ns: u64 },
    /// Send nothing more; wait for answers until `deadline_ns`.
    Drain { deadline_ns: u64 },
    /// Wait until pushes have brought everything up to these seqs, until `deadline_ns`.
    Settle { heads: Arc<Vec<Seq>>, deadline_ns: u64 },
    /// Read the logs, and what a session lacks, until `deadline_ns`.
    Verify { deadline_ns: u64 },
    /// Close everything and end.
    Finish,
}

/// What a thread tells.
#[derive(Debug)]
pub(crate) enum Note {
    /// The command is done.
    Done(Done),
    /// What was measured since the last one.
    Tick(Box<Tick>),
}

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Done {
    /// The clients that became sessions, and their ids on the server.
    Connected {
        users: Vec<(ClientNo, String)>,
    },
    /// The conversations made here.
    Created {
        ids: Vec<(Conv, String)>,
    },
    Joined,
    /// The load is over by itself.
    Loaded,
    /// Highest acknowledged seqs of conversations, messages without an answer, CPU time since the load began.
    Drained {
        heads: Vec<(Conv, Seq)>,
        unanswered: u64,
        cpu_ns: u64,
        digest: Digest,
    },
    /// Entries that sessions still lack.
    Settled {
        missing: u64,
    },
    /// The same, after reading the log.
    Verified {
        missing: u64,
    },
    /// The thread has ended.
    Finished(Box<Evidence>),
}

/// What was measured in an interval, a second or less.
#[derive(Debug)]
pub(crate) struct Tick {
    pub thread: u32,
    pub recorder: Recorder,
    /// Sessions live here at its end.
    pub live: u64,
    /// Which second of the load it belongs to, from 0; `None` outside of the load.
    pub second: Option<u64>,
    /// Counts of ended connections by reason.
    pub closes: BTreeMap<String, u64>,
}

/// The threads of a run.
#[derive(Debug)]
pub(crate) struct Threads {
    commands: Vec<(Sender<Command>, Arc<Waker>)>,
    notes: Receiver<Note>,
    handles: Vec<JoinHandle<()>>,
}

/// The token of a thread's waker; clients have the numbers below.
const WAKE: Token = Token(usize::MAX - 1);
/// The token of its timer.
const TIMER: Token = Token(usize::MAX - 2);
/// The token of its sockets of QUIC.
#[cfg(target_os = "linux")]
const DATAGRAMS: Token = Token(usize::MAX - 3);

impl Threads {
    /// Starts `shared.threads` threads.
    ///
    /// # Errors
    /// If the system has no room for them.
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (to_main, notes) = channel();
        let (mut commands, mut handles) = (Vec::new(), Vec::new());
        for number in 0..shared.threads {
            let poll = Poll::new()?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
            let (to_thread, told) = channel();
            let worker = worker::Worker::new(number, Arc::clone(shared), poll, told, to_main.clone())?;
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            handles.push(thread.spawn(move || worker.run())?);
            commands.push((to_thread, waker));
        }
        Ok(Self { commands, notes, handles })
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.commands.len()
    }

    /// Tells all threads.
    pub(crate) fn tell(&self, command: &Command) {
        for (to_thread, waker) in &self.commands {
            // A thread that ended by a panic is found when its note is missed.
            let _ = to_thread.send(command.clone());
            let _ = waker.wake();
        }
    }

    /// The next note, if one comes within `timeout`.
    ///
    /// # Panics
    /// If a thread panicked: the run is worth nothing.
    pub(crate) fn note(&self, timeout: std::time::Duration) -> Option<Note> {
        let note = self.notes.recv_timeout(timeout);
        assert!(
            note.is_ok() || self.handles.iter().all(|handle| !handle.is_finished()),
            "a thread of the generator failed"
        );
        note.ok()
    }

    /// Waits for the ends of all threads, which were told [`Command::Finish`].
    pub(crate) fn join(self) {
        for handle in self.handles {
            handle.join().expect("a thread of the generator failed");
        }
    }
}
