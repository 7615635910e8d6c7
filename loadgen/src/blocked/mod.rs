//! How long users wait whose network lets no UDP through: real clients of the SDK, which try QUIC first, enter one after
//! the other where QUIC is there, where it is refused, and where it is swallowed.
//!
//! `report`: what came of it.

pub(crate) mod report;

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use roost_client::{Client, Transport, Trust};
use roost_wire::ConvId;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::driver::Credentials;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::recorder::record;
use crate::server::{NO_LIMITS, OwnServer};

/// How long a client may take to enter, and again to have its message stored.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where every client says something.
const CHANNEL: &str = "udp-blocked";
/// How often a waiting run looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Tries to find a port that is free for UDP as well.
const HOLES_MAX: usize = 8;

/// What becomes of UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Udp {
    /// It comes through.
    Open,
    /// It is refused at once (ICMP): nobody listens.
    Refused,
    /// It is swallowed, as most firewalls do.
    Swallowed,
}

/// All of them, in the order of a run.
pub(crate) const WORLDS: [Udp; 3] = [Udp::Open, Udp::Refused, Udp::Swallowed];

impl Udp {
    /// As people are told while it goes on.
    const fn phase(self) -> &'static str {
        match self {
            Self::Open => "UDP comes through",
            Self::Refused => "UDP is refused",
            Self::Swallowed => "UDP is swallowed",
        }
    }
}

/// What to run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) clients: u32,
    /// Clients that begin to enter, per second.
    pub(crate) rate: f64,
}

/// What was measured in one world. Times count from when a client was meant to begin.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) udp: Udp,
    /// To the session.
    pub(crate) session: Histogram<u64>,
    /// To the acknowledgement of its first message.
    pub(crate) first_message: Histogram<u64>,
    /// How many came by what.
    pub(crate) ways: BTreeMap<&'static str, u64>,
    /// How many did not come, and why.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Messages that were acknowledged, and of these, found in the channel's log.
    pub(crate) acknowledged: u64,
    pub(crate) stored: u64,
}

impl Measured {
    fn new(udp: Udp) -> Self {
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self {
            udp,
            session: histogram(),
            first_message: histogram(),
            ways: BTreeMap::new(),
            failed: BTreeMap::new(),
            acknowledged: 0,
            stored: 0,
        }
    }
}

/// Runs every world, each with a server of its own below `out`. Returns what was measured before somebody asked to stop.
///
/// # Errors
/// No server could be started, or its port is not free for UDP.
pub(crate) fn run(
    plan: Plan,
    out: &Path,
    settings: &[&str],
    key: impl Fn(&Path) -> anyhow::Result<Credentials>,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Measured>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot start the clients' runtime")?;
    let mut worlds = Vec::new();
    for udp in WORLDS {
        if interrupt.count() > 0 {
            break;
        }
        progress.phase(udp.phase());
        let (server, _hole) = world(udp, out, settings)?;
        let credentials = Arc::new(key(&server.token_key())?);
        worlds.push(runtime.block_on(measure(plan, udp, &server, &credentials, progress, interrupt)));
    }
    Ok(worlds)
}

/// A server, and what swallows datagrams at its port.
fn world(udp: Udp, out: &Path, settings: &[&str]) -> anyhow::Result<(OwnServer, Option<UdpSocket>)> {
    let mut given = vec!["--dev-tls"];
    if udp != Udp::Open {
        given.extend(["--quic", "off"]);
    }
    given.extend(settings);
    for _ in 0..HOLES_MAX {
        let server = OwnServer::start(out, NO_LIMITS, &given)?;
        if udp != Udp::Swallowed {
            return Ok((server, None));
        }
        // Nobody reads from it: what does not fit its buffer is dropped, what does is never answered.
        if let Ok(hole) = UdpSocket::bind(server.listen) {
            return Ok((server, Some(hole)));
        }
    }
    anyhow::bail!("no port of this machine is free for both TCP and UDP")
}

async fn measure(
    plan: Plan,
    udp: Udp,
    server: &OwnServer,
    credentials: &Arc<Credentials>,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> Measured {
    let measured = Arc::new(Mutex::new(Measured::new(udp)));
    let (leave, stays) = watch::channel(());
    let url = format!("https://localhost:{}", server.listen.port());
    let mut clients = JoinSet::new();
    let start = Instant::now();
    for number in 0..plan.clients {
        let intended = start + Duration::from_secs_f64(f64::from(number) / plan.rate);
        let builder = Client::builder(&url).token(credentials.token(number).unwrap_or_default());
        let builder = builder.trust(Trust::File(server.certificate())).transport(Transport::Auto);
        let (measured, stays) = (Arc::clone(&measured), stays.clone());
        clients.spawn(async move {
            sleep_until(intended).await;
            let told = enter(builder, intended, &measured, stays).await;
            if let Err(why) = told {
                *lock(&measured).failed.entry(why).or_default() += 1;
            }
        });
    }
    drop(stays);
    let mut told = Instant::now();
    while interrupt.count() == 0 {
        tokio::time::sleep(LOOK_EVERY).await;
        let (entered, decided) = {
            let measured = lock(&measured);
            let failed: u64 = measured.failed.values().sum();
            (measured.session.len(), measured.acknowledged + failed)
        };
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            progress.line(&format!("{entered} of {} clients have entered", plan.clients));
        }
        if decided >= plan.clients.into() {
            break;
        }
    }
    let stored = stored(&url, server, credentials, plan.clients).await;
    drop(leave);
    clients.shutdown().await;
    let mut measured = std::mem::replace(&mut *lock(&measured), Measured::new(udp));
    measured.stored = stored;
    measured
}

/// One client enters, says something, and stays until everybody has.
async fn enter(
    builder: roost_client::Builder,
    intended: Instant,
    measured: &Mutex<Measured>,
    mut stays: watch::Receiver<()>,
) -> Result<(), String> {
    let since = |at: Instant| u64::try_from(at.saturating_duration_since(intended).as_nanos()).unwrap_or(u64::MAX);
    let entered = timeout(PATIENCE, builder.connect()).await.map_err(|_| "it did not enter in time".to_owned())?;
    let (client, mut events) = entered.map_err(|error| error.to_string())?;
    let by = client.way().map_or("nothing", |way| way.name());
    {
        let mut measured = lock(measured);
        record(&mut measured.session, 0, since(Instant::now()));
        *measured.ways.entry(by).or_default() += 1;
    }
    let channel = ConvId::new(CHANNEL).map_err(|error| error.to_string())?;
    let sent = timeout(PATIENCE, client.publish(&channel, "It is me.")).await;
    sent.map_err(|_| "its message was not stored in time".to_owned())?.map_err(|error| error.to_string())?;
    {
        let mut measured = lock(measured);
        record(&mut measured.first_message, 0, since(Instant::now()));
        measured.acknowledged += 1;
    }
    loop {
        tokio::select! {
            event = events.recv() => if event.is_none() { break },
            // The sender is gone: it is over.
            _ = stays.changed() => break,
        }
    }
    client.close();
    Ok(())
}

/// How many messages the channel's log holds.
async fn stored(url: &str, server: &OwnServer, credentials: &Credentials, reader: u32) -> u64 {
    let builder = Client::builder(url).token(credentials.token(reader).unwrap_or_default());
    let builder = builder.trust(Trust::File(server.certificate())).transport(Transport::WebSocket);
    let look = async {
        let (client, _events) = builder.connect().await.ok()?;
        let channel = ConvId::new(CHANNEL).ok()?;
        client.subscribe(&channel).await.ok()?;
        let mut count = 0;
        let mut after = 0;
        loop {
            let page = client.history_after(&channel, after, roost_wire::limits::PAGE_ENTRIES_MAX).await.ok()?;
            let Some(last) = page.entries.last() else { return Some(count) };
            count += page.entries.len() as u64;
            after = last.seq;
        }
    };
    timeout(PATIENCE, look).await.ok().flatten().unwrap_or(0)
}

/// A panic while it was held left nothing half done.
fn lock(measured: &Mutex<Measured>) -> std::sync::MutexGuard<'_, Measured> {
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}
