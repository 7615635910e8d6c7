//! Leases: at most one node does a job at a time, and the store can tell who is late.
//!
//! A lease has a fencing token, a number that rises with every holder: whoever writes under a lease writes its token
//! along, and what carries a lower token than one that was seen is refused. That is what makes a job safe; the lease
//! alone makes it single most of the time. Redis may forget a lease (a flush, a fail-over), and then two hold it for as
//! long as one `lease_ttl`. Tokens rise nevertheless: they are not below Redis's clock in ms.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fred::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::shared::Shared;

/// Keys: the lease, its tokens. Arguments: the holder, ms that it lasts. Answers with the token, or with nothing if
/// another one holds it.
const ACQUIRE: &str = r"#!lua flags=allow-oom
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local now = redis.call('TIME')
local clock = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = string.format('%.0f', math.max(last + 1, clock))
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. token, 'PX', ARGV[2])
return token";

/// Keys: the lease. Arguments: holder and token, ms. Answers whether it was still held.
const RENEW: &str = r"#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// Keys: the lease. Arguments: holder and token.
const RELEASE: &str = r"#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1";

/// Part of a lease's time after which it is renewed; the others try to get it as often.
const RENEW_PARTS: u32 = 3;
/// Part of a lease's time by which its holder lets go of it before it ends in Redis.
const MARGIN_PARTS: u32 = 6;

/// Why a lease could not be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis does not say who holds the lease: {0}")]
pub struct LeaseError(String);

/// Leases of this node.
#[derive(Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

/// A lease that this node holds, or held.
pub struct Lease {
    shared: Arc<Shared>,
    key: String,
    /// Holder and token, as they stand in Redis.
    value: String,
    token: u64,
    began: Instant,
    /// Up to when it is held by this node's own clock, in ms since `began`.
    until_ms: AtomicU64,
}

impl Leases {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Asks for the lease `name`. `None`: another one holds it.
    ///
    /// # Errors
    /// [`LeaseError`] if Redis does not answer. It may have given the lease nevertheless: it then ends by itself.
    pub async fn acquire(&self, name: &str) -> Result<Option<Lease>, LeaseError> {
        let shared = &self.shared;
        if shared.is_superseded() {
            return Err(LeaseError("another node has this node's name".to_owned()));
        }
        let holder = format!("{}/{}", shared.info.name, shared.info.incarnation);
        let ttl = shared.options.lease_ttl;
        // Counted from before it was asked for, so it ends here before it ends there.
        let began = Instant::now();
        let (keys, args) =
            (vec![shared.names.lease(name), shared.names.token(name)], vec![holder.clone(), millis(ttl)]);
        let token: Option<String> = shared.commands.eval(ACQUIRE, keys, args).await.map_err(failed)?;
        let Some(token) = token else { return Ok(None) };
        let lease = Lease {
            shared: Arc::clone(shared),
            key: shared.names.lease(name),
            value: format!("{holder} {token}"),
            token: token.parse().map_err(|_| LeaseError("a token that is no number".to_owned()))?,
            began,
            until_ms: AtomicU64::new(lasts(ttl).as_millis() as u64),
        };
        shared.held.lock().insert(lease.key.clone(), lease.value.clone());
        Ok(Some(lease))
    }

    /// Gives up all that this node holds, so that no other one need wait.
    pub(super) async fn release_all(&self) {
        let held = std::mem::take(&mut *self.shared.held.lock());
        for (key, value) in held {
            self.shared.release(key, value).await;
        }
    }

    /// Runs a job on one node at a time: `job(token)` while this node holds the lease `name`, for ever; it is dropped
    /// when the lease is lost. When a job ends by itself the lease is given up, and asked for again.
    ///
    /// Ends when the handle is aborted; the lease then ends by itself.
    pub fn run_as_leader<F, J>(&self, name: &str, mut job: J) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send,
        J: FnMut(u64) -> F + Send + 'static,
    {
        let (leases, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let every = leases.shared.options.lease_ttl / RENEW_PARTS;
            loop {
                // Who holds it, or that nobody knows, is no news.
                if let Ok(Some(lease)) = leases.acquire(&name).await {
                    tracing::info!(name, token = lease.token(), "this node holds the lease");
                    tokio::select! {
                        () = job(lease.token()) => lease.release().await,
                        () = lease.hold() => {
                            leases.shared.metrics.leases_lost.add(1);
                            tracing::warn!(name, token = lease.token(), "the lease is lost");
                        }
                    }
                }
                tokio::time::sleep(every).await;
            }
        })
    }
}

impl Shared {
    async fn release(&self, key: String, value: String) {
        {
            let mut held = self.held.lock();
            if held.get(&key) == Some(&value) {
                held.remove(&key);
            }
        }
        // If Redis does not hear it the lease ends by itself.
        let _: Result<Value, Error> = self.commands.eval(RELEASE, vec![key], vec![value]).await;
    }
}

impl Lease {
    /// The fencing token: above that of every earlier holder.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// Whether it is held, by this node's own clock: true ends before the lease does.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Instant::now() < self.ends()
    }

    /// Has it last a whole time from now. `false`: it is lost, or was held by another one meanwhile.
    ///
    /// # Errors
    /// [`LeaseError`] if Redis does not answer; it is then held as long as it was.
    pub async fn renew(&self) -> Result<bool, LeaseError> {
        if !self.is_held() {
            return Ok(false);
        }
        let ttl = self.shared.options.lease_ttl;
        let asked = self.began.elapsed();
        let args = vec![self.value.clone(), millis(ttl)];
        let held: i64 = self.shared.commands.eval(RENEW, vec![self.key.clone()], args).await.map_err(failed)?;
        let until = if held == 1 { asked + lasts(ttl) } else { Duration::ZERO };
        self.until_ms.store(until.as_millis() as u64, Relaxed);
        Ok(held == 1)
    }

    /// Gives it up, so that another node need not wait for its end.
    pub async fn release(&self) {
        self.until_ms.store(0, Relaxed);
        self.shared.release(self.key.clone(), self.value.clone()).await;
    }

    /// Renews it until it is lost.
    async fn hold(&self) {
        let every = self.shared.options.lease_ttl / RENEW_PARTS;
        loop {
            let ends = self.ends();
            if tokio::time::timeout_at(ends, tokio::time::sleep(every)).await.is_err() {
                return;
            }
            // An answer that comes after its end is none.
            match tokio::time::timeout_at(ends, self.renew()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(_)) => {}
            }
        }
    }

    fn ends(&self) -> Instant {
        self.began + Duration::from_millis(self.until_ms.load(Relaxed))
    }
}

/// How long a lease counts here.
fn lasts(ttl: Duration) -> Duration {
    ttl - ttl / MARGIN_PARTS
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn failed(error: Error) -> LeaseError {
    LeaseError(error.details().to_owned())
}
