//! SYNC: what changed since the client last looked.
//!
//! Two sources: index rows in the order they changed, then groups whose head moved without moving the user's row. The
//! token keeps a stamp for each. The stamp of heads is only raised to a state of all the user's groups that was seen
//! twice in the same form: otherwise a group that moved between two reads could be passed over.

pub(crate) mod groups;
pub(crate) mod token;

use roost_storage::{ConvMeta, Entry, IndexRow, Stamp, Store};
use roost_wire::limits::{ROWS_DEFAULT, ROWS_MAX};
use roost_wire::pb::Kind;
use roost_wire::{ConvId, FrameBody, Seq, UserId, pb};

use crate::fanout::wire_entry;
use crate::outbox::Answer;
use crate::size::{ITEMS_BYTES_MAX, row_bytes};
use crate::{Bus, Downstream, Env, Router};
use token::SyncToken;

/// Rows of one answer, within its limits.
struct Rows {
    rows: Vec<pb::Row>,
    bytes: usize,
    limit: usize,
}

impl Rows {
    /// Whether there is room for a row. The first always fits.
    fn fits(&self, row: &pb::Row) -> bool {
        self.rows.is_empty() || (self.rows.len() < self.limit && self.bytes + row_bytes(row) <= ITEMS_BYTES_MAX)
    }

    fn push(&mut self, row: pb::Row) {
        self.bytes += row_bytes(&row);
        self.rows.push(row);
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Whether nothing changed for `user` since a token.
    pub(crate) async fn is_fresh(&self, user: &UserId, since: SyncToken) -> Result<bool, pb::Error> {
        if self.read(self.store.last_change(user)).await? > since.rows {
            return Ok(false);
        }
        let groups = self.groups_of(user).await?;
        if groups.is_empty() {
            return Ok(true);
        }
        let metas = self.read(self.store.metas(&groups)).await?;
        Ok(metas.iter().flatten().all(|meta| meta.changed <= since.heads))
    }

    /// SYNC.
    pub(crate) async fn sync(&self, user: &UserId, sync: &pb::Sync) -> Answer {
        let tag = self.keys.tag(user);
        let limit = if sync.limit == 0 { ROWS_DEFAULT } else { sync.limit.min(ROWS_MAX) };
        let since = SyncToken::parse(&sync.since, tag);
        let from_start = since.is_none();
        // Before the first read: what is still to appear with a lower stamp is then told by the next SYNC.
        let settled = self.store.settled();
        let mut next = match since {
            Some(since) => SyncToken { settled: since.settled.min(settled), ..since },
            // All rows are to come, each with its head as it will be then.
            None => SyncToken { rows: 0, heads: self.heads(user, 0).await?.1, settled },
        };
        let mut rows = Rows { rows: Vec::new(), bytes: 0, limit: limit as usize };
        let page = self.read(self.store.index(user, next.rows, limit as usize)).await?;
        let mut told: Vec<(ConvId, Seq)> = Vec::new();
        let mut more = page.more;
        let end = page.stamp;
        next.rows = self.push_rows(user, page.rows, end, from_start, &mut rows, &mut told).await?;
        if next.rows != end {
            more = true;
        }
        if !more {
            more = self.push_groups(user, &mut next, &mut rows, &told).await?;
        }
        let next = if more { next } else { next.ended() };
        Ok(FrameBody::Changed(pb::Changed { rows: rows.rows, sync: next.text(tag), more }))
    }

    /// Adds changed rows. Returns the stamp to go on from: `end` if all fitted.
    async fn push_rows(
        &self,
        user: &UserId,
        index: Vec<IndexRow>,
        end: Stamp,
        from_start: bool,
        rows: &mut Rows,
        told: &mut Vec<(ConvId, Seq)>,
    ) -> Result<Stamp, pb::Error> {
        let stamps: Vec<Stamp> = index.iter().map(|row| row.changed).collect();
        // To a client that holds nothing, what was left long ago means nothing.
        let skip: Vec<bool> = index.iter().map(|row| from_start && row.role.is_none()).collect();
        let convs: Vec<ConvId> = index.iter().map(|row| row.conv.clone()).collect();
        let built = self.rows_for(user, index).await?;
        for (place, row) in built.into_iter().enumerate() {
            if skip[place] {
                continue;
            }
            let Some(row) = row else { continue };
            // A stamp cannot be told by half: the next answer begins after the last one that is whole.
            let head = row.head;
            match stamps[..place].iter().rev().find(|stamp| **stamp < stamps[place]) {
                Some(whole) if !rows.fits(&row) => return Ok(*whole),
                _ => rows.push(row),
            }
            told.push((convs[place].clone(), head));
        }
        Ok(end)
    }

    /// Adds groups whose head moved. Returns whether there are more.
    async fn push_groups(
        &self,
        user: &UserId,
        next: &mut SyncToken,
        rows: &mut Rows,
        told: &[(ConvId, Seq)],
    ) -> Result<bool, pb::Error> {
        let (mut changed, heads) = self.heads(user, next.heads).await?;
        // What was told is told again if its head has moved since it was read.
        changed.retain(|meta| !told.iter().any(|(conv, head)| *conv == meta.conv && *head >= meta.head));
        changed.sort_unstable_by_key(|meta| meta.changed);
        for meta in changed {
            let users = std::slice::from_ref(user);
            let row = self.read(self.store.rows(&meta.conv, users)).await?.into_iter().next().flatten();
            let Some(row) = row else { continue };
            // A row that moved with the head, or after it, was told as a row; if that was behind the page, it is told
            // here, and once more by the next SYNC: nobody may ask for that one soon.
            let behind_page = row.changed > next.rows;
            if !behind_page && (row.changed >= meta.changed || row.role.is_none()) {
                continue;
            }
            let stamp = meta.changed;
            let Some(row) = self.rows_for(user, vec![row]).await?.into_iter().next().flatten() else { continue };
            if !rows.fits(&row) {
                return Ok(true);
            }
            rows.push(row);
            next.heads = next.heads.max(stamp.min(heads));
        }
        next.heads = next.heads.max(heads);
        Ok(false)
    }

    /// The user's groups that changed after `since`, and the stamp up to which that is certain: `since` if groups
    /// moved while they were read.
    async fn heads(&self, user: &UserId, since: Stamp) -> Result<(Vec<ConvMeta>, Stamp), pb::Error> {
        let groups = self.groups_of(user).await?;
        if groups.is_empty() {
            return Ok((Vec::new(), since));
        }
        let metas = self.read(self.store.metas(&groups)).await?;
        let newest = metas.iter().flatten().map(|meta| meta.changed).max().unwrap_or(0);
        if newest <= since {
            return Ok((Vec::new(), since));
        }
        let again = self.read(self.store.metas(&groups)).await?;
        let certain = if again == metas { newest } else { since };
        Ok((metas.into_iter().flatten().filter(|meta| meta.changed > since).collect(), certain))
    }

    /// Index rows as clients see them, in their order; `None` for one whose conversation is gone.
    pub(crate) async fn rows_for(
        &self,
        user: &UserId,
        index: Vec<IndexRow>,
    ) -> Result<Vec<Option<pb::Row>>, pb::Error> {
        if index.is_empty() {
            return Ok(Vec::new());
        }
        let convs: Vec<ConvId> = index.iter().map(|row| row.conv.clone()).collect();
        // The heads before the last entries: so a last entry is never below the head that stands beside it.
        let metas = self.read(self.store.metas(&convs)).await?;
        let lasts = self.read(self.store.last_entries(&convs)).await?;
        let mut rows = Vec::with_capacity(index.len());
        let mut peers: Vec<(usize, UserId)> = Vec::new();
        for ((row, meta), last) in index.into_iter().zip(metas).zip(lasts) {
            let Some(meta) = meta else {
                rows.push(None);
                continue;
            };
            if meta.kind == Kind::Direct && row.role.is_some() {
                peers.push((rows.len(), self.peer_of(&meta.conv, user).await?));
            }
            rows.push(Some(self.wire_row(user, &row, &meta, last)));
        }
        let ids: Vec<UserId> = peers.iter().map(|(_, peer)| peer.clone()).collect();
        let names = if ids.is_empty() { Vec::new() } else { self.names_of(&ids).await? };
        for ((place, peer), name) in peers.into_iter().zip(names) {
            if let Some(row) = &mut rows[place] {
                row.peer = Some(pb::Member { user: peer.into(), name, ..pb::Member::default() });
            }
        }
        Ok(rows)
    }

    /// The other user of a direct conversation; oneself in notes to oneself.
    async fn peer_of(&self, conv: &ConvId, user: &UserId) -> Result<UserId, pb::Error> {
        let cached = self.cache.get(conv).and_then(|conv| conv.peek(|loaded| loaded.roster.clone()));
        let peer = match cached {
            Some(roster) => roster.users().find(|member| *member != user).cloned(),
            None => {
                let members = self.read(self.store.members(conv)).await?;
                members.into_iter().map(|member| member.user).find(|member| member != user)
            }
        };
        Ok(peer.unwrap_or_else(|| user.clone()))
    }

    /// One row. Of a conversation that the user has left only that is said.
    fn wire_row(&self, user: &UserId, row: &IndexRow, meta: &ConvMeta, last: Option<Entry>) -> pb::Row {
        let conv = row.conv.as_str().to_owned();
        let kind = meta.kind.into();
        let Some(role) = row.role else {
            return pb::Row { conv, kind, left: true, ..pb::Row::default() };
        };
        let waiting = self.marks.waiting(user, &row.conv);
        let head = row.head.max(meta.head).max(last.as_ref().map_or(0, |last| last.seq));
        let read = row.read.max(waiting.1);
        pb::Row {
            head,
            read,
            delivered: row.delivered.max(waiting.0),
            unread: head.saturating_sub(read),
            last: last.map(|last| wire_entry(&conv, last)),
            name: meta.name.clone(),
            role: role.into(),
            peer: None,
            left: false,
            conv,
            kind,
        }
    }
}
