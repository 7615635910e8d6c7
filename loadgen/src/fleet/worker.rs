//! A process that waits for coordinators, and puts its slice of a load on.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roost_router::auth::Keys;

use super::frame::{self, BYTES_MAX, BYTES_MAX_UNPROVED};
use super::link;
use super::part::Part;
use super::proof::{Secret, nonce};
use super::talk::{Hello, Note, Order, Task, Welcome};
use super::{GREET_WITHIN, PROTOCOL, SILENCE_MAX};
use crate::driver::{Credentials, Target};
use crate::engine::{self, Job, RunError};
use crate::interrupt::Interrupt;
#[cfg(target_os = "linux")]
use crate::lines::Carrier;
use crate::progress::{Progress, Telling};

/// How often a waiting worker looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Who may be greeted at once.
const GREETINGS_MAX: usize = 16;

/// What a worker needs to know.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) secret: Option<Secret>,
    /// The key of the server's tokens, where it is not told.
    pub(crate) token_key: Option<[u8; 32]>,
    /// End after the first run.
    pub(crate) once: bool,
    pub(crate) quiet: bool,
}

/// Whether somebody at this address may be told secrets without words that others cannot read.
pub(super) const fn is_here(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    }
}

impl Worker {
    /// Serves coordinators until it is interrupted, or one was served and that was to be all.
    ///
    /// # Errors
    /// If nobody can be accepted any more.
    pub(crate) fn serve(&self, listener: &TcpListener, interrupt: &Interrupt) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let (busy, served, greetings) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        loop {
            if interrupt.count() > 0 || (self.once && served.load(Ordering::Acquire) > 0) {
                break;
            }
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(LOOK_EVERY);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if greetings.load(Ordering::Acquire) >= GREETINGS_MAX {
                // Whoever comes while so many say nothing has to come again.
                continue;
            }
            greetings.fetch_add(1, Ordering::AcqRel);
            let session = Session {
                worker: self.clone(),
                busy: Arc::clone(&busy),
                served: Arc::clone(&served),
                greetings: Arc::clone(&greetings),
                interrupt: interrupt.child(),
            };
            std::thread::Builder::new().name("fleet".into()).spawn(move || session.serve(&stream, from))?;
        }
        // A run that was interrupted has its last word.
        let until = Instant::now() + SILENCE_MAX;
        while busy.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

struct Session {
    worker: Worker,
    busy: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    greetings: Arc<AtomicUsize>,
    interrupt: Interrupt,
}

impl Session {
    fn serve(self, stream: &TcpStream, from: SocketAddr) {
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_nodelay(true);
        let greeted = self.greet(stream);
        self.greetings.fetch_sub(1, Ordering::AcqRel);
        let result = match greeted {
            Ok(true) => {
                let result = self.run(stream, from);
                self.busy.store(false, Ordering::Release);
                result
            }
            Ok(false) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            eprintln!("roost-load worker: {from}: {error:#}");
        }
    }

    /// Whether this is a coordinator to be served. Who is not is told why.
    fn greet(&self, stream: &TcpStream) -> anyhow::Result<bool> {
        stream.set_write_timeout(Some(GREET_WITHIN))?;
        let ours = Hello {
            program: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            nonce: nonce(),
            proof: None,
        };
        frame::write(&mut &*stream, &ours)?;
        let mut from = Within { stream, until: Instant::now() + GREET_WITHIN };
        let theirs: Hello = frame::read(&mut from, BYTES_MAX_UNPROVED)?;
        let refused = refusal(&theirs, &ours, self.worker.secret.as_ref()).or_else(|| {
            // Whoever is first is served.
            self.busy.swap(true, Ordering::AcqRel).then(|| "it is busy with another run".to_owned())
        });
        if let Some(why) = refused {
            frame::write(&mut &*stream, &Welcome::Refused { why })?;
            return Ok(false);
        }
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let proof = self.worker.secret.as_ref().map(|secret| secret.proof("worker", &theirs.nonce));
        let told = frame::write(&mut &*stream, &Welcome::Accepted { cores, proof });
        if let Err(error) = told {
            self.busy.store(false, Ordering::Release);
            return Err(error.into());
        }
        Ok(true)
    }

    fn run(&self, stream: &TcpStream, from: SocketAddr) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let task = loop {
            match frame::read::<Order>(&mut &*stream, BYTES_MAX)? {
                Order::Prepare(task) => break task,
                Order::Alive => {}
                Order::Begin { .. } | Order::Stop => return Ok(()),
            }
        };
        if !self.worker.quiet {
            eprintln!("roost-load worker: {} clients for {from}", task.scenario.clients);
        }
        let (link, lines) = link::begin(stream, &self.interrupt)?;
        let last = match self.load(*task, link) {
            Ok(part) => Note::Done(Box::new(part)),
            Err((why, unreachable)) => Note::Failed { why, unreachable },
        };
        let lost = lines.end(&last);
        // Who only asked, and found others missing, comes again.
        self.served.fetch_add(1, Ordering::AcqRel);
        match lost {
            None => Ok(()),
            Some(why) => anyhow::bail!("the coordinator was lost: {why}"),
        }
    }

    /// Puts the slice on. Failing, says why, and whether the server could not be reached.
    fn load(&self, task: Task, link: link::Link) -> Result<Part, (String, bool)> {
        let mut progress = Progress::new(Telling { quiet: self.worker.quiet, plain: true });
        let (job, threads, _certificate) = self.job(task, link).map_err(|error| (format!("{error:#}"), false))?;
        match engine::run(job, &mut progress, &self.interrupt) {
            Ok(outcome) => Ok(Part::of(outcome, threads)),
            Err(RunError::Unreachable(why)) => Err((why, true)),
            Err(RunError::System(error)) => Err((error.to_string(), false)),
        }
    }

    fn job(&self, task: Task, link: link::Link) -> anyhow::Result<(Job, u32, Option<tempfile::NamedTempFile>)> {
        let Task { scenario, address, host, path, others, .. } = task;
        let key = match task.token_key {
            Some(text) => Some(key_of(&text)?),
            None => self.worker.token_key,
        };
        if key.is_none() && task.needs_token_key {
            anyhow::bail!(
                "it is not on the coordinator's machine, so it needs the key of the server's tokens itself: --token-key FILE"
            );
        }
        let now_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_millis() as u64;
        let credentials = match key {
            Some(key) => Credentials::Key { keys: Box::new(Keys::new(&key)), run: task.run, now_ms },
            None => Credentials::Guests,
        };
        let certificate = task.ca.map(|pem| -> anyhow::Result<_> {
            let file = tempfile::NamedTempFile::new().context("cannot keep a certificate")?;
            std::fs::write(file.path(), pem).context("cannot keep a certificate")?;
            Ok(file)
        });
        let certificate = certificate.transpose()?;
        #[cfg(target_os = "linux")]
        let carriers = scenario.crowds.iter().map(|crowd| {
            let ca = || certificate.as_ref().map(|file| PathBuf::from(file.path())).context("a certificate is needed");
            Carrier::by(crowd.transport, ca, &task.server_name, None, crowd.impairment)
        });
        #[cfg(target_os = "linux")]
        let carriers = carriers.collect::<anyhow::Result<Vec<_>>>()?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let threads = task.threads.unwrap_or((cores / 4).max(1)).clamp(1, scenario.clients.max(1));
        crate::host::raise_descriptors();
        let job = Job {
            scenario,
            target: Target { address, host, path, others },
            #[cfg(target_os = "linux")]
            carriers,
            credentials,
            threads,
            server_pid: None,
            on_load: None,
            deployer: None,
            sdk: None,
            peer: Some(Box::new(link)),
        };
        Ok((job, threads, certificate))
    }
}

/// Why a coordinator is not served; `None`: it is.
fn refusal(theirs: &Hello, ours: &Hello, secret: Option<&Secret>) -> Option<String> {
    if (theirs.protocol, &theirs.version) != (ours.protocol, &ours.version) {
        return Some(format!(
            "it is version {} (protocol {}), the coordinator {} ({}): both must be the same",
            ours.version, ours.protocol, theirs.version, theirs.protocol
        ));
    }
    let secret = secret?;
    match &theirs.proof {
        None => Some("it wants a shared secret: give --workers-token-file".into()),
        Some(proof) if !secret.is_proved("coordinator", &ours.nonce, proof) => Some("its secret is another one".into()),
        Some(_) => None,
    }
}

/// A key as it was told.
fn key_of(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = STANDARD.decode(text).context("the key of the server's tokens makes no sense")?;
    bytes.try_into().ok().context("the key of the server's tokens has another length")
}

/// As it is told.
pub(super) fn told_key(key: &[u8; 32]) -> String {
    STANDARD.encode(key)
}

/// Reads until a time, however little comes at once.
pub(super) struct Within<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) until: Instant,
}

impl Read for Within<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// The address a worker listens at if none is given: on this machine only.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: &str, protocol: u32, proof: Option<String>) -> Hello {
        Hello { program: "p".into(), version: version.into(), protocol, nonce: "n".into(), proof }
    }

    #[test]
    fn only_the_same_version_with_the_same_secret_is_served() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef").unwrap();
        let secret = Secret::read(file.path()).unwrap();
        let ours = hello("1.0", 1, None);
        let proof = secret.proof("coordinator", "n");
        for (theirs, secret, refused) in [
            (hello("1.0", 1, None), None, None),
            (hello("1.0", 1, Some(proof.clone())), Some(&secret), None),
            (hello("1.1", 1, Some(proof.clone())), Some(&secret), Some("both must be the same")),
            (hello("1.0", 2, Some(proof)), Some(&secret), Some("both must be the same")),
            (hello("1.0", 1, None), Some(&secret), Some("wants a shared secret")),
            (hello("1.0", 1, Some("00".into())), Some(&secret), Some("another one")),
        ] {
            match (refusal(&theirs, &ours, secret), refused) {
                (None, None) => {}
                (Some(why), Some(part)) => assert!(why.contains(part), "{why}"),
                (found, expected) => panic!("{theirs:?}: {found:?} {expected:?}"),
            }
        }
    }

    #[test]
    fn a_key_is_told_and_understood() {
        assert_eq!(key_of(&told_key(&[7; 32])).unwrap(), [7; 32]);
        assert!(key_of("!").is_err() && key_of("AAAA").is_err());
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        let error = frame::read::<Hello>(&mut Within { stream: &silent, until }, 100).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
