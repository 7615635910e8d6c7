//! Request heads: the upgrade (RFC 6455 §4.2), refusals, and streams of the HTTP service.

use bytes::{Bytes, BytesMut};
use roost_wire::Encoding;
use roost_wire::limits::HEAD_BYTES_MAX;
use roost_wire::link::SessionKey;
use roost_wire::ws::Deflate;
use roost_wire::ws::handshake::{
    HeadError, Request, Upgrade, parse_request, refusal, refusal_for_now, write_accept_deflate,
};

use super::Shard;
use crate::clock::NEVER;
use crate::config::{BROADCAST_PATH, ECHO_PATH};
use crate::session::{BenchPath, Caller, Closing, Http, Session, Stage};
use crate::{Effect, HttpDown, ShardMetrics};

/// Seconds after which somebody who found no memory may come back: the first of them, and over how many they are spread.
const RETRY_AFTER_S: u32 = 5;
const RETRY_SPREAD_S: u32 = 16;

/// What to do with a connection after a look at its first bytes.
enum Verdict {
    /// The head is cut.
    More,
    /// A request for the HTTP service.
    Http,
    /// A session. `head_bytes` is the length of the head; frames follow it.
    Upgrade { head_bytes: usize, accept: BytesMut, terms: Terms },
    /// Refused with this response, counted there.
    Refuse(BytesMut, fn(&ShardMetrics, u64)),
}

/// What a WebSocket is to be.
struct Terms {
    deflate: Option<Deflate>,
    bearer: Option<Box<str>>,
    speaks: Speaks,
}

/// What the messages of a WebSocket are.
#[derive(Clone, Copy)]
enum Speaks {
    /// Frames of Roost.
    Roost(Encoding),
    /// Nothing we read.
    Nothing(BenchPath),
}

impl Shard {
    /// Bytes of a request head. They are kept only while it is cut.
    pub(super) fn head(&mut self, key: SessionKey, bytes: &mut [u8]) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Head(head) = &mut conn.stage else { return };
        if head.partial.is_empty() {
            if let Verdict::More = self.judge_and_go(key, bytes) {
                self.keep_partial(key, bytes.to_vec());
            }
            return;
        }
        let seen = head.partial.len();
        head.partial.extend_from_slice(bytes);
        // A head that comes byte by byte is not parsed at each of them.
        if !ends_head(&head.partial, seen) && head.partial.len() < HEAD_BYTES_MAX {
            return;
        }
        let mut whole = std::mem::take(&mut head.partial);
        if let Verdict::More = self.judge_and_go(key, &mut whole) {
            self.keep_partial(key, whole);
        }
    }

    fn keep_partial(&mut self, key: SessionKey, partial: Vec<u8>) {
        if let Some(Stage::Head(head)) = self.slots.get_mut(key).map(|conn| &mut conn.stage) {
            head.partial = partial;
        }
    }

    /// Judges and obeys. The verdict returned is `More`, or done with.
    fn judge_and_go(&mut self, key: SessionKey, bytes: &mut [u8]) -> Verdict {
        match self.judge(key, bytes) {
            Verdict::More => return Verdict::More,
            Verdict::Http => self.open_http(key, bytes),
            Verdict::Refuse(response, count) => {
                count(&self.metrics, 1);
                self.refuse_head(key, response);
            }
            Verdict::Upgrade { head_bytes, accept, terms } => {
                self.upgrade(key, accept, terms);
                self.session_bytes(key, &mut bytes[head_bytes..]);
            }
        }
        Verdict::Http
    }

    fn judge(&self, key: SessionKey, bytes: &[u8]) -> Verdict {
        let (request, head_bytes) = match parse_request(bytes) {
            Ok(None) => return Verdict::More,
            Ok(Some(found)) => found,
            Err(error) => {
                let count = match error {
                    HeadError::TooLarge => ShardMetrics::refused_head_large,
                    _ => ShardMetrics::refused_head_malformed,
                };
                return Verdict::Refuse(error.response(), count);
            }
        };
        let (upgrade, bench) = match request {
            Request::Upgrade(upgrade) if upgrade.path == self.config.ws_path => (upgrade, None),
            Request::Upgrade(upgrade) if self.config.bench_paths => match upgrade.path {
                ECHO_PATH => (upgrade, Some(BenchPath::Echo)),
                BROADCAST_PATH => (upgrade, Some(BenchPath::Broadcast)),
                _ => return Verdict::Http,
            },
            _ => return Verdict::Http,
        };
        if !self.config.origins.admits(upgrade.origin, upgrade.host) {
            let response = refusal(403, "pages of this origin may not open a session");
            return Verdict::Refuse(response, ShardMetrics::refused_origin);
        }
        if !self.admitting {
            return Verdict::Refuse(no_memory(key), ShardMetrics::refused_memory);
        }
        let protocol = if bench.is_some() { None } else { choose_protocol(&upgrade) };
        // What one says to all is compressed with frames in mind: text or binary follows from the encoding.
        let may_deflate = self.config.compression && bench != Some(BenchPath::Broadcast);
        let deflate = upgrade.deflate.filter(|_| may_deflate);
        let mut accept = BytesMut::with_capacity(256);
        write_accept_deflate(upgrade.key, protocol.map(Encoding::subprotocol), deflate, &mut accept);
        let bearer = upgrade.bearer.map(Box::from);
        let speaks = bench.map_or_else(|| Speaks::Roost(protocol.unwrap_or(Encoding::Json)), Speaks::Nothing);
        Verdict::Upgrade { head_bytes, accept, terms: Terms { deflate, bearer, speaks } }
    }

    fn upgrade(&mut self, key: SessionKey, accept: BytesMut, terms: Terms) {
        let until = self.clock.tick_after(self.now, self.config.connect_within);
        let Terms { deflate, bearer, speaks } = terms;
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Head(head) = &conn.stage else { return };
        let caller = Caller { peer: head.peer, bearer };
        (conn.stage, conn.until) = match speaks {
            Speaks::Roost(encoding) => (Stage::Session(Session::new(&self.config, encoding, deflate, caller)), until),
            Speaks::Nothing(path) => (Stage::Session(Session::bench(&self.config, path, deflate, caller)), NEVER),
        };
        self.metrics.upgrades(1);
        self.metrics.upgrades_deflate(deflate.is_some().into());
        self.queue(key, accept.freeze());
        match speaks {
            Speaks::Roost(encoding) => self.queue(key, self.stock.hello(encoding)),
            Speaks::Nothing(path) => {
                self.known(key);
                self.begin_bench(key, path);
            }
        }
    }

    /// Answers a request by `response`, then lets the connection go.
    pub(super) fn refuse_head(&mut self, key: SessionKey, response: BytesMut) {
        self.queue(key, response.freeze());
        self.begin_closing(key, Closing::Deaf);
    }

    /// A request for the HTTP service was not whole in time: the service loses it, the peer gets 408.
    pub(super) fn refuse_request(&mut self, key: SessionKey) {
        self.effects.push_back(Effect::HttpEnd { session: key });
        self.refuse_head(key, refusal(408, "no whole request in time"));
    }

    fn open_http(&mut self, key: SessionKey, bytes: &[u8]) {
        let until = self.clock.tick_after(self.now, self.config.request_within);
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Head(head) = &conn.stage else { return };
        let peer = head.peer;
        conn.stage = Stage::Http(Http { untaken_bytes: 0, half_closed: false, answered: false, done: false });
        conn.until = until;
        self.metrics.http_opened(1);
        let bytes = Bytes::copy_from_slice(bytes);
        self.give_http(key, bytes.len());
        self.effects.push_back(Effect::HttpOpen { session: key, peer, bytes });
    }

    /// Bytes for the HTTP service. What comes after it is done is thrown away.
    pub(super) fn http_bytes(&mut self, key: SessionKey, bytes: &[u8]) {
        let Some(Stage::Http(http)) = self.slots.get(key).map(|conn| &conn.stage) else { return };
        if http.done || bytes.is_empty() {
            return;
        }
        self.effects.push_back(Effect::HttpData { session: key, bytes: Bytes::copy_from_slice(bytes) });
        self.give_http(key, bytes.len());
    }

    /// Counts bytes given to the HTTP service; above its window reading pauses.
    fn give_http(&mut self, key: SessionKey, given: usize) {
        let Some(Stage::Http(http)) = self.slots.get_mut(key).map(|conn| &mut conn.stage) else { return };
        http.untaken_bytes += given;
        if http.untaken_bytes > self.config.http_window_bytes {
            self.pause(key);
        }
    }

    pub(super) fn http_down(&mut self, key: SessionKey, down: HttpDown) {
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Http(http) = &mut conn.stage else { return };
        if !matches!(down, HttpDown::Taken(_)) && !std::mem::replace(&mut http.answered, true) {
            self.known(key);
        }
        let Some(conn) = self.slots.get_mut(key) else { return };
        let Stage::Http(http) = &mut conn.stage else { return };
        match down {
            HttpDown::Data(bytes) if !http.done => self.queue(key, bytes),
            HttpDown::Data(_) => {}
            HttpDown::Taken(taken) => {
                http.untaken_bytes = http.untaken_bytes.saturating_sub(taken);
                if http.untaken_bytes <= self.config.http_window_bytes / 2 {
                    self.resume(key);
                }
            }
            HttpDown::End => {
                http.done = true;
                if conn.outbound.is_empty() {
                    self.let_go(key);
                }
            }
        }
    }
}

/// Who is refused together comes back spread over some seconds: slots and their generations differ.
fn no_memory(key: SessionKey) -> BytesMut {
    let after_s = RETRY_AFTER_S + key.slot().wrapping_add(key.generation()) % RETRY_SPREAD_S;
    refusal_for_now(503, after_s, "no memory for more sessions")
}

/// The first of the client's sub-protocols that is ours. `None`: it gets JSON, and no sub-protocol is named (RFC 6455
/// §4.2.2: not agreeing to any is no error).
fn choose_protocol(upgrade: &Upgrade<'_>) -> Option<Encoding> {
    upgrade.protocols().find_map(Encoding::from_subprotocol)
}

/// Whether an empty line ends in `bytes` behind the first `seen`.
fn ends_head(bytes: &[u8], seen: usize) -> bool {
    let tail = &bytes[seen.saturating_sub(3)..];
    tail.windows(2).any(|pair| pair == b"\n\n") || tail.windows(3).any(|three| three == b"\n\r\n")
}
