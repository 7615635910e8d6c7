//! What those who run the system ask for: who is here, and that somebody leaves.

use roost_storage::Store;
use roost_wire::link::Down;
use roost_wire::{CloseCode, ErrorCode, UserId, pb};

use crate::auth::{AuthError, Scope};
use crate::outbox::Outbox;
use crate::{Bus, Downstream, Env, Notice, Router};

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// Whether `token` is a service's, and valid by this router's clock.
    ///
    /// # Errors
    /// What is wrong with it (200, 201), or 203: it is a user's.
    pub fn allow_service(&self, token: &str) -> Result<(), pb::Error> {
        let claims = self.keys.verify(token, self.env.now_ms()).map_err(AuthError::error)?;
        match claims.scope {
            Scope::Service => Ok(()),
            Scope::User => Err(ErrorCode::Forbidden.because("a service token is needed: roost token --service")),
        }
    }

    /// Which of `users` have a session, here or, as far as is known, on another node; in their order.
    pub fn online(&self, users: &[UserId]) -> Vec<bool> {
        users.iter().map(|user| self.is_online(user)).collect()
    }

    /// Ends every session of `user` with 4505, wherever it is. Nothing is refused afterwards: who has a token may come
    /// back with it. On other nodes it is a matter of the bus: best effort, at once.
    pub fn disconnect(&self, user: &UserId) {
        self.post(|| Notice::Disconnect { user: user.clone() });
        self.disconnect_here(user);
    }

    /// Ends the sessions of `user` on this node. They are forgotten once the edge says that they are gone.
    pub(crate) fn disconnect_here(&self, user: &UserId) {
        let mut out = Outbox::default();
        for session in self.sessions_of(std::iter::once(user)) {
            out.push(session.shard(), Down::Close { session, code: CloseCode::Disconnected });
        }
        out.flush(&*self.down);
    }
}
