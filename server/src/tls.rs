//! The certificate of the public port: taken at the start, watched while the node runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use roost_edge::tls::{Identity, IdentityError, Reload, TlsSetup};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::Config;

/// Where a self-made certificate is kept, in the data directory.
pub(crate) const DEV_DIR: &str = "dev-tls";
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A certificate with less than this left is spoken of, that often.
const SHORT_S: i64 = 7 * 86_400;
const TELL_EVERY: Duration = Duration::from_secs(12 * 3600);
/// The protocol that clients may name (RFC 7301): WebSocket begins with it.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// The certificate in use, and what became of changes.
pub(crate) struct Tls {
    pub identity: Arc<Identity>,
    /// It is self-made.
    dev: bool,
    taken: AtomicU64,
    failed: AtomicU64,
}

impl Tls {
    /// What the settings ask for; `None`: no TLS.
    ///
    /// # Errors
    /// The certificate cannot be used; the text names the file and what to do.
    pub(crate) fn open(config: &Config) -> Result<Option<Arc<Self>>, IdentityError> {
        let identity = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Identity::from_files(cert, key, unix_s())?,
            _ if config.dev_tls => Identity::dev(&dev_dir(&config.data), unix_s())?,
            _ => return Ok(None),
        };
        let dev = config.tls_cert.is_none();
        Ok(Some(Arc::new(Self { identity, dev, taken: AtomicU64::new(0), failed: AtomicU64::new(0) })))
    }

    /// How the public port speaks TLS.
    pub(crate) fn setup(&self, plaintext: bool) -> anyhow::Result<TlsSetup> {
        let config = self.identity.server_config(ALPN).context("TLS does not work here")?;
        Ok(TlsSetup::new(config, plaintext))
    }

    /// Looks for changed files, every few seconds and on SIGHUP, for as long as the runtime lives.
    pub(crate) fn watch(self: Arc<Self>) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::spawn(async move {
            let mut told = None;
            loop {
                let asked = tokio::select! {
                    _ = every.tick() => false,
                    _ = hangup.recv() => true,
                };
                let tls = self.clone();
                // Files may be on a slow disk.
                if tokio::task::spawn_blocking(move || tls.look(asked)).await.is_err() {
                    tracing::error!("looking for a changed certificate failed");
                }
                self.tell_end(&mut told);
            }
        });
        Ok(())
    }

    /// Takes what the files hold: if they changed, or somebody asked.
    fn look(&self, asked: bool) {
        let now = unix_s();
        let looked =
            if asked { self.identity.reload(now).map(|()| Reload::Taken) } else { self.identity.reload_changed(now) };
        let path = self.identity.cert_path();
        match looked {
            Ok(Reload::Same) => {}
            Ok(Reload::Taken) => {
                self.taken.fetch_add(1, Relaxed);
                let days = self.left_s() / 86_400;
                tracing::info!(path = %path.display(), days, "new handshakes use the certificate that is there now");
            }
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                let days = self.left_s() / 86_400;
                tracing::error!(%error, days, "the certificate is NOT changed: the old one stays, for so many days");
            }
        }
    }

    fn tell_end(&self, told: &mut Option<Instant>) {
        let left = self.left_s();
        if left < SHORT_S && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            let path = self.identity.cert_path();
            if left < 0 {
                tracing::error!(path = %path.display(), "the certificate has expired: clients refuse it; put a new one there");
            } else {
                tracing::warn!(path = %path.display(), days = left / 86_400, "the certificate ends soon: put a new one there");
            }
        }
    }

    /// Seconds until the certificate ends; below zero it has.
    pub(crate) fn left_s(&self) -> i64 {
        self.identity.not_after() - unix_s()
    }

    /// SHA-256 of the certificate, in hexadecimal digits, where it is self-made: a page takes it for WebTransport by that alone.
    pub(crate) fn dev_sha256(&self) -> Option<String> {
        let cert = self.identity.chain().into_iter().next().filter(|_| self.dev)?;
        Some(Sha256::digest(&cert).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Changes taken, and changes that could not be used.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        (self.taken.load(Relaxed), self.failed.load(Relaxed))
    }
}

/// A node without TLS has nothing to read anew on SIGHUP. It goes on all the same: that signal means one thing, whatever
/// the settings.
pub(crate) fn outlive_hangups() -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: there is no certificate to read anew; settings are read at the start alone");
        }
    });
    Ok(())
}

/// The directory of the self-made certificate.
pub(crate) fn dev_dir(data: &Path) -> std::path::PathBuf {
    data.join(DEV_DIR)
}

fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
