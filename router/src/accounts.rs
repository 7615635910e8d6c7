//! Users: guests, names, who is known.
//!
//! A user is known if the store has a record of it, or if it is online. Whoever comes with a token of another system
//! has no record at first: none is written at CONNECT. The name in the token is kept with the route, and a record is
//! made once others may see the user: when it makes a conversation, is put into one, or joins one.

use std::sync::Arc;

use roost_storage::{Store, User};
use roost_wire::limits::NAME_BYTES_MAX;
use roost_wire::{ErrorCode, UserId, pb};

use crate::auth::{AuthError, Claims, Scope};
use crate::{Bus, Credentials, Downstream, Env, Router};

/// Checks a display name or the name of a conversation, and cuts blanks at its ends.
///
/// # Errors
/// 104 for one that is too long or holds control characters.
pub(crate) fn check_name(name: &str) -> Result<&str, pb::Error> {
    let name = name.trim();
    if name.len() > NAME_BYTES_MAX {
        return Err(ErrorCode::BadField.because(format!("a name has at most {NAME_BYTES_MAX} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(ErrorCode::BadField.because("a name holds no control characters"));
    }
    Ok(name)
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Makes a guest: a new user with this display name, and a token, which alone gives access to it. Names are not
    /// unique: the same name again is another user.
    ///
    /// # Errors
    /// 202 if guests are not admitted, 104 for a bad name, 5xx if the store fails.
    pub async fn guest(self: &Arc<Self>, name: &str) -> Result<Credentials, pb::Error> {
        if !self.config.guests {
            return Err(ErrorCode::GuestsOff.error());
        }
        let name = check_name(name)?;
        if name.is_empty() {
            return Err(ErrorCode::BadField.because("a name has at least 1 byte"));
        }
        let user = UserId::from_bits(self.env.random_bits());
        let now_ms = self.env.now_ms();
        let record = User { user: user.clone(), name: name.to_owned(), created_ms: now_ms, last_seen_ms: 0 };
        // If the outcome is unknown, the worst is a record that nobody has a token of.
        self.write(self.store.put_users(vec![record])).await?;
        self.metrics.guests.add(1);
        let mut claims = Claims::new(user, name, Scope::User, now_ms, self.config.guest_token_ttl.as_secs());
        claims.stored = true;
        Ok(self.credentials(&claims))
    }

    /// Gives a new token for one that is still valid. Service tokens are not renewed here: whoever has the key makes
    /// them.
    ///
    /// # Errors
    /// 200, 201 or 203.
    #[allow(clippy::unused_async, reason = "sessions that can be revoked will be looked up here")]
    pub async fn refresh(self: &Arc<Self>, token: &str) -> Result<Credentials, pb::Error> {
        let now_ms = self.env.now_ms();
        let old = self.keys.verify(token, now_ms).map_err(AuthError::error)?;
        if old.scope != Scope::User {
            return Err(ErrorCode::Forbidden.error());
        }
        let mut claims = Claims::new(old.sub, &old.name, old.scope, now_ms, self.config.guest_token_ttl.as_secs());
        claims.stored = old.stored;
        Ok(self.credentials(&claims))
    }

    fn credentials(&self, claims: &Claims) -> Credentials {
        Credentials {
            user: claims.sub.clone(),
            token: self.keys.mint(claims),
            expires_ms: claims.expires_ms(),
            name: claims.name.clone(),
        }
    }

    /// Sees that all `users` are known, and have a record from now on.
    ///
    /// # Errors
    /// 304 if one is neither recorded nor online; 5xx.
    pub(crate) async fn introduce(&self, users: &[UserId]) -> Result<(), pb::Error> {
        let records = self.read(self.store.users(users)).await?;
        let mut new = Vec::new();
        for (user, record) in users.iter().zip(records) {
            if record.is_some() {
                continue;
            }
            if !self.is_online(user) {
                return Err(ErrorCode::NoUser.error());
            }
            let name = self.token_name(user).unwrap_or_default();
            new.push(User { user: user.clone(), name, created_ms: self.env.now_ms(), last_seen_ms: 0 });
        }
        if !new.is_empty() {
            let made: Vec<UserId> = new.iter().map(|user| user.user.clone()).collect();
            self.write(self.store.put_users(new)).await?;
            made.iter().for_each(|user| self.local.forget_name(user));
        }
        Ok(())
    }

    /// Display names, in the order of `users`. Who has none is shown by its id.
    pub(crate) async fn names_of(&self, users: &[UserId]) -> Result<Vec<String>, pb::Error> {
        let records = self.read(self.store.users(users)).await?;
        let shown = |(user, record): (&UserId, Option<User>)| {
            let name = record.map(|record| record.name).filter(|name| !name.is_empty());
            name.unwrap_or_else(|| user.as_str().to_owned())
        };
        Ok(users.iter().zip(records).map(shown).collect())
    }
}
