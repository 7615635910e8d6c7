//! Conversations as their readers see them: CONVERSATION, and the rows of CHANGED.

use std::sync::Arc;

use roost_storage::{IndexRow, Store};
use roost_wire::limits::MEMBERS_LISTED_MAX;
use roost_wire::link::SessionKey;
use roost_wire::link::{Envelope, Lane};
use roost_wire::{ConvId, ErrorCode, FrameBody, UserId, pb};
use smallvec::SmallVec;

use super::roster::Roster;
use super::{Conversation, Loaded};
use crate::fanout::by_shard;
use crate::outbox::{Answer, Outbox};
use crate::{Bus, Downstream, Env, Router, To};

impl Loaded {
    /// # Errors
    /// 301 unless `user` is a member, or it is a channel.
    pub(crate) fn readable_by(&self, user: &UserId) -> Result<(), pb::Error> {
        if self.is_channel() || self.roster.role(user).is_some() { Ok(()) } else { Err(ErrorCode::NotMember.error()) }
    }
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// GET.
    pub(crate) async fn get(&self, conv: &Arc<Conversation>, user: &UserId) -> Answer {
        self.load_readable(conv, user).await?;
        self.view(conv).await
    }

    /// Loads `conv` and checks that `user` may read it now.
    ///
    /// # Errors
    /// 301 if not; what [`Self::load`] says.
    pub(crate) async fn load_readable(&self, conv: &Arc<Conversation>, user: &UserId) -> Result<(), pb::Error> {
        let began = self.check_begins().at;
        let allowed = || conv.peek(|loaded| loaded.readable_by(user)).unwrap_or(Err(ErrorCode::Overloaded.error()));
        self.load_leased(conv).await?;
        if allowed().is_ok() {
            return Ok(());
        }
        self.load_since(conv, began).await?;
        allowed()
    }

    /// CONVERSATION of a loaded conversation, with as many members as are listed.
    pub(crate) async fn view(&self, conv: &Conversation) -> Answer {
        let found = conv.peek(|loaded| (loaded.meta.clone(), loaded.roster.clone()));
        let (meta, roster) = found.ok_or_else(|| ErrorCode::Overloaded.error())?;
        let members = self.listed(&meta.conv, &roster, true).await?;
        Ok(FrameBody::Conversation(pb::Conversation {
            conv: meta.conv.into(),
            kind: meta.kind.into(),
            name: meta.name,
            head: meta.head,
            members,
            open: meta.open,
        }))
    }

    /// The first members with their names; with their marks too if the conversation is small and `marked`, which it is
    /// not when it was made a moment ago.
    pub(crate) async fn listed(
        &self,
        conv: &ConvId,
        roster: &Roster,
        marked: bool,
    ) -> Result<Vec<pb::Member>, pb::Error> {
        let users: Vec<UserId> = roster.users().take(MEMBERS_LISTED_MAX).cloned().collect();
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let marked = marked && roster.len() <= self.config.index_threshold;
        let marks =
            async { if marked { self.read(self.store.rows(conv, &users)).await } else { Ok(vec![None; users.len()]) } };
        let (names, marks) = tokio::try_join!(self.names_of(&users), marks)?;
        let member = |((member, name), row): ((&roost_storage::Member, String), Option<IndexRow>)| {
            let (delivered, read) = row.map_or((0, 0), |row| (row.delivered, row.read));
            // What the user has read, a device of the user holds.
            let delivered = delivered.max(read);
            pb::Member { user: member.user.as_str().to_owned(), role: member.role.into(), name, delivered, read }
        };
        Ok(roster.iter().zip(names).zip(marks).map(member).collect())
    }

    /// Tells the sessions of `users` of a row that is the same for them all.
    pub(crate) fn push_row<'a>(
        &self,
        users: impl Iterator<Item = &'a UserId>,
        row: pb::Row,
        except: Option<SessionKey>,
        out: &mut Outbox,
    ) {
        let users: SmallVec<[&UserId; 8]> = users.collect();
        let sessions = self.sessions_of(users.iter().copied());
        if users.is_empty() || (self.is_alone() && sessions.is_empty()) {
            return;
        }
        let changed = pb::Changed { rows: vec![row], sync: String::new(), more: false };
        let envelope = Envelope::new(Lane::Durable, FrameBody::Changed(changed));
        self.push_to(&by_shard(sessions), except, &envelope, out);
        self.post_push(|| To::Users(users.iter().map(|user| (*user).clone()).collect()), &envelope);
    }
}
