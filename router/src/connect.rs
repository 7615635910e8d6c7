//! CONNECT and the end of a session.
//!
//! The order of CONNECT: the route is registered, then what the client may have missed is read, then it is accepted.
//! So whatever is appended later is pushed to it, and whatever was appended before is seen by the read.

use std::sync::Arc;

use roost_storage::Store;
use roost_wire::limits::DEVICE_BYTES_MAX;
use roost_wire::link::{Audience, Down, SessionKey};
use roost_wire::{CloseCode, ErrorCode, FrameBody, UserId, pb};

use crate::auth::{AuthError, Claims, Scope};
use crate::fanout::to_sync;
use crate::outbox::{Answer, Outbox};
use crate::router::Turn;
use crate::sync::token::SyncToken;
use crate::{Bus, Downstream, Env, Notice, Router};

/// Why a connection may not enter.
struct Refusal {
    error: pb::Error,
    close: CloseCode,
}

/// A session that may enter.
struct Entering {
    session: SessionKey,
    rid: u64,
    claims: Claims,
    token: String,
    device: String,
    /// What the client holds, as far as it is a token of this user.
    since: Option<SyncToken>,
    /// The doubts so far: whoever comes later may miss what they are about.
    doubts: u64,
}

impl<S: Store, D: Downstream, E: Env, B: Bus> Router<S, D, E, B> {
    /// A client wants to become a session. Without a sync token and with a token of a user that costs no read.
    pub(crate) fn connect(
        self: &Arc<Self>,
        session: SessionKey,
        rid: u64,
        connect: pb::Connect,
        bearer: Option<Box<str>>,
        turn: &mut Turn,
    ) {
        let pb::Connect { token, guest, device, sync } = connect;
        let token = if token.is_empty() { bearer.map(String::from).unwrap_or_default() } else { token };
        if token.is_empty() && !guest.is_empty() {
            // There are no more of these under way than connections that wait for their first answer.
            let router = Arc::clone(self);
            return self.spawn_always(async move { router.connect_guest(session, rid, guest, device).await });
        }
        let entering = self.admit(session, rid, token, device, &sync);
        match entering {
            Ok(entering) => self.enter(entering, turn),
            Err(refusal) => self.refuse(session, rid, refusal, &mut turn.out),
        }
    }

    async fn connect_guest(self: Arc<Self>, session: SessionKey, rid: u64, name: String, device: String) {
        let mut turn = Turn::default();
        let entering = match self.guest(&name).await {
            Ok(credentials) => self.admit(session, rid, credentials.token, device, ""),
            Err(error) => {
                let close = match ErrorCode::from_number(error.code) {
                    Some(ErrorCode::GuestsOff) => CloseCode::Unauthenticated,
                    Some(code) if code.retryable() => CloseCode::Overloaded,
                    _ => CloseCode::Forbidden,
                };
                Err(Refusal { error, close })
            }
        };
        match entering {
            Ok(entering) => self.enter(entering, &mut turn),
            Err(refusal) => self.refuse(session, rid, refusal, &mut turn.out),
        }
        turn.out.flush(&*self.down);
    }

    fn admit(
        &self,
        session: SessionKey,
        rid: u64,
        token: String,
        device: String,
        sync: &str,
    ) -> Result<Entering, Refusal> {
        if device.len() > DEVICE_BYTES_MAX {
            let error = ErrorCode::BadField.because(format!("device has at most {DEVICE_BYTES_MAX} bytes"));
            return Err(Refusal { error, close: CloseCode::Forbidden });
        }
        let claims = self
            .keys
            .verify(&token, self.env.now_ms())
            .map_err(|refused| Refusal { error: refused.error(), close: refused.close_code() })?;
        // Whoever holds such a token is no person: it would be nobody's session.
        if claims.scope == Scope::Service {
            let error = ErrorCode::Forbidden.because("a service token opens no session");
            return Err(Refusal { error, close: CloseCode::Forbidden });
        }
        // Without a name each connection is a device of its own.
        let device = if device.is_empty() { format!("d_{:016x}", self.env.random_bits() as u64) } else { device };
        let since = if sync.is_empty() { None } else { SyncToken::parse(sync, self.keys.tag(&claims.sub)) };
        Ok(Entering { session, rid, claims, token, device, since, doubts: self.cluster.doubts() })
    }

    fn refuse(&self, session: SessionKey, rid: u64, refusal: Refusal, out: &mut Outbox) {
        self.metrics.connects_refused.add(1);
        let Refusal { error, close } = refusal;
        out.push(session.shard(), Down::Refused { session, rid, error, close });
    }

    /// Registers the session and accepts it, after a look at the store if the client says what it holds.
    fn enter(self: &Arc<Self>, entering: Entering, turn: &mut Turn) {
        let Entering { session, claims, device, since, .. } = &entering;
        let name = if claims.stored { "" } else { crate::accounts::check_name(&claims.name).unwrap_or_default() };
        let name = Some(name).filter(|name| !name.is_empty());
        let knew = self.number_session(*session);
        let came = || self.post(|| Notice::Came { user: claims.sub.clone(), name: name.map(Arc::from) });
        let registered = self.local.register(&claims.sub, device, *session, name, came);
        self.post(|| Notice::SessionTaken { user: claims.sub.clone(), device: device.as_str().into(), knew });
        match registered.replaced {
            Some(older) => {
                self.metrics.replaced.add(1);
                self.forget_session(older);
                turn.out.push(older.shard(), Down::Close { session: older, code: CloseCode::Replaced });
            }
            None => self.metrics.sessions.add(1),
        }
        if registered.first {
            self.presence_changed(&claims.sub);
        }
        match since {
            None => self.accept(&entering, false),
            Some(since) => {
                let (router, since) = (Arc::clone(self), *since);
                self.spawn_always(async move {
                    // A store that fails here makes the client sync, where it gets the error.
                    let fresh = router.is_fresh(&entering.claims.sub, since).await.unwrap_or(false);
                    router.accept(&entering, fresh);
                    if fresh {
                        router.recheck(&entering, since).await;
                    }
                });
            }
        }
    }

    /// Lets the session live. `fresh`: at a moment after its registration it had missed nothing.
    fn accept(&self, entering: &Entering, fresh: bool) {
        let Entering { session, rid, claims, token, device, since, doubts } = entering;
        let session = *session;
        let accepted = self.local.accept(&claims.sub, session, |missed| {
            let fresh = fresh && !missed && *doubts == self.cluster.doubts();
            self.metrics.connects.add(1);
            self.metrics.connects_fresh.add(fresh.into());
            let welcome = Box::new(pb::Welcome {
                user: claims.sub.as_str().to_owned(),
                device: device.clone(),
                session: session.to_string(),
                token: token.clone(),
                expires: claims.expires_ms(),
                heartbeat_ms: 0,
                fresh,
                sync: since.map(|since| since.text(self.keys.tag(&claims.sub))).unwrap_or_default(),
                limits: None,
                name: claims.name.clone(),
            });
            let mut out = Outbox::default();
            out.push(session.shard(), Down::Accepted { session, rid: *rid, user: claims.sub.clone(), welcome });
            for topic in self.interest.of(&claims.sub) {
                out.push(session.shard(), Down::Join { session, topic });
            }
            out.flush(&*self.down);
        });
        if !accepted {
            tracing::debug!(?session, "replaced before it was accepted");
        }
    }

    /// What was pushed to a topic before the session joined it went past it: look once more.
    async fn recheck(&self, entering: &Entering, since: SyncToken) {
        if self.interest.of(&entering.claims.sub).is_empty()
            || self.is_fresh(&entering.claims.sub, since).await.unwrap_or(false)
        {
            return;
        }
        let mut out = Outbox::default();
        let audience = Audience::Sessions(Arc::from([entering.session]));
        out.push(entering.session.shard(), Down::Deliver { envelope: to_sync(), audience });
        out.flush(&*self.down);
    }

    /// A session has ended.
    pub(crate) fn gone(self: &Arc<Self>, session: SessionKey, user: &UserId) {
        let last = self.local.remove(user, session, || self.post(|| Notice::Gone { user: user.clone() }));
        self.forget_session(session);
        if last.is_some() {
            self.metrics.sessions.sub(1);
        }
        if last == Some(true) {
            self.saw_last(user);
            self.presence_changed(user);
        }
    }

    pub(crate) fn forget_session(&self, session: SessionKey) {
        self.forget_number(session);
        self.presence.unwatch_all(session, &self.sessions.remove(session));
    }

    /// REFRESH: a newer token for a session that lives.
    pub(crate) fn refresh_session(
        &self,
        session: SessionKey,
        user: &UserId,
        refresh: &pb::Refresh,
        out: &mut Outbox,
    ) -> Answer {
        let claims = self.keys.verify(&refresh.token, self.env.now_ms()).map_err(AuthError::error)?;
        if claims.sub != *user {
            return Err(ErrorCode::Forbidden.because("this token is another user's"));
        }
        out.push(session.shard(), Down::Extend { session, expires: claims.expires_ms() });
        Ok(FrameBody::Ok(pb::Ok {}))
    }
}
