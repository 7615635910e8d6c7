//! Being on the table of nodes, and reading it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use fred::prelude::*;
use tokio::time::Instant;

use super::error::{ConnectError, Trouble};
use super::receive::NEWS_NODES;
use super::shared::{Health, Link, Shared, Target};
use super::table::{NodeInfo, NodeTable};
use crate::NodeId;

/// Says that a node lives unless another life has its name, and reads the table. One script, so that of two nodes with
/// one name the second is refused whatever happens between. It may write when memory is short: it is a few hundred
/// bytes, and without them no node is found.
///
/// Keys: the node's, the set of all, the number of its last life. Arguments: incarnation, what it says of itself, ms that
/// this lasts, its number, what nodes' keys begin with, ms to remember the number of its last life. Answers with the life that has the name (or nothing), the time in seconds and microseconds,
/// and all live nodes.
const BEAT: &str = r"#!lua flags=allow-oom
local held, taken = redis.call('GET', KEYS[1]), ''
if held and string.match(held, '^%d+') ~= ARGV[1] then
  taken = held
else
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
  redis.call('SADD', KEYS[2], ARGV[4])
  if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[6])
  end
end
local now = redis.call('TIME')
local answer = {taken, now[1], now[2]}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local told = redis.call('GET', ARGV[5] .. id)
  if told then answer[#answer + 1] = told else redis.call('SREM', KEYS[2], id) end
end
return answer";

/// Takes a node off the table if it is still this life's. Keys and arguments as of [`BEAT`].
const LEAVE: &str = r"#!lua flags=allow-oom
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%d+') == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', KEYS[2], ARGV[4])
end
return 0";

/// The number of the next life: above all earlier ones, and not below Redis's clock, so that it rises even if Redis
/// forgot; the node's own clock may be wrong. Key: of the number. Argument: ms to remember it.
const INCARNATION: &str = r"#!lua flags=allow-oom
local last, now = tonumber(redis.call('GET', KEYS[1]) or '0'), redis.call('TIME')
local clock = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local next = string.format('%.0f', math.max(last + 1, clock))
redis.call('SET', KEYS[1], next, 'PX', ARGV[1])
return next";

/// A name's last incarnation is remembered so long.
const INCARNATION_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Between two looks at the table at least.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(50);
/// While a name is taken it is looked at so often.
const NAME_LOOK_EVERY: Duration = Duration::from_millis(200);
/// A node that has gone from the table is told so long what all are told: Redis may have forgotten it, and not it Redis.
const TARGET_GRACE: Duration = Duration::from_secs(6);
/// What this node sends itself has to come back within so many ticks.
const DEAF_AFTER_TICKS: u32 = 2;
/// A look that took longer says nothing of clocks.
const CLOCK_LOOK_MAX_MS: u64 = 1000;

/// What a beat found.
struct Beat {
    /// The other life that has this node's name, as it stands in Redis.
    taken: Option<String>,
    /// Redis's clock less this node's, in ms; `None`: the answer took too long to say.
    behind_ms: Option<i64>,
    nodes: Vec<NodeInfo>,
}

/// Draws the number of this life.
pub(super) async fn incarnation(commands: &Client, key: String) -> Result<u64, Error> {
    let next: String = commands.eval(INCARNATION, vec![key], vec![incarnation_ttl()]).await?;
    next.parse().map_err(|_| Error::new(ErrorKind::Parse, "an incarnation that is no number"))
}

fn incarnation_ttl() -> String {
    INCARNATION_TTL.as_millis().to_string()
}

impl Shared {
    /// Puts this node on the table. Waits for a node of its name that died a moment ago to go from it.
    ///
    /// # Errors
    /// [`ConnectError::NameTaken`], [`ConnectError::Versions`], or what Redis says.
    pub(super) async fn join(&self) -> Result<(), ConnectError> {
        let deadline = Instant::now() + self.options.node_ttl + self.options.tick_every;
        let mut told = false;
        let beat = loop {
            let beat = self.beat().await.map_err(|error| ConnectError::of(self.options.address(), &error))?;
            let Some(taken) = &beat.taken else { break beat };
            let by = describe(taken);
            if Instant::now() > deadline {
                return Err(ConnectError::NameTaken { name: self.info.name.clone(), by });
            }
            if !told {
                tracing::warn!(name = self.info.name, by, "waiting for a node of this name: it has died, or it lives");
                told = true;
            }
            tokio::time::sleep(NAME_LOOK_EVERY).await;
        };
        if let Some(stranger) = beat.nodes.iter().find(|node| !node.understands(self.options.versions)) {
            let refused = ConnectError::Versions {
                name: stranger.name.clone(),
                version: stranger.version.clone(),
                theirs: (stranger.bus_min, stranger.bus_max),
                ours: self.options.versions,
            };
            let _ = self.off_the_table().await;
            return Err(refused);
        }
        self.note_beat(beat);
        self.tell_news(NEWS_NODES).await;
        Ok(())
    }

    /// Takes this node off the table, and has the others look.
    pub(super) async fn off_the_table(&self) -> Result<(), Error> {
        let _: Value = self.commands.eval(LEAVE, self.beat_keys(), self.beat_args()).await?;
        self.tell_news(NEWS_NODES).await;
        Ok(())
    }

    pub(super) async fn tell_news(&self, news: &'static str) {
        // Whoever misses it looks by itself soon.
        let _: Result<Value, Error> = self.commands.publish(self.names.news(), news).await;
    }

    /// Says that this node lives, reads the table, tests whether it hears itself: for ever.
    pub(super) async fn tick_loop(self: Arc<Self>) {
        // A node that started without Redis may find its name taken by its own earlier life for a while.
        let patient_until = Instant::now() + self.options.node_ttl + self.options.tick_every;
        let mut joined = self.health.borrow().link == Link::Up;
        let mut looked = Instant::now();
        loop {
            if self.is_superseded() {
                return;
            }
            let beat = if self.commands.is_connected() { self.beat().await } else { Err(self.trouble.lock().clone()) };
            match beat {
                Ok(Beat { taken: Some(taken), .. }) if joined || Instant::now() > patient_until => {
                    self.supersede(describe(&taken));
                    return;
                }
                Ok(Beat { taken: Some(_), .. }) => {}
                Ok(beat) => {
                    joined = true;
                    self.note_beat(beat);
                    self.send_ping().await;
                    self.look_whether_deaf().await;
                    self.probe_memory().await;
                }
                Err(error) => self.note_down(&error),
            }
            let (parcels, bytes) = self.outgoing.len();
            self.metrics.queued_parcels.set(parcels);
            self.metrics.queued_bytes.set(bytes);
            tokio::select! {
                () = tokio::time::sleep(self.options.tick_every) => {}
                () = self.look.notified() => tokio::time::sleep_until(looked + LOOK_EVERY_MIN).await,
            }
            looked = Instant::now();
            // Whoever waits to hear itself before it sends has waited for a tick.
            self.settle();
        }
    }

    async fn beat(&self) -> Result<Beat, Error> {
        let began = Instant::now();
        let answer: Vec<String> = self.commands.eval(BEAT, self.beat_keys(), self.beat_args()).await?;
        let took_ms = began.elapsed().as_millis() as u64;
        let [taken, seconds, micros, nodes @ ..] = answer.as_slice() else {
            return Err(Error::new(ErrorKind::Parse, "a script answered something else"));
        };
        let redis_ms = seconds.parse::<i64>().unwrap_or(0) * 1000 + micros.parse::<i64>().unwrap_or(0) / 1000;
        let here_ms = (self.options.clock)().saturating_sub(took_ms / 2) as i64;
        Ok(Beat {
            taken: (!taken.is_empty()).then(|| taken.clone()),
            behind_ms: (took_ms <= CLOCK_LOOK_MAX_MS).then_some(redis_ms - here_ms),
            nodes: nodes.iter().filter_map(|told| parse(told)).collect(),
        })
    }

    fn beat_keys(&self) -> Vec<String> {
        vec![self.names.node(self.node), self.names.nodes(), self.names.incarnation(self.node)]
    }

    fn beat_args(&self) -> Vec<String> {
        let info = NodeInfo { clock_ms: (self.options.clock)(), ..self.info.clone() };
        let info = serde_json::to_string(&info).expect("strings and numbers");
        let ttl = self.options.node_ttl.as_millis().to_string();
        let (incarnation, node) = (self.info.incarnation.to_string(), self.node.to_string());
        vec![incarnation, info, ttl, node, self.names.node_prefix(), incarnation_ttl()]
    }

    fn note_beat(&self, beat: Beat) {
        // Before anybody is told that they are there.
        self.note_targets(&beat.nodes);
        let nodes = beat.nodes.len();
        let off_max_ms = self.options.clock_skew_max.as_millis() as u64;
        let before = self.health.borrow().clone();
        self.set_health(|health| {
            health.link = Link::Up;
            health.nodes = nodes;
            if let Some(behind_ms) = beat.behind_ms {
                health.clock_skew_ms = -behind_ms;
                health.clock_off = behind_ms.unsigned_abs() > off_max_ms;
            }
        });
        let now = self.health.borrow().clone();
        tell_changes(&before, &now);
        // What a node says of its clock changes each time: that alone is no news.
        let table = NodeTable::new(beat.nodes);
        self.table.send_if_modified(|known| {
            let timeless = |table: &NodeTable| -> Vec<NodeInfo> {
                table.nodes().iter().map(|node| NodeInfo { clock_ms: 0, ..node.clone() }).collect()
            };
            let news = timeless(known) != timeless(&table);
            *known = table;
            news
        });
        if before.link != Link::Up {
            // It could not hear itself while Redis was away.
            *self.heard.lock() = [Instant::now(); 2];
            self.resume.notify_one();
        }
    }

    /// Who is to get what is for all.
    fn note_targets(&self, nodes: &[NodeInfo]) {
        let now = Instant::now();
        let routers = nodes.iter().filter(|node| node.role.routes()).map(NodeInfo::id);
        let live: Vec<NodeId> = routers.filter(|id| *id != self.node).collect();
        let mut targets = self.targets.lock();
        let lately = |target: &&Target| now.duration_since(target.seen) < TARGET_GRACE;
        let gone = targets.iter().filter(|target| !live.contains(&target.node)).filter(lately).copied();
        let live = live.iter().map(|node| Target { node: *node, seen: now });
        let all: Vec<Target> = live.chain(gone).collect();
        *targets = all.into();
    }

    fn note_down(&self, error: &Error) {
        let trouble = Trouble::of(error);
        let why = format!("{} ({})", error.details(), trouble.advice());
        let since_ms = (self.options.clock)();
        let mut news = false;
        self.set_health(|health| match &mut health.link {
            Link::Down { why: known, .. } => *known = why.clone(),
            link => {
                *link = Link::Down { since_ms, why: why.clone() };
                news = true;
            }
        });
        if news {
            self.metrics.downs.add(1);
            tracing::error!(redis = self.options.address(), why, "Redis does not answer: nodes do not hear each other");
        }
    }

    fn supersede(&self, by: String) {
        tracing::error!(
            name = self.info.name,
            by,
            "another node has this node's name: this one tells and hears nothing"
        );
        self.set_health(|health| health.link = Link::Superseded { by });
    }

    async fn look_whether_deaf(&self) {
        let deaf = self.is_deaf(self.options.tick_every * DEAF_AFTER_TICKS);
        if deaf && !self.health.borrow().deaf {
            tracing::warn!("what this node sends to itself does not come back: it subscribes again");
        }
        self.set_health(|health| health.deaf = deaf);
        if deaf && self.subscriber.is_connected() {
            self.metrics.resubscribes.add(1);
            self.note(self.subscribe().await.err());
        }
    }

    /// Tries to write what Redis refuses when its memory is full.
    async fn probe_memory(&self) {
        let ttl = Some(Expiration::PX(self.options.node_ttl.as_millis() as i64));
        let written: Result<(), Error> = self.commands.set(self.names.probe(), "1", ttl, None, false).await;
        let full = written.is_err_and(|error| Trouble::of(&error) == Trouble::OutOfMemory);
        if full && !self.health.borrow().out_of_memory {
            let what = Trouble::OutOfMemory.advice();
            tracing::error!(redis = self.options.address(), what, "Redis is out of memory");
        }
        self.set_health(|health| health.out_of_memory = full);
    }

    /// Follows what the clients say of their connections.
    pub(super) async fn watch_connections(self: Arc<Self>) {
        let (mut errors, mut also) = (self.commands.error_rx(), self.subscriber.error_rx());
        let (mut sending, mut hearing) = (self.commands.reconnect_rx(), self.subscriber.reconnect_rx());
        loop {
            tokio::select! {
                error = errors.recv() => if let Ok((error, _)) = error {
                    self.note(Some(error));
                    self.settled.store(false, Relaxed);
                    self.look.notify_one();
                },
                error = also.recv() => if let Ok((error, _)) = error {
                    self.note(Some(error));
                    self.settled.store(false, Relaxed);
                },
                back = sending.recv() => if back.is_ok() {
                    self.look.notify_one();
                },
                back = hearing.recv() => if back.is_ok() {
                    self.metrics.resubscribes.add(1);
                    self.note(self.subscribe().await.err());
                    self.look.notify_one();
                },
            }
        }
    }
}

fn tell_changes(before: &Health, now: &Health) {
    if let Link::Down { since_ms, .. } = before.link {
        tracing::warn!(since_ms, "Redis answers again");
    }
    if now.clock_off && !before.clock_off {
        let skew_ms = now.clock_skew_ms;
        tracing::error!(skew_ms, "the clocks of this node and of Redis are far apart: set the clock of one of them");
    }
}

/// A node as it stands in Redis: its incarnation, a space, and what it says of itself.
fn parse(told: &str) -> Option<NodeInfo> {
    let (_, info) = told.split_once(' ')?;
    serde_json::from_str(info).ok()
}

/// What is known of the node that holds a name, for people.
fn describe(told: &str) -> String {
    parse(told).map_or_else(
        || told.chars().take(200).collect(),
        |info| {
            let NodeInfo { incarnation, listen, grpc, version, .. } = info;
            format!("incarnation {incarnation}, release {version}, clients at {listen:?}, gRPC at {grpc:?}")
        },
    )
}
