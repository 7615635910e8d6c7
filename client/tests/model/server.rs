//! A server in a few lines: logs, sessions, SYNC. Durable, and correct by being simple.

use std::collections::BTreeMap;

use roost_client::core::LinkId;
use roost_wire::{ErrorCode, FrameBody, pb};

pub(crate) const ADA: &str = "u_ada";
pub(crate) const BOB: &str = "u_bob";
/// Small, so that paging is met.
const ROWS: usize = 2;
const ENTRIES: usize = 3;

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<pb::Entry>,
    delivered: u64,
    changed: u64,
}

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) logs: BTreeMap<String, Log>,
    changes: u64,
    pub(crate) sessions: Vec<LinkId>,
    pub(crate) refuse_next: bool,
    pub(crate) unknown_next: Option<bool>,
    pub(crate) refuse_sync_next: bool,
    replaces: bool,
    pub(crate) dups: usize,
    closed: Vec<LinkId>,
}

/// What goes down to a link.
pub(crate) enum Down {
    Frame(u64, FrameBody),
    Close(u16),
}

type Out = Vec<(LinkId, Down)>;

impl Server {
    /// `replaces`: a new connection of the device ends the one before at once, as the protocol has it.
    pub(crate) fn new(replaces: bool) -> Self {
        Self { replaces, ..Self::default() }
    }

    fn append(&mut self, conv: &str, from: &str, cmid: &str, text: &str) -> pb::Entry {
        self.changes += 1;
        let log = self.logs.entry(conv.to_owned()).or_default();
        log.changed = self.changes;
        let entry = pb::Entry {
            conv: conv.to_owned(),
            seq: log.entries.len() as u64 + 1,
            from: from.to_owned(),
            cmid: cmid.to_owned(),
            ts: self.changes,
            body: Some(pb::Body { text: text.to_owned(), event: None }),
        };
        log.entries.push(entry.clone());
        entry
    }

    fn push(&self, entry: &pb::Entry, except: Option<LinkId>, out: &mut Out) {
        for link in self.sessions.iter().filter(|link| Some(**link) != except) {
            out.push((*link, Down::Frame(0, FrameBody::Entry(entry.clone()))));
        }
    }

    pub(crate) fn other_writes(&mut self, conv: &str, out: &mut Out) {
        let entry = self.append(conv, BOB, "bobs", "from bob");
        self.push(&entry, None, out);
    }

    pub(crate) fn frame(&mut self, link: LinkId, frame: pb::Frame, out: &mut Out) {
        if self.closed.contains(&link) {
            return; // What a client wrote before it saw the close.
        }
        let rid = frame.rid;
        let body = frame.body.expect("a body");
        let mut reply = |body| out.push((link, Down::Frame(rid, body)));
        if let FrameBody::Connect(connect) = body {
            let fresh = connect.sync == self.changes.to_string();
            reply(FrameBody::Welcome(pb::Welcome {
                user: ADA.into(),
                token: "t".into(),
                heartbeat_ms: 25_000,
                fresh,
                sync: self.changes.to_string(),
                ..pb::Welcome::default()
            }));
            if self.replaces {
                self.sessions.drain(..).for_each(|old| out.push((old, Down::Close(4503))));
                self.closed = out.iter().map(|(link, _)| *link).filter(|old| *old != link).collect();
            }
            self.sessions.push(link);
            return;
        }
        assert!(self.sessions.contains(&link), "{body:?} before CONNECT");
        match body {
            FrameBody::Ping(_) => out.push((link, Down::Frame(0, FrameBody::Pong(pb::Pong {})))),
            FrameBody::Send(send) => self.send(link, rid, &send, out),
            FrameBody::Ack(ack) => {
                let log = self.logs.get_mut(&ack.conv).expect("acknowledged what is not there");
                assert!(ack.seq <= log.entries.len() as u64, "acknowledged what is not there");
                log.delivered = log.delivered.max(ack.seq);
            }
            FrameBody::History(history) => {
                let log = &self.logs[&history.conv];
                let after = usize::try_from(history.after.expect("after")).expect("small");
                let limit = ENTRIES.min(history.limit as usize);
                let entries = log.entries.iter().skip(after).take(limit).cloned().collect();
                reply(FrameBody::Page(pb::Page { conv: history.conv, entries, head: log.entries.len() as u64 }));
            }
            FrameBody::Sync(_) if std::mem::take(&mut self.refuse_sync_next) => {
                reply(FrameBody::Error(ErrorCode::Overloaded.error()));
            }
            FrameBody::Sync(sync) => reply(FrameBody::Changed(self.sync(&sync))),
            other => panic!("the model knows no {}", other.name()),
        }
    }

    fn send(&mut self, link: LinkId, rid: u64, send: &pb::Send, out: &mut Out) {
        let mut reply = |body| out.push((link, Down::Frame(rid, body)));
        if std::mem::take(&mut self.refuse_next) {
            return reply(FrameBody::Error(ErrorCode::RateLimited.error()));
        }
        let unknown = self.unknown_next.take();
        if unknown == Some(false) {
            return reply(FrameBody::Error(ErrorCode::Unknown.error()));
        }
        // Exactly what a server promises to look at, and no more: a client that does not say `attempt`, or says a `seen`
        // that is too high, gets its message stored twice.
        let log = self.logs.entry(send.conv.clone()).or_default();
        let seen = usize::try_from(send.seen.unwrap_or(0)).expect("small");
        let earlier = log.entries.iter().skip(seen).find(|entry| entry.cmid == send.cmid).filter(|_| send.attempt > 0);
        let (entry, dup) = match earlier.cloned() {
            Some(entry) => (entry, true),
            None => {
                let text = &send.body.as_ref().expect("a body").text;
                (self.append(&send.conv, ADA, &send.cmid, text), false)
            }
        };
        self.dups += usize::from(dup);
        if unknown == Some(true) {
            reply(FrameBody::Error(ErrorCode::Unknown.error()));
        } else {
            let (conv, seq, ts) = (entry.conv.clone(), entry.seq, entry.ts);
            reply(FrameBody::Sent(pb::Sent { conv, seq, ts, dup }));
        }
        if !dup {
            self.push(&entry, Some(link), out);
        }
    }

    fn sync(&self, sync: &pb::Sync) -> pb::Changed {
        let since: u64 = if sync.since.is_empty() { 0 } else { sync.since.parse().expect("a token of ours") };
        let mut changed: Vec<(&String, &Log)> = self.logs.iter().filter(|(_, log)| log.changed > since).collect();
        changed.sort_by_key(|(_, log)| log.changed);
        let more = changed.len() > ROWS;
        changed.truncate(ROWS);
        let last = changed.last().map(|(_, log)| log.changed);
        let token = if more { last.expect("rows") } else { self.changes };
        let row = |(conv, log): &(&String, &Log)| pb::Row {
            conv: (*conv).clone(),
            kind: pb::Kind::Group.into(),
            head: log.entries.len() as u64,
            delivered: log.delivered,
            ..pb::Row::default()
        };
        pb::Changed { rows: changed.iter().map(row).collect(), sync: token.to_string(), more }
    }
}
