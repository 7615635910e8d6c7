//! CREATE: direct conversations and groups.
//!
//! The id of a direct conversation is made from its two users, so the same pair has one conversation, whoever asks
//! and however often at once. A pair of the same user twice is a place for notes to oneself. Both are owners: the
//! rules of groups do not hold there.

use hashbrown::HashSet;
use roost_storage::{ConvMeta, Member, Store};
use roost_wire::link::SessionKey;
use roost_wire::pb::{self, Kind, Role};
use roost_wire::{ErrorCode, FrameBody, UserId};

use super::ids;
use super::roster::Roster;
use crate::accounts::check_name;
use crate::outbox::{Answer, Outbox};
use crate::router::user_ids;
use crate::{Bus, Downstream, Env, Router};

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// CREATE.
    pub(crate) async fn create(&self, session: SessionKey, user: &UserId, create: &pb::Create) -> Answer {
        let named = user_ids(&create.members)?;
        match create.kind() {
            Kind::Direct => {
                let [other] = named.as_slice() else {
                    return Err(ErrorCode::BadField.because("a direct conversation names one user"));
                };
                let member = |user: &UserId| Member { user: user.clone(), role: Role::Owner };
                let members = Roster::new(vec![member(user), member(other)]);
                let id = ids::direct(user, other);
                self.make(session, self.meta(id, Kind::Direct, "", false), members).await
            }
            Kind::Group => {
                let name = check_name(&create.name)?;
                let others: HashSet<&UserId> = named.iter().filter(|other| *other != user).collect();
                if others.len() >= self.config.members_max {
                    return Err(ErrorCode::TooManyMembers.error());
                }
                let mut members = vec![Member { user: user.clone(), role: Role::Owner }];
                members.extend(others.into_iter().map(|other| Member { user: other.clone(), role: Role::Member }));
                let id = ids::group(self.env.random_bits());
                self.make(session, self.meta(id, Kind::Group, name, create.open), Roster::new(members)).await
            }
            Kind::Channel => Err(ErrorCode::WrongKind.because("channels begin with a PUBLISH")),
            Kind::Unspecified => Err(ErrorCode::BadField.because("kind is missing")),
        }
    }

    fn meta(&self, conv: roost_wire::ConvId, kind: Kind, name: &str, open: bool) -> ConvMeta {
        let created_ms = self.env.now_ms();
        ConvMeta { conv, kind, name: name.to_owned(), open, created_ms, head: 0, changed: 0 }
    }

    async fn make(&self, session: SessionKey, meta: ConvMeta, roster: Roster) -> Answer {
        let users: Vec<UserId> = roster.users().cloned().collect();
        if let Err(error) = self.introduce(&users).await {
            // Who has a direct conversation may open it again, whatever is known of the other.
            let ids = std::slice::from_ref(&meta.conv);
            let open_again = meta.kind == Kind::Direct
                && error.code == ErrorCode::NoUser.number()
                && matches!(self.read(self.store.metas(ids)).await?.as_slice(), [Some(_)]);
            if !open_again {
                return Err(error);
            }
        }
        let (meta, made) = self.write(self.store.create(meta, roster.iter().cloned().collect())).await?;
        let members = self.listed(&meta.conv, &roster, !made).await?;
        if made {
            if meta.kind == Kind::Group {
                users.iter().for_each(|user| self.groups.forget(user));
            }
            self.announce_made(session, &meta, &roster, &members);
        }
        Ok(FrameBody::Conversation(pb::Conversation {
            conv: meta.conv.into(),
            kind: meta.kind.into(),
            name: meta.name,
            head: meta.head,
            members,
            open: meta.open,
        }))
    }

    /// CHANGED to every member's sessions, but to the one that asked.
    fn announce_made(&self, session: SessionKey, meta: &ConvMeta, roster: &Roster, listed: &[pb::Member]) {
        let mut out = Outbox::default();
        let row = |role: Role, peer: Option<pb::Member>| pb::Row {
            conv: meta.conv.as_str().to_owned(),
            kind: meta.kind.into(),
            name: meta.name.clone(),
            role: role.into(),
            peer,
            ..pb::Row::default()
        };
        if meta.kind == Kind::Direct {
            for (place, member) in roster.iter().enumerate() {
                let peer = listed.get(roster.len() - 1 - place);
                let peer = peer.map(|peer| pb::Member { role: 0, delivered: 0, read: 0, ..peer.clone() });
                self.push_row([&member.user].into_iter(), row(member.role, peer), Some(session), &mut out);
            }
        } else {
            for role in [Role::Owner, Role::Member] {
                let users = roster.iter().filter(|member| member.role == role).map(|member| &member.user);
                self.push_row(users, row(role, None), Some(session), &mut out);
            }
        }
        out.flush(&*self.down);
    }
}
