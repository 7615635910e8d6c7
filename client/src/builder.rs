//! How a client comes to be.

use std::sync::Arc;

use roost_wire::Encoding;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::client::Client;
use crate::core::{Config, Core, Event, Identity, Resume};
use crate::driver::link::Manner;
use crate::driver::race::may_be_quic;
use crate::driver::{COMMANDS_QUEUED_MAX, Driver, EVENTS_QUEUED_MAX, Me, Taken};
use crate::error::{ConnectError, EndReason};
use crate::events::Events;
use crate::persist::{MemoryOutbox, OutboxStore};
use crate::tls::{Lazy, Trust};
use crate::url::Url;

/// What carries a client's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// QUIC where it comes through, else WebSocket: QUIC has a head start of 250 ms. Where it failed it is tried again after
    /// five minutes, and on another network. Without TLS it is WebSocket.
    #[default]
    Auto,
    /// QUIC (RFC 9000) or nothing.
    Quic,
    /// WebTransport or nothing: QUIC as browsers have it. A program gains nothing by it.
    WebTransport,
    /// WebSocket (RFC 6455) alone.
    WebSocket,
}

/// Settings of a client before it connects.
pub struct Builder {
    url: String,
    token: Option<String>,
    guest: Option<String>,
    device: Option<String>,
    encoding: Encoding,
    config: Config,
    resume: Resume,
    store: Box<dyn OutboxStore>,
    manual_acks: bool,
    trust: Trust,
    transport: Transport,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: None,
            guest: None,
            device: None,
            encoding: Encoding::Protobuf,
            config: Config::default(),
            resume: Resume::default(),
            store: Box::new(MemoryOutbox),
            manual_acks: false,
            trust: Trust::System,
            transport: Transport::Auto,
        }
    }

    /// Connects as the user of this token. It wins over a resumed one.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Enters as a new guest of this display name, unless there is a token.
    #[must_use]
    pub fn guest(mut self, name: impl Into<String>) -> Self {
        self.guest = Some(name.into());
        self
    }

    /// Names this installation [default: the resumed one, else a random name]. A second connection of the same device
    /// replaces the first.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }

    /// JSON instead of protobuf, for looking at what is said.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Times and limits.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Goes on where an earlier client stopped.
    #[must_use]
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Keeps messages that wait for their acknowledgement here [default: in memory only].
    #[must_use]
    pub fn outbox(mut self, store: impl OutboxStore) -> Self {
        self.store = Box::new(store);
        self
    }

    /// Whose certificates are believed, for `https://` and `wss://` [default: whom this machine trusts].
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// What carries the connections [default: [`Transport::Auto`]].
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Entries count as received only when the app says so by [`Client::received`]: after it has saved them.
    #[must_use]
    pub fn manual_acks(mut self) -> Self {
        self.manual_acks = true;
        self
    }

    /// Starts the client on the current tokio runtime and does not wait for the server.
    ///
    /// # Errors
    /// [`ConnectError`] for what no waiting would mend: the address, whom to trust, the identity, the outbox.
    pub fn start(mut self) -> Result<(Client, Events), ConnectError> {
        let url = Url::parse(&self.url)?;
        let tls = Lazy::new(self.trust);
        if url.is_tls() {
            tls.get()?;
        }
        let (endpoints, paths) = Default::default();
        let manner = Manner { encoding: self.encoding, transport: self.transport, tls, endpoints, paths };
        if matches!(self.transport, Transport::Quic | Transport::WebTransport) && !may_be_quic(&url, &manner) {
            return Err(ConnectError::NoQuic);
        }
        if self.token.is_some() {
            self.resume.token.clear();
        } else if self.guest.is_none() && self.resume.token.is_empty() {
            return Err(ConnectError::Identity);
        }
        let resumed = Some(std::mem::take(&mut self.resume.device)).filter(|device| !device.is_empty());
        let bits = Uuid::now_v7().as_u128();
        let device = self.device.or(resumed).unwrap_or_else(|| format!("d-{:08x}", bits & 0xffff_ffff));
        let restored = self.store.load().map_err(|error| ConnectError::Outbox(error.to_string()))?;
        // The low 62 bits of a UUIDv7 are random.
        let seed = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        let identity = Identity { token: self.token, guest: self.guest, device };
        let core = Core::new(self.config, self.encoding, url, identity, self.resume, restored, seed);
        let (commands, command_receiver) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (event_sender, receiver) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (taken, me) = (Arc::new(Taken::default()), Arc::new(Me::default()));
        let (client_me, acknowledge) = (Arc::clone(&me), !self.manual_acks);
        let driver = Driver::new(core, manner, self.store, command_receiver, event_sender, Arc::clone(&taken), me);
        tokio::spawn(driver.run());
        Ok((Client::new(commands, client_me), Events { receiver, taken, acknowledge, first: None, given: None }))
    }

    /// Starts the client and waits for its first session. Later losses are mended in the background.
    ///
    /// # Errors
    /// [`ConnectError`] if the first try fails; nothing goes on in the background then.
    pub async fn connect(self) -> Result<(Client, Events), ConnectError> {
        let url = self.url.clone();
        let (client, mut events) = self.start()?;
        let mut last = None;
        loop {
            match events.receiver.recv().await {
                Some(Event::Disconnected { retry_in: Some(_), reason, .. }) => {
                    client.close();
                    last = Some(ConnectError::Failed { url: url.clone(), reason });
                }
                Some(Event::Ended(reason)) => return Err(last.unwrap_or(ConnectError::Ended(reason))),
                None => return Err(last.unwrap_or(ConnectError::Ended(EndReason::Closed))),
                Some(event @ Event::Connected { .. }) if last.is_none() => {
                    events.first = Some(event);
                    return Ok((client, events));
                }
                Some(_) => {}
            }
        }
    }
}
