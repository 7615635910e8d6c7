//! What an app asks of its client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use roost_wire::{ConvId, FrameBody, Seq, UserId, pb};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::builder::Builder;
use crate::core::{Cmid, Record, Resume};
use crate::driver::race::Way;
use crate::driver::{COMMANDS_QUEUED_MAX, Command, Me};
use crate::error::{RequestError, SendError};

/// A connected user. Cheap to clone; the client ends when the last clone is dropped.
///
/// Requests wait for a connection if there is none, and fail after `Config::request_within`.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    me: Arc<Me>,
}

/// A message on its way: resolves once its fate is certain. Dropping it does not call the message back.
#[derive(Debug)]
#[must_use = "the message is on its way whether or not this is awaited, but its fate is told here"]
pub struct Sending {
    cmid: Cmid,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(oneshot::Receiver<Result<pb::Sent, SendError>>),
    Failed(Option<SendError>),
}

impl Sending {
    /// The message's id; its entry will carry the same.
    #[must_use]
    pub const fn cmid(&self) -> Cmid {
        self.cmid
    }
}

impl Future for Sending {
    type Output = Result<pb::Sent, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Waiting(reply) => Pin::new(reply).poll(context).map(|sent| sent.unwrap_or(Err(SendError::Ended))),
            State::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(SendError::Ended))),
        }
    }
}

macro_rules! expect {
    ($answer:expr, $variant:ident) => {
        match $answer {
            FrameBody::$variant(body) => Ok(body),
            other => Err(RequestError::Unexpected(other.name())),
        }
    };
}

impl Client {
    pub(crate) const fn new(commands: mpsc::Sender<Command>, me: Arc<Me>) -> Self {
        Self { commands, me }
    }

    /// A client of the server at `http(s)://host:port` or `ws(s)://host:port[/ws]`.
    #[must_use]
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    /// The user's id and display name; `None` before the first session.
    #[must_use]
    pub fn me(&self) -> Option<(UserId, String)> {
        self.me.get()
    }

    /// Sends `text`. Messages of one conversation are stored in the order of these calls, each once.
    pub fn send(&self, conv: &ConvId, text: impl Into<String>) -> Sending {
        self.put(conv, text.into(), false)
    }

    /// Publishes `text` to a channel; otherwise like [`Client::send`].
    pub fn publish(&self, channel: &ConvId, text: impl Into<String>) -> Sending {
        self.put(channel, text.into(), true)
    }

    fn put(&self, conv: &ConvId, text: String, publish: bool) -> Sending {
        let cmid = Cmid::from_bits(Uuid::now_v7().as_u128());
        let (reply, answer) = oneshot::channel();
        let record = Record { cmid, conv: conv.clone(), text, publish, seen: None };
        let state = match self.commands.try_send(Command::Send { record, reply }) {
            Ok(()) => State::Waiting(answer),
            Err(mpsc::error::TrySendError::Full(_)) => {
                State::Failed(Some(SendError::QueueFull { max: COMMANDS_QUEUED_MAX }))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => State::Failed(Some(SendError::Ended)),
        };
        Sending { cmid, state }
    }

    /// Any command of the protocol that has a reply; the typed methods are short for it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, body: FrameBody) -> Result<FrameBody, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Request { body, reply }).await.map_err(|_| RequestError::Ended)?;
        answer.await.unwrap_or(Err(RequestError::Ended))
    }

    /// The direct conversation with `user`; the same pair always has the same one.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn create_direct(&self, user: &UserId) -> Result<pb::Conversation, RequestError> {
        let members = vec![user.to_string()];
        let create = pb::Create { kind: pb::Kind::Direct.into(), members, ..pb::Create::default() };
        expect!(self.request(FrameBody::Create(create)).await?, Conversation)
    }

    /// A new group. `open` lets anybody who knows the id join.
    ///
    /// # Errors
    /// [`RequestError`]; after `Unknown` or `Timeout` the group may exist.
    pub async fn create_group(
        &self,
        name: &str,
        members: &[UserId],
        open: bool,
    ) -> Result<pb::Conversation, RequestError> {
        let members = members.iter().map(ToString::to_string).collect();
        let create = pb::Create { kind: pb::Kind::Group.into(), name: name.to_owned(), members, open };
        expect!(self.request(FrameBody::Create(create)).await?, Conversation)
    }

    /// A conversation and its members.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn get(&self, conv: &ConvId) -> Result<pb::Conversation, RequestError> {
        expect!(self.request(FrameBody::Get(pb::Get { conv: conv.to_string() })).await?, Conversation)
    }

    /// Renames a group.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn rename(&self, conv: &ConvId, name: &str) -> Result<pb::Conversation, RequestError> {
        let update = pb::Update { conv: conv.to_string(), name: Some(name.to_owned()), open: None };
        expect!(self.request(FrameBody::Update(update)).await?, Conversation)
    }

    /// Adds and removes members of a group and changes roles (`roles`: user and role).
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn members(
        &self,
        conv: &ConvId,
        add: &[UserId],
        remove: &[UserId],
        roles: &[(UserId, pb::Role)],
    ) -> Result<pb::Conversation, RequestError> {
        let ids = |users: &[UserId]| users.iter().map(ToString::to_string).collect();
        let role = |(user, role): &(UserId, pb::Role)| pb::Member {
            user: user.to_string(),
            role: (*role).into(),
            ..pb::Member::default()
        };
        let roles = roles.iter().map(role).collect();
        let members = pb::Members { conv: conv.to_string(), add: ids(add), remove: ids(remove), roles };
        expect!(self.request(FrameBody::Members(members)).await?, Conversation)
    }

    /// Joins an open group.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn join(&self, conv: &ConvId) -> Result<pb::Conversation, RequestError> {
        expect!(self.request(FrameBody::Join(pb::Join { conv: conv.to_string() })).await?, Conversation)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn leave(&self, conv: &ConvId) -> Result<(), RequestError> {
        expect!(self.request(FrameBody::Leave(pb::Leave { conv: conv.to_string() })).await?, Ok).map(drop)
    }

    /// Up to `limit` entries after a seq, in rising order. 0 leaves the number to the server.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn history_after(&self, conv: &ConvId, after: Seq, limit: u32) -> Result<pb::Page, RequestError> {
        self.history(pb::History { conv: conv.to_string(), after: Some(after), before: None, limit }).await
    }

    /// The last `limit` entries before a seq, in rising order; `None` stands for the end of the log.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn history_before(
        &self,
        conv: &ConvId,
        before: Option<Seq>,
        limit: u32,
    ) -> Result<pb::Page, RequestError> {
        // Larger than any seq, and still a number that JSON readers hold exactly.
        const END: Seq = 1 << 53;
        let before = Some(before.unwrap_or(END));
        self.history(pb::History { conv: conv.to_string(), after: None, before, limit }).await
    }

    async fn history(&self, history: pb::History) -> Result<pb::Page, RequestError> {
        expect!(self.request(FrameBody::History(history)).await?, Page)
    }

    /// All conversations of the user.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn conversations(&self) -> Result<Vec<pb::Row>, RequestError> {
        let (mut rows, mut since) = (Vec::new(), String::new());
        loop {
            let sync = pb::Sync { since: since.clone(), limit: 0 };
            let changed = expect!(self.request(FrameBody::Sync(sync)).await?, Changed)?;
            let end = !changed.more || changed.sync == since;
            rows.extend(changed.rows);
            if end {
                return Ok(rows);
            }
            since = changed.sync;
        }
    }

    /// Tells the presence of users now, and goes on telling it by events, over reconnects.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn watch(&self, users: &[UserId]) -> Result<Vec<pb::UserPresence>, RequestError> {
        let users = users.iter().map(ToString::to_string).collect();
        expect!(self.request(FrameBody::Watch(pb::Watch { users })).await?, Presence).map(|presence| presence.users)
    }

    /// Undoes [`Client::watch`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn unwatch(&self, users: &[UserId]) -> Result<(), RequestError> {
        let users = users.iter().map(ToString::to_string).collect();
        expect!(self.request(FrameBody::Unwatch(pb::Unwatch { users })).await?, Ok).map(drop)
    }

    /// Follows a channel from now on, over reconnects.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn subscribe(&self, channel: &ConvId) -> Result<(), RequestError> {
        let channel = channel.to_string();
        expect!(self.request(FrameBody::Subscribe(pb::Subscribe { channel })).await?, Ok).map(drop)
    }

    /// Stops following a channel.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn unsubscribe(&self, channel: &ConvId) -> Result<(), RequestError> {
        let channel = channel.to_string();
        expect!(self.request(FrameBody::Unsubscribe(pb::Unsubscribe { channel })).await?, Ok).map(drop)
    }

    /// Users whose display name begins with `prefix`, or whose id it is.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn search(&self, prefix: &str, limit: u32) -> Result<Vec<pb::User>, RequestError> {
        let search = pb::Search { prefix: prefix.to_owned(), limit };
        expect!(self.request(FrameBody::Search(search)).await?, Users).map(|users| users.users)
    }

    /// Gives the session a newer token before its own expires.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn refresh(&self, token: &str) -> Result<(), RequestError> {
        let token = token.to_owned();
        expect!(self.request(FrameBody::Refresh(pb::Refresh { token })).await?, Ok).map(drop)
    }

    /// The user writes, or has stopped. Others see it if they are there; nothing is kept.
    pub fn typing(&self, conv: &ConvId, on: bool) {
        // A full queue means much to do: this is the first thing to leave out.
        let _ = self.commands.try_send(Command::Typing(conv.clone(), on));
    }

    /// The user has read `conv` up to `seq`.
    ///
    /// # Errors
    /// [`RequestError::Ended`].
    pub async fn read(&self, conv: &ConvId, seq: Seq) -> Result<(), RequestError> {
        self.commands.send(Command::Read(conv.clone(), seq)).await.map_err(|_| RequestError::Ended)
    }

    /// The app has saved every entry of `conv` up to `seq`; see `Builder::manual_acks`.
    ///
    /// # Errors
    /// [`RequestError::Ended`].
    pub async fn received(&self, conv: &ConvId, seq: Seq) -> Result<(), RequestError> {
        self.commands.send(Command::Received(conv.clone(), seq)).await.map_err(|_| RequestError::Ended)
    }

    /// What a later client needs to go on from here; `None` if this one has ended.
    pub async fn resume(&self) -> Option<Resume> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Resume(reply)).await.ok()?;
        answer.await.ok()
    }

    /// The network is back, or the user asks: tries to connect now, or checks that the connection still lives.
    pub fn retry_now(&self) {
        let _ = self.commands.try_send(Command::RetryNow);
    }

    /// The device is on another network: a session by QUIC moves there, one by WebSocket is replaced by a new one, and QUIC is
    /// tried again where it had failed. Nothing is lost or doubled, and the app sees one session.
    pub fn network_changed(&self) {
        let _ = self.commands.try_send(Command::NetworkChanged);
    }

    /// What carries the session; `None` while there is none.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        self.me.way()
    }

    /// Ends the client; [`crate::Event::Ended`] follows. Messages without an acknowledgement stay in a persistent outbox.
    pub fn close(&self) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(Command::Close) {
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }
}
