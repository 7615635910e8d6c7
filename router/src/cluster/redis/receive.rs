//! What comes in: it is taken from the connection at once, sorted, and queued within limits of our own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use fred::prelude::*;
use fred::types::Message as Published;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::codec::{self, Opened};
use super::queue::Message;
use super::shared::Shared;

/// What is published in Redis on a channel of this name, less the prefix, is published to the channel.
pub(super) const BRIDGE_PREFIX: &str = "roost:publish:";
/// Something about nodes changed: their table should be read.
pub(super) const NEWS_NODES: &str = "nodes";
/// The shared settings changed.
pub(super) const NEWS_CONFIG: &str = "config";
/// What the connection delivers is subscribed to again after this, should it ever end.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(100);

const SHARDED: usize = 0;
const PLAIN: usize = 1;

impl Shared {
    pub(super) async fn receive_loop(self: Arc<Self>) {
        let (channel, plain, news) = (self.names.channel(self.node), self.names.plain(self.node), self.names.news());
        loop {
            let mut published = self.subscriber.message_rx();
            loop {
                let message: Published = match published.recv().await {
                    Ok(message) => message,
                    Err(RecvError::Lagged(lost)) => {
                        // Which ones is told by the numbers of those that follow.
                        self.metrics.messages_lagged.add(lost as usize);
                        continue;
                    }
                    Err(RecvError::Closed) => break,
                };
                let Some(bytes) = message.value.into_bytes() else { continue };
                let name: &str = &message.channel;
                if name == channel {
                    self.take(bytes);
                } else if name == plain {
                    self.heard.lock()[PLAIN] = Instant::now();
                } else if name == news {
                    self.take_news(&bytes);
                } else if let Some(to) = name.strip_prefix(BRIDGE_PREFIX) {
                    self.take_bridged(to, bytes);
                }
            }
            tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
        }
    }

    fn take(&self, bytes: Bytes) {
        match codec::open(bytes) {
            Ok(Opened::Ping { from, incarnation, ping }) => {
                if from == self.node && incarnation == self.info.incarnation && ping <= self.ping.load(Relaxed) {
                    self.heard.lock()[SHARDED] = Instant::now();
                    self.settle();
                }
            }
            Ok(Opened::Batch { from, incarnation, parcels }) => {
                self.metrics.messages_heard.add(1);
                if !self.incoming.push(Message { from, incarnation, parcels }) {
                    self.metrics.messages_overflowed.add(1);
                }
            }
            Err(error) => {
                self.metrics.messages_refused.add(1);
                self.complain(&error);
            }
        }
    }

    fn take_news(&self, bytes: &[u8]) {
        if bytes == NEWS_NODES.as_bytes() {
            self.look.notify_one();
        } else if bytes == NEWS_CONFIG.as_bytes() {
            self.settings_news.notify_waiters();
        }
    }

    fn take_bridged(&self, to: &str, bytes: Bytes) {
        let bridge = self.bridge.lock();
        if let Some(bridge) = &*bridge
            && bridge.try_send((to.to_owned(), bytes)).is_err()
        {
            self.metrics.bridge_overflowed.add(1);
        }
    }

    /// Subscribes to all that this node hears. Again does no harm.
    ///
    /// The client would do so by itself after a reconnect, but not always: fred 10.1 sends SUBSCRIBE without a channel if
    /// only sharded ones are held, and its sharded ones then get lost.
    pub(super) async fn subscribe(&self) -> Result<(), Error> {
        self.subscriber.ssubscribe(self.names.channel(self.node)).await?;
        self.subscriber.subscribe(vec![self.names.plain(self.node), self.names.news()]).await?;
        if self.options.bridge {
            self.subscriber.psubscribe(format!("{BRIDGE_PREFIX}*")).await?;
        }
        Ok(())
    }

    /// Sends this node a test through both of its channels.
    pub(super) async fn send_ping(&self) {
        let ping = self.ping.fetch_add(1, Relaxed) + 1;
        let message = Bytes::from(codec::header(self.node, self.info.incarnation, ping));
        let pipeline = self.commands.pipeline();
        let queued: Result<(), Error> = pipeline.spublish(self.names.channel(self.node), message).await;
        let also: Result<(), Error> = pipeline.publish(self.names.plain(self.node), "ping").await;
        if queued.and(also).is_ok() {
            // Whether it came back is what counts.
            let _: Vec<Result<Value, Error>> = pipeline.try_all().await;
        }
    }

    /// Whether a test has not come back for so long.
    pub(super) fn is_deaf(&self, after: Duration) -> bool {
        let now = Instant::now();
        self.heard.lock().iter().any(|heard| now.duration_since(*heard) > after)
    }

    /// Says what could not be read: each kind of it once, as it may come with every message.
    pub(super) fn complain(&self, error: &codec::CodecError) {
        let mut said = self.said.lock();
        if !said.contains(&error.kind()) {
            said.push(error.kind());
            tracing::warn!(%error, "what another node sent cannot be read; no more is said of this kind");
        }
    }
}
