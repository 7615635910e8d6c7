//! What programs publish in Redis becomes a publish to a channel: `PUBLISH roost:publish:news "The gulls are back"`.
//!
//! Every node hears it, and the one that holds the lease `bridge` acts. Redis's PUBLISH is at most once: what is
//! published while no node listens, or in the seconds until another node takes the lease of one that died, is lost, and
//! Redis does not tell. Whoever needs to know calls `POST /v1/publish`.

use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use roost_storage::Store;
use roost_wire::pb;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::shared::Shared;
use crate::{Bus, Downstream, Env, Router};

/// The lease of the node that acts.
pub(super) const LEASE: &str = "bridge";

/// As `POST /v1/publish` takes it; `{"text":"…"}` will do.
#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    text: String,
    body: Option<pb::Body>,
    #[serde(default)]
    cmid: String,
}

/// Passes on what is published in Redis, as long as it is polled.
pub(super) async fn run<S: Store, D: Downstream, E: Env, B: Bus>(
    shared: Arc<Shared>,
    router: Weak<Router<S, D, E, B>>,
) {
    let max = shared.options.bridge_publishes_max;
    let (bridge, mut bridged) = mpsc::channel(max);
    *shared.bridge.lock() = Some(bridge);
    let _open = Open(&shared);
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((channel, payload)) = bridged.recv(), if under_way.len() < max => {
                let Some(publish) = read(channel, &payload) else {
                    shared.metrics.bridge_refused.add(1);
                    say(shared.metrics.bridge_refused.get(), "a publish in Redis is no publish to a channel");
                    continue;
                };
                let Some(router) = router.upgrade() else { return };
                // In the order they came: the router orders a conversation's when it is first polled.
                under_way.push(async move { router.publish(None, publish).await });
            }
            Some(published) = under_way.next() => match published {
                Ok(_) => shared.metrics.bridge_published.add(1),
                Err(error) => {
                    shared.metrics.bridge_failed.add(1);
                    let code = error.code;
                    say(shared.metrics.bridge_failed.get(), &format!("a publish in Redis was not taken: {code}"));
                }
            },
        }
    }
}

/// Lets nothing more in when the bridge ends.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        *self.0.bridge.lock() = None;
    }
}

/// Logs the first of many, and then fewer and fewer.
fn say(count: u64, what: &str) {
    if count.is_power_of_two() {
        tracing::warn!(count, what);
    }
}

/// What is to be published. `None`: it says nothing, or not in a way that is understood.
fn read(channel: String, payload: &[u8]) -> Option<pb::Publish> {
    let (text, cmid) = if payload.starts_with(b"{") {
        let Payload { text, body, cmid } = serde_json::from_slice(payload).ok()?;
        (body.map_or(text, |body| body.text), cmid)
    } else {
        (std::str::from_utf8(payload).ok()?.to_owned(), String::new())
    };
    if text.is_empty() {
        return None;
    }
    let body = Some(pb::Body { text, event: None });
    Some(pb::Publish { channel, cmid, body, attempt: 0, seen: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_are_read_and_nothing_else() {
        let text = |payload: &[u8]| read("news".into(), payload).map(|publish| publish.body.unwrap().text);
        for (payload, said) in [
            (&b"The gulls are back"[..], Some("The gulls are back")),
            (br#"{"text":"hi"}"#, Some("hi")),
            (br#"{"body":{"text":"hi"},"cmid":"7"}"#, Some("hi")),
            (br#"{"body":{"text":"hi","event":{"kind":1}}}"#, None),
            (b"", None),
            (b"{}", None),
            (b"{not json", None),
            (b"\xff\xfe", None),
        ] {
            assert_eq!(text(payload).as_deref(), said, "{}", String::from_utf8_lossy(payload));
        }
        assert_eq!(read("news".into(), br#"{"text":"hi","cmid":"7"}"#).unwrap().cmid, "7");
    }
}
