//! Tokens: JWT signed with HS256, one fixed algorithm, one key.
//!
//! A token is a user's identity; a display name gives no access to anything. Of the header only `alg` is looked at,
//! and it must be HS256: `kid`, `jku`, `jwk` and the like have no meaning here.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use roost_wire::limits::TOKEN_BYTES_MAX;
use roost_wire::{CloseCode, ErrorCode, UserId, pb};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `iss` of every token.
pub const ISSUER: &str = "roost";
/// `aud` of every token.
pub const AUDIENCE: &str = "roost";
/// How far clocks may differ, in seconds.
pub const LEEWAY_S: u64 = 5;

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// What a person may do.
    #[default]
    User,
    /// Also to publish where [`PublishPolicy::Service`](crate::PublishPolicy::Service) holds, and by HTTP.
    Service,
}

/// What a token says. `iss` and `aud` are always [`ISSUER`] and [`AUDIENCE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// The display name; may be empty.
    #[serde(default)]
    pub name: String,
    /// What it allows.
    #[serde(default)]
    pub scope: Scope,
    /// When it was made, in seconds since the Unix epoch.
    #[serde(default)]
    pub iat: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub exp: u64,
    iss: String,
    aud: String,
    /// The store has a record of the user: `name` need not be kept for making one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stored: bool,
}

impl Claims {
    /// Claims of a user from `now_ms` on, for `ttl_s` seconds.
    #[must_use]
    pub fn new(sub: UserId, name: &str, scope: Scope, now_ms: u64, ttl_s: u64) -> Self {
        let iat = now_ms / 1000;
        Self {
            sub,
            name: name.to_owned(),
            scope,
            iat,
            exp: iat.saturating_add(ttl_s),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            stored: false,
        }
    }

    /// When the token ends, in ms since the Unix epoch.
    #[must_use]
    pub const fn expires_ms(&self) -> u64 {
        self.exp.saturating_mul(1000)
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is too long")]
    TooLong,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// Not a token of ours.
    #[error("the token is not valid")]
    Invalid,
}

impl AuthError {
    /// The error told to the peer. It does not say what is wrong with a forged token.
    #[must_use]
    pub fn error(self) -> pb::Error {
        match self {
            Self::Expired => ErrorCode::TokenExpired.error(),
            Self::TooLong | Self::Invalid => ErrorCode::BadToken.error(),
        }
    }

    /// The close code of a connection that offered it.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Expired => CloseCode::TokenExpired,
            Self::TooLong | Self::Invalid => CloseCode::Unauthenticated,
        }
    }
}

/// The key that signs and checks tokens.
pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    /// For [`Keys::tag`]; derived, so that a tag tells nothing about the key.
    tagging: [u8; 32],
}

impl Keys {
    /// HS256 with these 32 bytes, which must be secret and random.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Compared with the caller's clock instead of the machine's.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            tagging: Sha256::new().chain_update(b"roost sync tag").chain_update(secret).finalize().into(),
        }
    }

    /// Signs `claims`.
    ///
    /// # Panics
    /// Never: claims are strings and numbers, and the key fits the algorithm.
    #[must_use]
    pub fn mint(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding).expect("claims are plain")
    }

    /// Checks `token` at `now_ms` and gives its claims.
    ///
    /// # Errors
    /// [`AuthError`] for everything but a token made with this key, for Roost, and not expired.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| AuthError::Invalid)?
            .claims;
        if claims.exp.saturating_add(LEEWAY_S).saturating_mul(1000) <= now_ms {
            return Err(AuthError::Expired);
        }
        Ok(claims)
    }

    /// A number that differs between users and between keys.
    pub(crate) fn tag(&self, user: &UserId) -> u64 {
        let hash = Sha256::new().chain_update(self.tagging).chain_update(user.as_str()).finalize();
        u64::from_le_bytes(hash[..8].try_into().expect("32 bytes have 8"))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(secret)")
    }
}
