//! From settings to running threads.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use roost_edge_core::config::ConfigError;
use roost_edge_core::driver::Driver;
use roost_edge_core::{ShardConfig, ShardMetrics};

use crate::accept::{self, Acceptor, Control, Shards};
use crate::address::Gate;
use crate::config::EdgeConfig;
use crate::driver::poll::{Hatch, PollDriver};
use crate::driver::quic::{Parts, QuicConfig, QuicConfigError, QuicDriver};
#[cfg(target_os = "linux")]
use crate::driver::uring::Door;
use crate::driver::{Conn, Drivers, NoDrivers, Unfit};
use crate::handle::{EdgeHandle, Inner};
use crate::inbox::Inbox;
use crate::metrics::LoopMetrics;
use crate::run::{Setup, ShardLoop, run_shard};
use crate::sync::Mutex;
use crate::tls::{TlsDriver, TlsSetup};
use crate::{HttpService, Upstream};

/// Where an edge begins.
pub struct Edge;

/// Why an edge cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A setting cannot work.
    #[error("setting {0}")]
    Config(#[from] ConfigError),
    /// Somebody listens there already.
    #[error("{addr} is in use: stop the other server, or choose another address to listen on")]
    InUse {
        /// The address of the settings.
        addr: SocketAddr,
    },
    /// This user may not listen there.
    #[error("no right to listen on {addr}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one")]
    Forbidden {
        /// The address of the settings.
        addr: SocketAddr,
    },
    /// No interface of this machine has the address.
    #[error("{addr} is no address of this machine: use 0.0.0.0 or [::] for all of them")]
    NotOurs {
        /// The address of the settings.
        addr: SocketAddr,
    },
    /// The driver that was asked for cannot run here.
    #[error("driver uring: {0}; or choose another driver: auto, poll")]
    Driver(#[source] Unfit),
    /// TLS is not as QUIC needs it.
    #[error(transparent)]
    Quic(#[from] QuicConfigError),
    /// Anything else the system refused.
    #[error("cannot listen on {addr}: {source}")]
    Io {
        /// The address of the settings.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    fn new(addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::InUse { addr },
            ErrorKind::PermissionDenied => Self::Forbidden { addr },
            ErrorKind::AddrNotAvailable => Self::NotOurs { addr },
            _ => Self::Io { addr, source },
        }
    }
}

impl Edge {
    /// Checks the settings, listens, and makes the shards. Clients can connect from now on; they are answered once the
    /// edge is started.
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    pub fn bind(config: EdgeConfig) -> Result<Bound, BindError> {
        config.check()?;
        let addr = config.listen;
        Self::build(config).map_err(|error| match error {
            NoDrivers::Unfit(unfit) => BindError::Driver(unfit),
            NoDrivers::Io(source) => BindError::new(addr, source),
        })
    }

    fn build(config: EdgeConfig) -> Result<Bound, NoDrivers> {
        let listener = accept::listen(config.listen)?;
        let local_addr = listener.local_addr()?;
        let connections_max = config.connections_max.div_ceil(config.shard_count().into());
        let (mut drivers, wakers) = Drivers::new(config.driver, config.shard_count(), connections_max)?;
        let (mut inboxes, mut metrics) = (Vec::new(), Vec::new());
        for waker in &wakers {
            inboxes.push(Inbox::new(waker.clone(), config.mailbox_items_max));
            metrics.push((Arc::new(ShardMetrics::default()), Arc::new(LoopMetrics::default())));
        }
        let gate = |descriptors_max| {
            Gate::new(config.connections_per_address_max, config.addresses_exempt.clone(), descriptors_max)
        };
        let (accept, acceptor) = match &mut drivers {
            Drivers::Poll(drivers) => {
                let tables = if config.wants_tables() { drivers.len() } else { 1 };
                let acceptor = Acceptor::new(listener, gate(config.descriptors_max.saturating_mul(tables)))?;
                let hatches = if tables > 1 { open_hatches(drivers)? } else { Vec::new() };
                (acceptor.control().clone(), Some((acceptor, hatches)))
            }
            #[cfg(target_os = "linux")]
            Drivers::Uring(drivers) => {
                // They accept for themselves, and their connections have no descriptors.
                let control = Arc::new(Control::new(wakers.clone()));
                let entrances = Door::open(listener, gate(usize::MAX), control.clone(), wakers);
                for ((driver, entrance), (_, metrics)) in drivers.iter_mut().zip(entrances).zip(&metrics) {
                    driver.enter(entrance, metrics.clone());
                }
                (control, None)
            }
        };
        let streams = inboxes.len();
        let inner = Inner { local_addr, quic_addr: None, inboxes, streams, metrics, quic_metrics: Vec::new(), accept };
        let handle = EdgeHandle { inner: Arc::new(inner) };
        Ok(Bound { handle, acceptor, drivers, quic: Vec::new(), tls: None, config })
    }
}

/// An edge that listens and does not run yet.
pub struct Bound {
    handle: EdgeHandle,
    /// Who accepts for drivers that do not.
    acceptor: Option<(Acceptor, Vec<Hatch>)>,
    drivers: Drivers,
    quic: Vec<QuicDriver>,
    tls: Option<TlsSetup>,
    config: EdgeConfig,
}

impl Bound {
    /// Where it listens, with the port the system chose if the settings named port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Lets it speak TLS.
    #[must_use]
    pub fn with_tls(self, tls: TlsSetup) -> Self {
        if !tls.takes_plaintext() {
            self.handle.inner.accept.speak_only_tls();
        }
        Self { tls: Some(tls), ..self }
    }

    /// Takes sessions by QUIC as well, in as many shards again. Each kind of shards shares out the limits of connections for
    /// itself.
    ///
    /// # Errors
    /// [`BindError`], which says what to do.
    ///
    /// # Panics
    /// If a handle was taken before: it would not know of these shards.
    pub fn with_quic(mut self, quic: &QuicConfig) -> Result<Self, BindError> {
        let shard = self.config.clone().into_shard();
        let parts = Parts::new(quic, &shard)?;
        let first = self.config.shard_count();
        let shards = first..first.saturating_add(self.config.quic_shard_count());
        let group =
            QuicDriver::group(quic, &parts, shards, &shard).map_err(|error| BindError::new(quic.listen, error))?;
        let inner = Arc::get_mut(&mut self.handle.inner).expect("no handle was taken yet");
        for waker in group.wakers {
            inner.inboxes.push(Inbox::new(waker, self.config.mailbox_items_max));
            inner.metrics.push((Arc::new(ShardMetrics::default()), Arc::new(LoopMetrics::default())));
        }
        let EdgeConfig { connections_per_address_max, addresses_exempt, .. } = self.config.clone();
        let gate = Arc::new(Mutex::new(Gate::new(connections_per_address_max, addresses_exempt, usize::MAX)));
        self.quic = group.drivers;
        for driver in &mut self.quic {
            driver.enter(inner.accept.clone(), gate.clone());
        }
        (inner.quic_metrics, inner.quic_addr) = (group.metrics, Some(group.local_addr));
        Ok(self)
    }

    /// A handle; what is posted before the start waits in the mailboxes.
    #[must_use]
    pub fn handle(&self) -> EdgeHandle {
        self.handle.clone()
    }

    /// Starts a thread per shard, and one that accepts if the driver does not.
    ///
    /// # Errors
    /// A thread could not be started; those that were are ended.
    pub fn start<U: Upstream, H: HttpService>(self, upstream: Arc<U>, http: Arc<H>) -> io::Result<Running> {
        let mut running = Running { handle: self.handle, threads: Vec::new() };
        let inner = running.handle.inner.clone();
        let ends = Ends { config: Arc::new(self.config.into_shard()), upstream, http };
        match (self.drivers, self.tls) {
            (Drivers::Poll(drivers), None) => running.shards(drivers, &ends)?,
            (Drivers::Poll(drivers), Some(tls)) => running.shards(with_tls(drivers, &tls, &inner), &ends)?,
            #[cfg(target_os = "linux")]
            (Drivers::Uring(drivers), None) => running.shards(drivers, &ends)?,
            #[cfg(target_os = "linux")]
            (Drivers::Uring(drivers), Some(tls)) => running.shards(with_tls(drivers, &tls, &inner), &ends)?,
        }
        running.shards(self.quic, &ends)?;
        if let Some((acceptor, hatches)) = self.acceptor {
            let shards = inner.inboxes.iter().zip(&inner.metrics).take(inner.streams);
            let hatches = hatches.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
            let shards = shards.zip(hatches).map(|((inbox, metrics), hatch)| (inbox.clone(), metrics.1.clone(), hatch));
            let shards = Shards::new(shards);
            running.spawn("roost-accept".into(), move || acceptor.run(shards))?;
        }
        Ok(running)
    }
}

/// Lets every shard have descriptors of its own.
fn open_hatches(drivers: &mut [PollDriver]) -> io::Result<Vec<Hatch>> {
    tracing::info!(shards = drivers.len(), "each shard has descriptors of its own");
    drivers.iter_mut().map(PollDriver::open_hatch).collect()
}

/// Each driver with TLS around it.
fn with_tls<D: Driver>(drivers: Vec<D>, tls: &TlsSetup, inner: &Inner) -> Vec<TlsDriver<D>> {
    let metrics = inner.metrics.iter().map(|(_, metrics)| metrics.tls.clone());
    drivers.into_iter().zip(metrics).map(|(driver, metrics)| TlsDriver::new(driver, tls.clone(), metrics)).collect()
}

/// What all shards share.
struct Ends<U, H> {
    config: Arc<ShardConfig>,
    upstream: Arc<U>,
    http: Arc<H>,
}

/// A running edge.
#[must_use = "dropping it stops the edge"]
pub struct Running {
    handle: EdgeHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// The handle.
    #[must_use]
    pub const fn handle(&self) -> &EdgeHandle {
        &self.handle
    }

    /// Waits until the edge was stopped, by [`EdgeHandle::stop`] or because a thread of it failed.
    pub fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the edge panicked");
            }
        }
    }

    /// Starts a thread for each driver: further shards, behind those that have one.
    fn shards<D, U, H>(&mut self, drivers: Vec<D>, ends: &Ends<U, H>) -> io::Result<()>
    where
        D: Driver<Conn: From<Conn>> + Send + 'static,
        U: Upstream,
        H: HttpService,
    {
        let inner = self.handle.inner.clone();
        let neighbours: Arc<[_]> = inner.inboxes.clone().into();
        let (begun, all) = mpsc::channel();
        let count = drivers.len();
        let first = self.threads.len();
        let parts = drivers.into_iter().zip(&inner.inboxes[first..]).zip(&inner.metrics[first..]);
        for (number, ((driver, inbox), (shard_metrics, metrics))) in (first as u16..).zip(parts) {
            let setup = Setup {
                config: ends.config.clone(),
                inbox: inbox.clone(),
                neighbours: neighbours.clone(),
                upstream: ends.upstream.clone(),
                http: ends.http.clone(),
                shard_metrics: shard_metrics.clone(),
                metrics: metrics.clone(),
            };
            let shard = ShardLoop::new(driver, number, setup);
            let begun = begun.clone();
            self.spawn(format!("roost-shard-{number}"), move || {
                let mut shard = shard;
                shard.begin()?;
                // Whoever waits for it may have given up.
                let _ = begun.send(());
                drop(begun);
                run_shard(shard)
            })?;
        }
        // A table of descriptors that is copied later would hold connections that were accepted meanwhile.
        drop(begun);
        let count = (0..count).take_while(|_| all.recv().is_ok()).count();
        if first + count == self.threads.len() { Ok(()) } else { Err(io::Error::other("a shard could not begin")) }
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let failing = StopOnFailure { handle: self.handle.clone(), armed: true };
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            let mut failing = failing;
            match body() {
                Ok(()) => failing.armed = false,
                Err(error) => tracing::error!(%error, thread = name, "the edge cannot go on"),
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop();
            self.wait();
        }
    }
}

/// An edge that lost a thread, to an error or a panic, is not to run on with a part of its sessions deaf.
struct StopOnFailure {
    handle: EdgeHandle,
    armed: bool,
}

impl Drop for StopOnFailure {
    fn drop(&mut self) {
        if self.armed {
            self.handle.stop();
        }
    }
}
