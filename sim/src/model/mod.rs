//! The shadow model: what was promised, what was shown, what the log has, and whether it holds together.
//!
//! It learns of a write when it is behind the fsync boundary, of a push when a router posts it, and of the rest from
//! the clients. Each check is made when the thing happens, against the log as it is then.

mod conv;
mod history;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use roost_storage::{Append, IndexRow, Mark};
use roost_wire::pb::Kind;
use roost_wire::{ConvId, ErrorCode, Seq, UserId, pb};

use crate::fault::{Fault, FaultCounts};
use crate::store::Write;

pub(crate) use conv::Conv;
pub(crate) use history::About;
use history::History;
use views::View;

/// Violations told; one broken promise brings many more.
const VIOLATIONS_MAX: usize = 5;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was broken; empty if nothing was.
    pub violations: Vec<String>,
    /// The last things that happened to whom the first violation concerns, or at all.
    pub history: String,
    /// Of everything that happened: the same seed gives the same digest.
    pub digest: u64,
    /// Sends acknowledged.
    pub acknowledged: u64,
    /// Sends that were refused: certainly not stored.
    pub refused: u64,
    /// Entries shown to somebody.
    pub shown: u64,
    /// Pushes and replies whose readers were checked.
    pub told: u64,
    /// Changes of membership.
    pub memberships: u64,
    /// Sessions that began by QUIC.
    pub native: u64,
    /// Sessions that were handed over to another connection, unknown to the app.
    pub moves: u64,
    /// Pages of history that came on streams of their own.
    pub pages: u64,
    /// Times a node followed a connection by QUIC to another address.
    pub followed: u64,
    /// Moments at which something happened.
    pub steps: u64,
    /// Faults that happened.
    pub faults: FaultCounts,
}

/// A message as it was handed to a client.
struct Handed {
    client: usize,
    conv: ConvId,
    text: String,
    /// Counts the messages of a client.
    number: u64,
    refused: bool,
    acknowledged: Option<Seq>,
}

/// What is known of a run.
pub(crate) struct Model {
    pub(crate) faults: FaultCounts,
    pub(crate) now_ms: u64,
    convs: BTreeMap<ConvId, Conv>,
    handed: BTreeMap<String, Handed>,
    /// How often each message came to a router.
    tries: BTreeMap<String, u32>,
    /// Messages whose only try was told as not stored.
    not_stored: BTreeSet<String>,
    views: BTreeMap<(usize, ConvId), View>,
    /// The last entry that a device of the user holds.
    held: BTreeMap<(UserId, ConvId), Seq>,
    /// How far the user said to have read.
    read: BTreeMap<(UserId, ConvId), Seq>,
    /// Marks as they are stored: delivered, read.
    marks: BTreeMap<(UserId, ConvId), (Seq, Seq)>,
    /// Pairs that ever shared a conversation.
    acquainted: BTreeSet<(UserId, UserId)>,
    users: Vec<Option<UserId>>,
    history: History,
    violations: Vec<String>,
    acknowledged: u64,
    refused: u64,
    shown: u64,
    told: u64,
    memberships: u64,
    pub(crate) native: u64,
    pub(crate) moves: u64,
    pub(crate) pages: u64,
    pub(crate) followed: u64,
    pub(crate) steps: u64,
}

impl Model {
    pub(crate) fn new(clients: usize, trace: bool) -> Self {
        Self {
            faults: FaultCounts::default(),
            now_ms: 0,
            convs: BTreeMap::new(),
            handed: BTreeMap::new(),
            tries: BTreeMap::new(),
            not_stored: BTreeSet::new(),
            views: BTreeMap::new(),
            held: BTreeMap::new(),
            read: BTreeMap::new(),
            marks: BTreeMap::new(),
            acquainted: BTreeSet::new(),
            users: vec![None; clients],
            history: History::new(trace),
            violations: Vec::new(),
            acknowledged: 0,
            refused: 0,
            shown: 0,
            told: 0,
            memberships: 0,
            native: 0,
            moves: 0,
            pages: 0,
            followed: 0,
            steps: 0,
        }
    }

    /// Something happened. It counts for the digest.
    pub(crate) fn note(&mut self, about: &About, what: std::fmt::Arguments<'_>) {
        self.history.note(self.now_ms, about, what);
    }

    /// Something small happened: told in a trace, and nowhere else.
    pub(crate) fn trace(&self, what: std::fmt::Arguments<'_>) {
        self.history.trace(self.now_ms, what);
    }

    /// A fault happened.
    pub(crate) fn fault(&mut self, fault: Fault, what: std::fmt::Arguments<'_>) {
        self.faults.add(fault, 1);
        self.history.note(self.now_ms, &About::all(), format_args!("FAULT {}: {what}", fault.name()));
    }

    pub(crate) fn violated(&mut self, about: &About, what: String) {
        if self.violations.is_empty() {
            self.history.freeze(about);
        }
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    pub(crate) fn has_violations(&self) -> bool {
        !self.violations.is_empty()
    }

    /// The user that a client is.
    pub(crate) fn connected(&mut self, client: usize, user: &UserId) {
        let known = self.users[client].get_or_insert_with(|| user.clone());
        if known != user {
            let text = format!("client {client} was {known}, and is {user} now");
            self.violated(&About::client(client), text);
        }
    }

    pub(crate) fn conv(&self, conv: &ConvId) -> Option<&Conv> {
        self.convs.get(conv)
    }

    pub(crate) fn user(&self, client: usize) -> Option<&UserId> {
        self.users[client].as_ref()
    }

    /// True if `client`'s user is a member now.
    pub(crate) fn is_member(&self, client: usize, conv: &ConvId) -> bool {
        match (self.convs.get(conv), self.user(client)) {
            (Some(conv), Some(user)) => conv.role(user).is_some(),
            _ => false,
        }
    }

    /// A write is behind the boundary.
    pub(crate) fn stored(&mut self, write: &Write) {
        match write {
            Write::Create(meta, members) => {
                let conv = Conv::new(meta, members);
                self.meet(&conv);
                self.convs.insert(meta.conv.clone(), conv);
            }
            Write::Append(append) => self.appended(append),
            Write::Marks(_) | Write::Users(_) => {}
        }
    }

    /// A mark is behind the boundary, in this row. Marks never fall, and stand at or below the head.
    pub(crate) fn marked(&mut self, mark: &Mark, row: Option<&IndexRow>) {
        let Some(IndexRow { delivered, read, .. }) = row.cloned() else { return };
        let head = self.convs.get(&mark.conv).map_or(0, Conv::head);
        let key = (mark.user.clone(), mark.conv.clone());
        let before = self.marks.insert(key, (delivered, read)).unwrap_or_default();
        if delivered < before.0 || read < before.1 || delivered > head || read > head {
            let what = format!("marks of {} went from {before:?} to {:?} of {head}", mark.user, (delivered, read));
            self.violated(&About::conv(&mark.conv), what);
        }
    }

    fn meet(&mut self, conv: &Conv) {
        let users: Vec<&UserId> = conv.members().collect();
        for one in &users {
            self.acquainted.extend(users.iter().map(|two| ((*one).clone(), (*two).clone())));
        }
    }

    fn appended(&mut self, append: &Append) {
        let now_ms = self.now_ms;
        let Some(conv) = self.convs.get_mut(&append.conv) else {
            return self.violated(&About::all(), format!("{} was appended to and does not exist", append.conv));
        };
        let mut broken = conv.append(append, now_ms);
        self.memberships += append.members.len() as u64;
        for entry in append.entries.iter().filter(|entry| entry.body.event.is_none()) {
            let (cmid, seq) = (&entry.cmid, entry.seq);
            self.history.note(now_ms, &About::conv(&append.conv), format_args!("stored {} {seq}: {cmid}", append.conv));
            let Some(handed) = self.handed.get(cmid) else {
                broken.push(format!("{} {seq} holds {cmid}, which nobody sent", append.conv));
                continue;
            };
            if handed.conv != append.conv || handed.text != entry.body.text {
                broken.push(format!("{cmid} was sent to {} as {:?}, stored as {entry:?}", handed.conv, handed.text));
            }
            if handed.refused {
                broken
                    .push(format!("{cmid} was refused as certainly not stored, then stored as {} {seq}", handed.conv));
            }
            if self.not_stored.contains(cmid) {
                broken.push(format!(
                    "{cmid} was told as not stored, then stored as {} {seq} by no other try",
                    append.conv
                ));
            }
            if let Some(conv) = self.convs.get_mut(&append.conv)
                && let Some(before) = conv.sent_before(handed.client, handed.number)
            {
                broken.push(format!(
                    "client {} sent {cmid} before another one that stands before it ({before})",
                    handed.client
                ));
            }
        }
        for what in broken {
            self.violated(&About::conv(&append.conv), what);
        }
        for entry in append.entries.iter().filter(|entry| entry.body.event.is_some()) {
            let event = entry.body.event.as_ref().map(pb::Event::kind);
            let line = format_args!("stored {} {}: {event:?} by {}", append.conv, entry.seq, entry.from);
            self.history.note(now_ms, &About::conv(&append.conv), line);
        }
        if !append.members.is_empty()
            && let Some(conv) = self.convs.remove(&append.conv)
        {
            self.meet(&conv);
            self.convs.insert(append.conv.clone(), conv);
        }
    }

    /// A client took a message.
    pub(crate) fn handed(&mut self, client: usize, cmid: String, conv: &ConvId, text: &str) {
        let number = self.handed.len() as u64;
        let (conv, text) = (conv.clone(), text.to_owned());
        self.handed.insert(cmid, Handed { client, conv, text, number, refused: false, acknowledged: None });
    }

    /// The client that sent `cmid`.
    pub(crate) fn sender(&self, cmid: &str) -> Option<usize> {
        self.handed.get(cmid).map(|handed| handed.client)
    }

    /// SENT came, or the entry itself.
    pub(crate) fn acknowledged(&mut self, client: usize, cmid: &str, sent: &pb::Sent) {
        let seq = sent.seq;
        let broken = match (ConvId::new(&sent.conv), self.handed.get_mut(cmid)) {
            (Ok(conv), Some(handed)) if handed.conv == conv => {
                self.acknowledged += u64::from(handed.acknowledged.is_none());
                let before = *handed.acknowledged.get_or_insert(seq);
                let stored = self.convs.get(&conv).and_then(|conv| conv.entry(seq));
                match stored {
                    _ if before != seq => Some(format!("{cmid} was acknowledged as {before}, then as {seq}")),
                    _ if handed.refused => Some(format!("{cmid} was refused, then acknowledged as {conv} {seq}")),
                    Some(entry) if entry.cmid == cmid => None,
                    other => Some(format!("{cmid} was acknowledged as {conv} {seq}, where the log has {other:?}")),
                }
            }
            (conv, _) => Some(format!("client {client} has SENT for {cmid} in {conv:?}, which is not what it sent")),
        };
        if let Some(what) = broken {
            self.violated(&About::both(client, &sent.conv), what);
        }
    }

    /// A try of `cmid` came to a router.
    pub(crate) fn tried(&mut self, cmid: &str) {
        *self.tries.entry(cmid.to_owned()).or_default() += 1;
        self.not_stored.remove(cmid);
    }

    /// A router answers a try of `cmid` with an error. Each but 502 says that it is not stored: a client that gives up
    /// tells its user so. A resend speaks of all tries before it, a first try of itself: where another one has overtaken
    /// it nothing follows.
    pub(crate) fn told_not_stored(&mut self, cmid: &str, attempt: u32, error: &pb::Error) {
        let Some(handed) = self.handed.get(cmid).filter(|_| error.code != ErrorCode::Unknown.number()) else { return };
        let only = self.tries.get(cmid) == Some(&1);
        if attempt == 0 && !only {
            return;
        }
        let (client, conv) = (handed.client, handed.conv.clone());
        if only {
            self.not_stored.insert(cmid.to_owned());
        }
        if let Some(seq) = self.convs.get(&conv).and_then(|conv| conv.find(cmid)) {
            let what = format!("{cmid} is told as not stored ({}), but is stored as {conv} {seq}", error.code);
            self.violated(&About::both(client, conv.as_str()), what);
        }
    }

    /// A send was refused: certainly not stored.
    pub(crate) fn refused(&mut self, client: usize, cmid: &str, error: &str) {
        let Some(handed) = self.handed.get_mut(cmid) else { return };
        handed.refused = true;
        self.refused += 1;
        let conv = handed.conv.clone();
        let found = self.convs.get(&conv).and_then(|conv| conv.find(cmid));
        if let Some(seq) = found {
            let what = format!("{cmid} was refused ({error}), but is stored as {conv} {seq}");
            self.violated(&About::both(client, conv.as_str()), what);
        }
    }

    /// Compares what every client was shown with the log, once all have had time to catch up.
    pub(crate) fn compare(&mut self) {
        let mut broken = Vec::new();
        for (cmid, handed) in &self.handed {
            let found = self.convs.get(&handed.conv).and_then(|conv| conv.find(cmid));
            if handed.acknowledged.is_some() && handed.acknowledged != found {
                let about = About::both(handed.client, handed.conv.as_str());
                broken.push((about, format!("{cmid} was acknowledged as {:?}, found {found:?}", handed.acknowledged)));
            }
        }
        let missing = self.missing();
        broken.extend(missing.map(|(client, conv, has)| {
            let head = self.convs.get(&conv).map_or(0, Conv::head);
            (About::both(client, conv.as_str()), format!("client {client} was shown {has} of {head} entries of {conv}"))
        }));
        for (about, what) in broken {
            self.violated(&about, what);
        }
    }

    /// Who has not been shown all of a conversation that is his: client, conversation, the last entry shown.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (usize, ConvId, Seq)> {
        let clients = self.users.iter().enumerate().filter_map(|(client, user)| Some((client, user.as_ref()?)));
        clients.flat_map(move |(client, user)| {
            let theirs = self.convs.iter().filter(move |(id, conv)| match conv.kind() {
                Kind::Channel => self.views.get(&(client, (*id).clone())).is_some_and(|view| view.subscribed),
                _ => conv.role(user).is_some(),
            });
            theirs.filter_map(move |(id, conv)| {
                let has = self.views.get(&(client, id.clone())).map_or(0, |view| view.at);
                (has != conv.head()).then(|| (client, id.clone(), has))
            })
        })
    }

    pub(crate) fn outcome(mut self) -> Outcome {
        let digest = self.history.digest;
        Outcome {
            history: self.history.tell(self.violations.is_empty()),
            violations: std::mem::take(&mut self.violations),
            digest,
            acknowledged: self.acknowledged,
            refused: self.refused,
            shown: self.shown,
            told: self.told,
            memberships: self.memberships,
            native: self.native,
            moves: self.moves,
            pages: self.pages,
            followed: self.followed,
            steps: self.steps,
            faults: self.faults,
        }
    }
}
