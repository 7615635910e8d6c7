//! A router with an edge that records what each session is told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use roost_router::auth::{Claims, Keys, Scope};
use roost_router::{Alone, Bus, Downstream, Env, Router, RouterConfig};
use roost_storage::testkit::FaultyStore;
use roost_storage::{MemoryStore, Store};
use roost_wire::link::{Audience, Down, SessionKey, Up};
use roost_wire::pb::{self, Body, Frame, Kind};
use roost_wire::{CloseCode, ConvId, FrameBody, UserId};
use tokio::sync::Notify;

pub(crate) const SHARDS: u16 = 3;
pub(crate) const SECRET: [u8; 32] = [7; 32];

/// What a session was told.
#[derive(Clone, Debug)]
pub(crate) enum Got {
    Accepted(pb::Welcome),
    Refused(pb::Error, CloseCode),
    Reply(Option<Frame>),
    Push(FrameBody),
    Extend(u64),
    /// CHANGED, as the edge tells it after a doubt.
    Doubt,
    Close(CloseCode),
}

#[derive(Default)]
struct Recorded {
    told: HashMap<SessionKey, Vec<Got>>,
    topics: HashMap<ConvId, HashSet<SessionKey>>,
    /// Deliveries, one per envelope and shard.
    deliveries: usize,
    /// Sessions that are live, as a shard would know.
    live: HashSet<SessionKey>,
}

/// An edge that records. Like the real one it delivers to live sessions only.
#[derive(Default)]
pub(crate) struct Edge {
    recorded: Mutex<Recorded>,
    news: Notify,
}

impl Downstream for Edge {
    fn shards(&self) -> u16 {
        SHARDS
    }

    fn post(&self, shard: u16, batch: &mut Vec<Down>) {
        let mut recorded = self.recorded.lock();
        for down in batch.drain(..) {
            recorded.take(shard, down);
        }
        drop(recorded);
        self.news.notify_waiters();
    }
}

impl Recorded {
    fn tell(&mut self, shard: u16, session: SessionKey, got: Got) {
        assert_eq!(session.shard(), shard, "posted to the wrong shard");
        self.told.entry(session).or_default().push(got);
    }

    fn take(&mut self, shard: u16, down: Down) {
        match down {
            Down::Accepted { session, welcome, .. } => {
                self.live.insert(session);
                self.tell(shard, session, Got::Accepted(*welcome));
            }
            Down::Refused { session, error, close, .. } => self.tell(shard, session, Got::Refused(error, close)),
            Down::Reply { session, frame } => self.tell(shard, session, Got::Reply(frame.map(|frame| *frame))),
            Down::Extend { session, expires } => self.tell(shard, session, Got::Extend(expires)),
            Down::Close { session, code } => {
                self.live.remove(&session);
                self.tell(shard, session, Got::Close(code));
            }
            Down::Join { session, topic } => {
                self.topics.entry(topic).or_default().insert(session);
            }
            Down::Leave { session, topic } => {
                self.topics.entry(topic).or_default().remove(&session);
            }
            Down::Doubt => {
                let doubted: Vec<SessionKey> = self.live.iter().copied().filter(|key| key.shard() == shard).collect();
                for session in doubted {
                    self.tell(shard, session, Got::Doubt);
                }
            }
            Down::Deliver { envelope, audience } => {
                self.deliveries += 1;
                let sessions: Vec<SessionKey> = match audience {
                    Audience::Sessions(sessions) => sessions.to_vec(),
                    Audience::Topic { topic, except } => {
                        let joined = self.topics.get(&topic).into_iter().flatten().copied();
                        joined.filter(|key| key.shard() == shard && Some(*key) != except).collect()
                    }
                };
                let body = envelope.frame().body.clone().expect("a push has a body");
                for session in sessions {
                    if self.live.contains(&session) {
                        self.tell(shard, session, Got::Push(body.clone()));
                    }
                }
            }
        }
    }
}

/// Time that tests move, randomness that repeats.
#[derive(Clone)]
pub(crate) struct TestEnv {
    pub(crate) now_ms: Arc<AtomicU64>,
    pub(crate) drawn: Arc<AtomicU64>,
}

impl Env for TestEnv {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    fn random_bits(&self) -> u128 {
        let n = u128::from(self.drawn.fetch_add(1, Relaxed) + 1);
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

pub(crate) type Faulty = FaultyStore<MemoryStore>;

pub(crate) struct House<S: Store = Faulty, B: Bus = Alone> {
    pub(crate) router: Arc<Router<S, Edge, TestEnv, B>>,
    pub(crate) store: Arc<S>,
    pub(crate) edge: Arc<Edge>,
    pub(crate) env: TestEnv,
    slots: Arc<AtomicU64>,
    rids: AtomicU64,
}

/// A session of a user.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) key: SessionKey,
    pub(crate) user: UserId,
    pub(crate) welcome: pb::Welcome,
}

pub(crate) fn house() -> House {
    house_with(RouterConfig::default())
}

pub(crate) fn house_with(config: RouterConfig) -> House {
    House::over(Arc::new(FaultyStore::new(MemoryStore::default())), config)
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn text(text: &str) -> Option<Body> {
    Some(Body { text: text.into(), event: None })
}

impl<S: Store> House<S> {
    pub(crate) fn over(store: Arc<S>, config: RouterConfig) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_790_000_000_000));
        let env = TestEnv { now_ms, drawn: Arc::default() };
        let edge = Arc::new(Edge::default());
        let keys = Keys::new(&SECRET);
        let router = Router::new(config, keys, Arc::clone(&store), Arc::clone(&edge), env.clone());
        Self { router, store, edge, env, slots: Arc::default(), rids: AtomicU64::new(1) }
    }

    /// Another router on the same store, as after a restart. Sessions of the old one are gone.
    pub(crate) fn restarted(&self, config: RouterConfig) -> Self {
        let env = TestEnv { now_ms: Arc::clone(&self.env.now_ms), drawn: Arc::clone(&self.env.drawn) };
        let edge = Arc::new(Edge::default());
        let router = Router::new(config, Keys::new(&SECRET), Arc::clone(&self.store), Arc::clone(&edge), env.clone());
        let slots = Arc::clone(&self.slots);
        Self { router, store: Arc::clone(&self.store), edge, env, slots, rids: AtomicU64::new(1) }
    }
}

impl<S: Store, B: Bus> House<S, B> {
    /// A node beside others on the same store. Its session keys are not told apart from theirs.
    pub(crate) fn beside(store: &Arc<S>, config: RouterConfig, env: TestEnv, bus: B) -> Self {
        let edge = Arc::new(Edge::default());
        let keys = Keys::new(&SECRET);
        let router = Router::with_bus(config, keys, Arc::clone(store), Arc::clone(&edge), env.clone(), bus);
        Self { router, store: Arc::clone(store), edge, env, slots: Arc::default(), rids: AtomicU64::new(1) }
    }

    pub(crate) fn token(&self, id: &str, name: &str, scope: Scope) -> String {
        Keys::new(&SECRET).mint(&Claims::new(user(id), name, scope, self.env.now_ms(), 3600))
    }

    pub(crate) fn env_now(&self) -> u64 {
        self.env.now_ms()
    }

    pub(crate) fn next_key(&self) -> SessionKey {
        let slot = self.slots.fetch_add(1, Relaxed) as u32;
        SessionKey::new((slot % u32::from(SHARDS)) as u16, slot, 0)
    }

    /// Sends CONNECT and gives the first answer.
    pub(crate) async fn knock(&self, connect: pb::Connect) -> (SessionKey, Got) {
        let session = self.next_key();
        self.router.submit(&mut vec![Up::Connect {
            session,
            rid: 1,
            connect,
            bearer: None,
            peer: ([127, 0, 0, 1], 1).into(),
        }]);
        let got = self.wait(|edge| edge.told.get(&session).and_then(|told| told.first().cloned())).await;
        (session, got)
    }

    pub(crate) async fn connect_with(&self, connect: pb::Connect) -> Client {
        match self.knock(connect).await {
            (key, Got::Accepted(welcome)) => Client { key, user: user(&welcome.user), welcome },
            (_, other) => panic!("not accepted: {other:?}"),
        }
    }

    /// Connects the user with this id, which is also its name.
    pub(crate) async fn enter(&self, id: &str) -> Client {
        self.enter_on(id, "phone", "").await
    }

    pub(crate) async fn enter_on(&self, id: &str, device: &str, sync: &str) -> Client {
        let token = self.token(id, id, Scope::User);
        let connect = pb::Connect { token, device: device.into(), sync: sync.into(), ..pb::Connect::default() };
        self.connect_with(connect).await
    }

    /// A session that is live at the edge, and that no router has.
    pub(crate) fn adrift(&self, id: &str) -> Client {
        let key = self.next_key();
        self.edge.recorded.lock().live.insert(key);
        Client { key, user: user(id), welcome: pb::Welcome::default() }
    }

    pub(crate) fn leave(&self, client: &Client) {
        self.edge.recorded.lock().live.remove(&client.key);
        self.router.submit(&mut vec![Up::Gone { session: client.key, user: client.user.clone() }]);
    }

    pub(crate) fn command(&self, client: &Client, body: FrameBody) -> u64 {
        let rid = self.rids.fetch_add(1, Relaxed);
        self.command_as(client, rid, body);
        rid
    }

    pub(crate) fn command_as(&self, client: &Client, rid: u64, body: FrameBody) {
        let up = Up::Command { session: client.key, user: client.user.clone(), rid, body };
        self.router.submit(&mut vec![up]);
    }

    pub(crate) async fn reply(&self, client: &Client, rid: u64) -> Result<FrameBody, pb::Error> {
        let body = self
            .wait(|edge| {
                edge.told.get(&client.key)?.iter().find_map(|got| match got {
                    Got::Reply(Some(frame)) if frame.rid == rid => frame.body.clone(),
                    _ => None,
                })
            })
            .await;
        match body {
            FrameBody::Error(error) => Err(error),
            body => Ok(body),
        }
    }

    pub(crate) async fn ask(&self, client: &Client, body: FrameBody) -> Result<FrameBody, pb::Error> {
        let rid = self.command(client, body);
        self.reply(client, rid).await
    }

    /// Asks for something that is refused; gives the code.
    pub(crate) async fn refused(&self, client: &Client, body: FrameBody) -> u32 {
        match self.ask(client, body.clone()).await {
            Err(error) => error.code,
            Ok(answer) => panic!("{body:?} was answered {answer:?}"),
        }
    }

    pub(crate) async fn wait<T>(&self, look: impl Fn(&mut RecordedView<'_>) -> Option<T>) -> T {
        let wait = async {
            loop {
                let news = self.edge.news.notified();
                if let Some(found) = look(&mut RecordedView::of(&self.edge.recorded.lock())) {
                    return found;
                }
                news.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), wait).await.expect("nothing of the kind came")
    }

    /// Waits until everything is done, flushed and told.
    pub(crate) async fn settle(&self) {
        self.router.close().await;
    }

    /// What a session was told so far, emptied.
    pub(crate) fn told(&self, client: &Client) -> Vec<Got> {
        self.edge.recorded.lock().told.remove(&client.key).unwrap_or_default()
    }

    /// Pushes a session got, emptied with everything else it was told.
    pub(crate) fn pushes(&self, client: &Client) -> Vec<FrameBody> {
        let push = |got| match got {
            Got::Push(body) => Some(body),
            _ => None,
        };
        self.told(client).into_iter().filter_map(push).collect()
    }

    pub(crate) fn entries(&self, client: &Client) -> Vec<pb::Entry> {
        let entry = |body| match body {
            FrameBody::Entry(entry) => Some(entry),
            _ => None,
        };
        self.pushes(client).into_iter().filter_map(entry).collect()
    }

    pub(crate) fn deliveries(&self) -> usize {
        self.edge.recorded.lock().deliveries
    }

    pub(crate) fn joined(&self, client: &Client, conv: &str) -> bool {
        let topics = &self.edge.recorded.lock().topics;
        topics.get(&ConvId::new(conv).unwrap()).is_some_and(|joined| joined.contains(&client.key))
    }

    pub(crate) async fn create(&self, client: &Client, create: pb::Create) -> pb::Conversation {
        match self.ask(client, FrameBody::Create(create)).await {
            Ok(FrameBody::Conversation(made)) => made,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn direct(&self, client: &Client, other: &str) -> String {
        let create = pb::Create { kind: Kind::Direct.into(), members: vec![other.into()], ..pb::Create::default() };
        self.create(client, create).await.conv
    }

    pub(crate) async fn group(&self, client: &Client, others: &[&str]) -> String {
        let members = others.iter().map(|other| (*other).to_owned()).collect();
        let create = pb::Create { kind: Kind::Group.into(), name: "Birds".into(), members, open: false };
        self.create(client, create).await.conv
    }

    pub(crate) async fn try_send(&self, client: &Client, send: pb::Send) -> Result<pb::Sent, pb::Error> {
        match self.ask(client, FrameBody::Send(send)).await? {
            FrameBody::Sent(sent) => Ok(sent),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&self, client: &Client, conv: &str, cmid: &str, body: &str) -> pb::Sent {
        self.try_send(client, sending(conv, cmid, body)).await.unwrap()
    }

    pub(crate) async fn page(&self, client: &Client, conv: &str) -> Vec<pb::Entry> {
        let history = pb::History { conv: conv.into(), after: Some(0), before: None, limit: 500 };
        match self.ask(client, FrameBody::History(history)).await {
            Ok(FrameBody::Page(page)) => page.entries,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn sync(&self, client: &Client, since: &str, limit: u32) -> pb::Changed {
        match self.ask(client, FrameBody::Sync(pb::Sync { since: since.into(), limit })).await {
            Ok(FrameBody::Changed(changed)) => changed,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn sending(conv: &str, cmid: &str, body: &str) -> pb::Send {
    pb::Send { conv: conv.into(), cmid: cmid.into(), body: text(body), attempt: 0, seen: None }
}

pub(crate) fn resending(conv: &str, cmid: &str, body: &str, seen: Option<u64>) -> pb::Send {
    pb::Send { attempt: 1, seen, ..sending(conv, cmid, body) }
}

/// What [`House::wait`] looks at.
pub(crate) struct RecordedView<'a> {
    pub(crate) told: &'a HashMap<SessionKey, Vec<Got>>,
}

impl<'a> RecordedView<'a> {
    fn of(recorded: &'a Recorded) -> Self {
        Self { told: &recorded.told }
    }
}
