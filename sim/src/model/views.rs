//! What clients are told: whether they may be, and whether each view is a copy of its log.

use roost_wire::{ConvId, FrameBody, Seq, UserId, pb};

use super::{About, Conv, Model};

/// What a client was shown of a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    /// The last entry; 0 if there was none.
    pub(crate) at: Seq,
    /// How often it began anew: at most as often as its user ceased to be a member.
    restarts: usize,
    /// The app was told that its user has left.
    left: bool,
    /// Channels: it is to get what comes.
    pub(crate) subscribed: bool,
    /// Channels: the next entry may be any later one.
    open: bool,
}

impl Model {
    /// The app of `client` is shown an entry.
    pub(crate) fn shown(&mut self, client: usize, entry: &pb::Entry) {
        let about = About::both(client, &entry.conv);
        let (Ok(id), Some(user)) = (ConvId::new(&entry.conv), self.users[client].clone()) else {
            return self.violated(&about, format!("client {client} was shown {entry:?}"));
        };
        let Some(conv) = self.convs.get(&id) else {
            return self.violated(&about, format!("client {client} was shown an entry of {id}, which is not stored"));
        };
        self.shown += 1;
        let seq = entry.seq;
        let view = self.views.entry((client, id.clone())).or_default();
        let expected = view.at + 1;
        let mut broken = None;
        if seq == expected || (view.open && seq > view.at) {
            view.open = false;
        } else if seq == 1 && view.left {
            // The client has forgotten the conversation since, and begins anew.
            view.left = false;
        } else if seq == 1 && view.restarts < conv.removals(&user) {
            view.restarts += 1;
        } else {
            broken = Some(format!("client {client} was shown {id} {seq} where {expected} was due"));
        }
        view.at = seq;
        match conv.entry(seq) {
            Some(stored) if stored.cmid == entry.cmid && entry.body.as_ref() == Some(&stored.body) => {}
            stored => broken = Some(format!("client {client} was shown {entry:?}, the log has {stored:?}")),
        }
        // It may have been on its way for long; whether it was told in time was judged when it was.
        if !conv.ever_read(&user) {
            broken = Some(format!("client {client} was shown {id} {seq}, which {user} may not see"));
        }
        let held = self.held.entry((user, id)).or_default();
        *held = seq.max(*held);
        if let Some(what) = broken {
            self.violated(&about, what);
        }
    }

    /// The client asks for what comes in a channel: from now on its view may begin anywhere.
    pub(crate) fn subscribing(&mut self, client: usize, channel: &ConvId) {
        self.views.entry((client, channel.clone())).or_default().open = true;
    }

    /// The client is to get what comes in a channel from now on, or not any more.
    pub(crate) fn subscribed(&mut self, client: usize, channel: &ConvId, subscribed: bool) {
        let view = self.views.entry((client, channel.clone())).or_default();
        view.open |= subscribed && !view.subscribed;
        view.subscribed = subscribed;
    }

    /// The app was killed, and with it what it subscribed to.
    pub(crate) fn unsubscribed_all(&mut self, client: usize) {
        self.views.iter_mut().filter(|((of, _), _)| *of == client).for_each(|(_, view)| view.subscribed = false);
    }

    /// Whether the client is to get what comes in a channel.
    pub(crate) fn is_subscribed(&self, client: usize, channel: &ConvId) -> bool {
        self.views.get(&(client, channel.clone())).is_some_and(|view| view.subscribed)
    }

    /// The app of `client` is told that its user has left.
    pub(crate) fn left(&mut self, client: usize, conv: &str) {
        let view = ConvId::new(conv).ok().and_then(|conv| self.views.get_mut(&(client, conv)));
        if let Some(view) = view {
            view.left = true;
        }
    }

    /// The user of `client` has read up to `seq`.
    pub(crate) fn read(&mut self, client: usize, conv: &ConvId, seq: Seq) {
        if let Some(user) = self.users[client].clone() {
            let read = self.read.entry((user, conv.clone())).or_default();
            *read = seq.max(*read);
        }
    }

    /// A router addresses `body` to a session of `user`.
    pub(crate) fn told(&mut self, user: &UserId, body: &FrameBody) {
        self.told += 1;
        let broken = match body {
            FrameBody::Entry(entry) => self.entry_told(user, entry, Conv::may_see),
            FrameBody::Page(page) => {
                let now_ms = self.now_ms;
                let reads = |conv: &Conv, user: &UserId, seq| conv.may_read(user, seq, now_ms);
                page.entries.iter().find_map(|entry| self.entry_told(user, entry, reads))
            }
            FrameBody::Changed(changed) => changed.rows.iter().find_map(|row| self.row_told(user, row)),
            FrameBody::Receipt(receipt) => {
                self.may_hear(user, &receipt.conv, "a receipt").or_else(|| self.receipt(receipt))
            }
            FrameBody::Typing(typing) => self.may_hear(user, &typing.conv, "who writes"),
            FrameBody::Conversation(conversation) => self.conversation_told(user, conversation),
            FrameBody::Presence(presence) => presence.users.iter().find_map(|of| self.presence_told(user, of)),
            _ => None,
        };
        if let Some((conv, what)) = broken {
            let about = ConvId::new(&conv).map_or_else(|_| About::all(), |conv| About::conv(&conv));
            self.violated(&about, what);
        }
    }

    fn entry_told(
        &self,
        user: &UserId,
        entry: &pb::Entry,
        may: impl Fn(&Conv, &UserId, Seq) -> bool,
    ) -> Option<(String, String)> {
        let conv = ConvId::new(&entry.conv).ok().and_then(|conv| self.convs.get(&conv));
        let stored = conv.and_then(|conv| conv.entry(entry.seq));
        let wrong = |what: &str| Some((entry.conv.clone(), format!("{user} is told {entry:?}: {what}")));
        match (conv, stored) {
            (Some(conv), Some(stored)) if stored.cmid == entry.cmid && entry.body.as_ref() == Some(&stored.body) => {
                if may(conv, user, entry.seq) {
                    None
                } else {
                    wrong("not for this user")
                }
            }
            _ => wrong("it is not stored"),
        }
    }

    fn row_told(&self, user: &UserId, row: &pb::Row) -> Option<(String, String)> {
        let last = row.last.as_ref();
        if row.left {
            let secret = last.is_some() || row.head > 0 || !row.name.is_empty();
            return secret.then(|| (row.conv.clone(), format!("{user} has left and is told {row:?}")));
        }
        self.may_hear(user, &row.conv, "a row").or_else(|| {
            let reads = |conv: &Conv, user: &UserId, seq| conv.may_read(user, seq, self.now_ms);
            last.and_then(|last| self.entry_told(user, last, reads))
        })
    }

    fn conversation_told(&self, user: &UserId, conversation: &pb::Conversation) -> Option<(String, String)> {
        let told = &conversation.conv;
        let broken = conversation.members.iter().find_map(|member| {
            let receipt =
                pb::Receipt { conv: told.clone(), user: member.user.clone(), delivered: 0, read: member.read };
            self.receipt(&receipt)
        });
        self.may_hear(user, told, "a conversation").or(broken)
    }

    fn may_hear(&self, user: &UserId, conv: &str, what: &str) -> Option<(String, String)> {
        let id = ConvId::new(conv).ok();
        let known = id.as_ref().and_then(|conv| self.convs.get(conv));
        // A channel may be looked at before its first entry makes it.
        let hears = known.map_or(id.is_some_and(|id| id.is_channel()), |known| known.may_hear(user, self.now_ms));
        (!hears).then(|| (conv.to_owned(), format!("{user} is told {what} of {conv}, which is not for this user")))
    }

    /// A receipt runs ahead of neither what devices of its user hold nor of what the user has read.
    fn receipt(&self, receipt: &pb::Receipt) -> Option<(String, String)> {
        let (conv, user) = (ConvId::new(&receipt.conv).ok()?, UserId::new(&receipt.user).ok()?);
        let key = (user, conv);
        let held = self.held.get(&key).copied().unwrap_or(0);
        let known = self.convs.get(&key.1)?;
        let read = self.read.get(&key).copied().unwrap_or(0).max(known.read_anyway(&key.0));
        let ahead = receipt.delivered > held || receipt.read > read;
        ahead.then(|| (receipt.conv.clone(), format!("{receipt:?} is told, but {held} is held and {read} is read")))
    }

    fn presence_told(&self, user: &UserId, of: &pb::UserPresence) -> Option<(String, String)> {
        let seen = UserId::new(&of.user).ok()?;
        let known = *user == seen || self.acquainted.contains(&(user.clone(), seen));
        let secret = of.online || of.last_seen > 0;
        (secret && !known).then(|| (String::new(), format!("{user} is told {of:?} of a stranger")))
    }
}
