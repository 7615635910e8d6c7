//! Which transport a connection takes: QUIC where it comes through, else a WebSocket (RFC 8305 does so with addresses).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roost_wire::Encoding;
use tokio::time::{Instant, sleep};

use super::link::{Lane, Manner};
use super::quic::Quic;
use super::websocket::WebSocket;
use crate::Transport;
use crate::core::Gone;
use crate::url::Url;

/// How long QUIC is tried alone.
pub const HEAD_START: Duration = Duration::from_millis(250);
/// How long a network that swallows QUIC is believed to go on doing so.
pub const QUIC_AGAIN_AFTER: Duration = Duration::from_secs(300);
/// Most servers that are remembered: those a GOAWAY named are among them.
const SERVERS_MAX: usize = 64;

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// WebSocket (RFC 6455), with TLS or without.
    WebSocket,
    /// QUIC (RFC 9000).
    Quic,
    /// WebTransport (draft-ietf-webtrans-http3): QUIC as browsers have it.
    WebTransport,
}

impl Way {
    /// As people are told it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "WebSocket",
            Self::Quic => "QUIC",
            Self::WebTransport => "WebTransport",
        }
    }
}

/// What was learned of the network: where QUIC does not come through, and until when that is believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths(Arc<Mutex<HashMap<String, Instant>>>);

impl Paths {
    fn quic_fails(&self, url: &Url, now: Instant) {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paths.retain(|_, until| *until > now);
        if paths.len() < SERVERS_MAX {
            paths.insert(url.authority().to_owned(), now + QUIC_AGAIN_AFTER);
        }
    }

    fn hopes_for_quic(&self, url: &Url, now: Instant) -> bool {
        let paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paths.get(url.authority()).is_none_or(|until| *until <= now)
    }

    /// It is another network.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether QUIC is to be tried at all for `url`: it always has TLS, and carries protobuf alone.
pub(crate) fn may_be_quic(url: &Url, manner: &Manner) -> bool {
    url.is_tls() && manner.encoding == Encoding::Protobuf && manner.transport != Transport::WebSocket
}

/// Opens a connection the way the app wants, or the one that is faster.
pub(super) async fn open(url: &Url, manner: &Manner) -> Result<Lane, Gone> {
    let websocket = async { WebSocket::open(url, manner).await.map(|socket| Lane::WebSocket(Box::new(socket))) };
    let quic = async { Quic::open(url, manner).await.map(|quic| Lane::Quic(Box::new(quic))) };
    match manner.transport {
        Transport::Quic => quic.await,
        Transport::WebTransport => Quic::open_webtransport(url, manner).await.map(|quic| Lane::Quic(Box::new(quic))),
        Transport::Auto if may_be_quic(url, manner) && manner.paths.hopes_for_quic(url, Instant::now()) => {
            let opened = first(quic, websocket, HEAD_START).await;
            if matches!(opened, Ok(Lane::WebSocket(_))) {
                manner.paths.quic_fails(url, Instant::now());
            }
            opened
        }
        Transport::Auto | Transport::WebSocket => websocket.await,
    }
}

/// What `favourite` gives, or `other` if that comes first; `other` begins after `head_start`, or once the favourite has failed.
/// If both fail it is the other's reason.
async fn first<T, E>(
    favourite: impl Future<Output = Result<T, E>>,
    other: impl Future<Output = Result<T, E>>,
    head_start: Duration,
) -> Result<T, E> {
    tokio::pin!(favourite, other);
    let mut running = true;
    tokio::select! {
        won = &mut favourite => match won {
            Ok(won) => return Ok(won),
            Err(_) => running = false,
        },
        () = sleep(head_start) => {}
    }
    tokio::select! {
        won = &mut favourite, if running => match won {
            Ok(won) => Ok(won),
            Err(_) => other.await,
        },
        won = &mut other => match won {
            Ok(won) => Ok(won),
            Err(error) if running => favourite.await.map_err(|_| error),
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(ms: u64, told: Result<&'static str, &'static str>) -> Result<&'static str, &'static str> {
        sleep(Duration::from_millis(ms)).await;
        told
    }

    /// Who won, and when, in ms.
    async fn race(
        quic: (u64, Result<&'static str, &'static str>),
        websocket: (u64, Result<&'static str, &'static str>),
    ) -> (Result<&'static str, &'static str>, u128) {
        let began = Instant::now();
        let won = first(after(quic.0, quic.1), after(websocket.0, websocket.1), HEAD_START).await;
        (won, began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_favourite_wins_unless_it_is_late_or_fails() {
        let (ok, no) = (Ok("quic"), Err("no quic"));
        for (name, quic, websocket, want) in [
            ("both are there", (40, ok), (10, Ok("ws")), (Ok("quic"), 40)),
            ("late, but still first", (300, ok), (100, Ok("ws")), (Ok("quic"), 300)),
            ("later than the other", (400, ok), (100, Ok("ws")), (Ok("ws"), 350)),
            ("refused at once", (20, no), (10, Ok("ws")), (Ok("ws"), 30)),
            ("swallowed", (600_000, no), (10, Ok("ws")), (Ok("ws"), 260)),
            ("refused while the other is under way", (300, no), (100, Ok("ws")), (Ok("ws"), 350)),
            ("the other fails first", (900, ok), (100, Err("no ws")), (Ok("quic"), 900)),
            ("both fail", (900, no), (100, Err("no ws")), (Err("no ws"), 900)),
            ("both fail, the favourite first", (20, no), (100, Err("no ws")), (Err("no ws"), 120)),
        ] {
            assert_eq!(race(quic, websocket).await, want, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_quic_failed_it_is_tried_again_later_or_elsewhere() {
        let paths = Paths::default();
        let (here, there) = (Url::parse("https://a.example").unwrap(), Url::parse("https://b.example").unwrap());
        paths.quic_fails(&here, Instant::now());
        assert!(!paths.hopes_for_quic(&here, Instant::now()) && paths.hopes_for_quic(&there, Instant::now()));
        sleep(QUIC_AGAIN_AFTER).await;
        assert!(paths.hopes_for_quic(&here, Instant::now()));
        paths.quic_fails(&here, Instant::now());
        paths.forget();
        assert!(paths.hopes_for_quic(&here, Instant::now()), "it is another network");
        for number in 0..1000 {
            paths.quic_fails(&Url::parse(&format!("https://{number}.example")).unwrap(), Instant::now());
        }
        assert_eq!(paths.0.lock().unwrap().len(), SERVERS_MAX);
    }
}
