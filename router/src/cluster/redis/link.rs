//! Connections to Redis: one for commands and messages out, one for what is heard.

use std::time::Duration;

use fred::prelude::*;
use fred::types::config::{ClusterDiscoveryPolicy, TlsConfig, TlsConnector, UnresponsiveConfig};
use fred::types::{ConnectHandle, RespVersion, Version};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::ConnectError;
use super::options::RedisOptions;

/// The first release with sharded channels and scripts that may write when memory is short.
const REDIS_MIN: Version = Version::new(7, 0, 0);
/// Messages of one turn of the connection that wait for their reader. A message is a batch of parcels.
const MESSAGES_AT_ONCE_MAX: usize = 16_384;
/// Commands that wait for the connection.
const COMMANDS_QUEUED_MAX: usize = 100_000;
const RECONNECT_AFTER_MIN_MS: u32 = 50;
const RECONNECT_AFTER_MAX_MS: u32 = 500;
const RECONNECT_JITTER_MS: u32 = 50;
/// After this a client whose own task ended for good is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Pause between tries to reach Redis at start.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// A client that is not connected yet. `once`: it gives up at the first failure, and says why.
pub(super) fn build(options: &RedisOptions, once: bool) -> Result<Client, ConnectError> {
    let unusable = |error: Error| ConnectError::Options(error.details().to_owned());
    let mut config = Config::from_url(&options.url).map_err(unusable)?;
    config.version = RespVersion::RESP3;
    config.fail_fast = once;
    if let Some(username) = &options.username {
        config.username = Some(username.clone());
    }
    if let Some(password) = &options.password {
        config.password = Some(password.clone());
    }
    if let ServerConfig::Clustered { policy, .. } = &mut config.server {
        // Servers come and go: what was learned of them counts beside what was set.
        *policy = ClusterDiscoveryPolicy::UseCache;
    }
    if let (Some(tls), Some(file)) = (&mut config.tls, &options.ca_file) {
        *tls = with_roots(file)?;
    }
    let mut policy = ReconnectPolicy::new_exponential(0, RECONNECT_AFTER_MIN_MS, RECONNECT_AFTER_MAX_MS, 2);
    policy.set_jitter(RECONNECT_JITTER_MS);
    let mut builder = Builder::from_config(config);
    builder
        .with_performance_config(|performance| {
            performance.default_command_timeout = options.command_timeout;
            performance.broadcast_channel_capacity = MESSAGES_AT_ONCE_MAX;
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = options.connect_timeout;
            connection.internal_command_timeout = options.command_timeout;
            connection.max_command_attempts = 2;
            connection.max_command_buffer_len = COMMANDS_QUEUED_MAX;
            connection.reconnect_on_auth_error = true;
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
            // A server that neither answers nor closes, as one that is paused.
            let max_timeout = Some(options.command_timeout * 2);
            connection.unresponsive = UnresponsiveConfig { max_timeout, interval: options.command_timeout / 2 };
        })
        .set_policy(policy);
    builder.build().map_err(unusable)
}

fn with_roots(file: &std::path::Path) -> Result<TlsConfig, ConnectError> {
    let unusable = |why: &dyn std::fmt::Display| ConnectError::Options(format!("{}: {why}", file.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"holds no certificate"));
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}

/// A client's own task. It would go on if its handle were dropped.
struct Connection(ConnectHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tries to reach Redis until it answers, refuses us for good, or `options.start_within` is over.
pub(super) async fn knock(options: &RedisOptions) -> Result<(), ConnectError> {
    let deadline = tokio::time::Instant::now() + options.start_within;
    let mut told = false;
    loop {
        let failed = match knock_once(options).await {
            Err(failed @ ConnectError::Unreachable { .. }) => failed,
            other => return other,
        };
        if !told {
            tracing::warn!(redis = options.address(), "{failed} Trying on");
            told = true;
        }
        if tokio::time::Instant::now() + TRY_EVERY > deadline {
            return Err(failed);
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

async fn knock_once(options: &RedisOptions) -> Result<(), ConnectError> {
    let client = build(options, true)?;
    let failed = |error: Error| ConnectError::of(options.address(), &error);
    // The name of a host may be looked up for longer than a connection may take.
    let init = tokio::time::timeout(options.connect_timeout * 3, client.init()).await;
    let answered = match init {
        Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer")),
        Ok(Err(error)) => Err(error),
        // One that lets anybody in may yet want a password for anything else.
        Ok(Ok(_)) => client.ping::<Value>(None).await.map(|_| client.server_version()),
    };
    let _ = client.quit().await;
    match answered.map_err(failed)? {
        Some(version) if version < REDIS_MIN => {
            let why = format!("it is Redis {version}; {REDIS_MIN} or later is needed");
            Err(ConnectError::Unfit { at: options.address(), why })
        }
        _ => Ok(()),
    }
}

/// Keeps a client's own task running: it ends for good at errors that it takes for final. The connection ends with this.
pub(super) async fn keep(client: Client) {
    loop {
        let mut connection = Connection(client.connect());
        match (&mut connection.0).await {
            Ok(Err(error)) if !error.is_canceled() => {
                tracing::warn!(error = error.details(), "a client of Redis ended; it is started again");
            }
            _ => {}
        }
        tokio::time::sleep(RESTART_AFTER).await;
    }
}
