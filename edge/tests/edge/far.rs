//! A server in a child process with few descriptors, as the clients need descriptors themselves.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use roost_wire::{ConvId, Encoding};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, PATIENCE, Server, deliver, send};

const CHILD: &str = "ROOST_EDGE_FAR_CHILD";

/// Whether this process is to be the server.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// A server in a child process that does what it is told line by line.
pub(crate) struct Far {
    pub(crate) addr: SocketAddr,
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Far {
    /// Runs the test `name` once more, in a process where [`is_child`] holds.
    pub(crate) fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut far = Self { addr: ([127, 0, 0, 1], 0).into(), child, orders, lines };
        far.addr = far.told("listening on ").parse().unwrap();
        far
    }

    fn told(&mut self, what: &str) -> String {
        loop {
            let line = self.lines.next().expect("the child ended early").unwrap();
            // The test harness writes to the same line.
            if let Some((_, value)) = line.split_once(what) {
                return value.trim().to_owned();
            }
        }
    }

    /// What the server counts: see [`obey`].
    pub(crate) fn counted(&mut self, what: &str) -> u64 {
        writeln!(self.orders, "{what}").unwrap();
        self.told(&format!("{what} ")).parse().unwrap()
    }

    pub(crate) fn until(&mut self, what: &str, count: u64) {
        let began = Instant::now();
        while self.counted(what) != count {
            assert!(began.elapsed() < PATIENCE, "{what} is {}, not {count}", self.counted(what));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn ends_well(mut self) {
        drop(self.orders);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Answers questions about `server` until there are no more.
pub(crate) fn obey(server: &Server) {
    println!("\nlistening on {}", server.addr);
    for question in std::io::stdin().lines().map(Result::unwrap) {
        let metrics = server.handle().metrics();
        let sum = |of: fn(&roost_edge::metrics::LoopSnapshot) -> u64| -> u64 {
            metrics.shards.iter().map(|(_, turns)| of(turns)).sum()
        };
        let open = |shard: usize| {
            let (counters, _) = &metrics.shards[shard];
            counters.connections_opened - counters.connections_closed
        };
        let count = match question.as_str() {
            "open" => metrics.connections_open(),
            "opened" => metrics.total.connections_opened,
            "refused" => metrics.total.refused_full + metrics.accept_refused,
            "turned away" => metrics.accept_refused,
            "errors" => metrics.accept_errors,
            "pauses" => metrics.accept_pauses,
            "rings" => sum(|turns| turns.rings),
            "places" => sum(|turns| turns.places_used),
            "apart" => open(0).abs_diff(open(1)),
            "descriptors" => std::fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            "publish" => {
                let news = || ConvId::channel("news").unwrap();
                for shard in 0..server.handle().shards() {
                    server.handle().post(shard, &mut vec![deliver(news(), "to all", None)]);
                }
                0
            }
            "stop" => {
                server.handle().stop();
                0
            }
            other => panic!("{other}?"),
        };
        println!("\n{question} {count}");
    }
}

pub(crate) fn limit_descriptors(most: u64) {
    let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
}

pub(crate) fn sessions(far: &Far, names: std::ops::Range<usize>) -> Vec<Client> {
    names.map(|name| Client::connect(far.addr, Encoding::Json, &format!("g{name}"))).collect()
}

/// Each of `clients` asks something, then each gets its answer.
pub(crate) fn all_are_served(clients: &mut [Client], rid: u64) {
    for client in &mut *clients {
        client.say(rid, send("still here?"));
    }
    for client in clients {
        assert_eq!(client.hear_frame().rid, rid);
    }
}
