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
    /// To call the HTTP API for other programs, for one to publish. It opens no session.
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

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const NOW_MS: u64 = 1_790_000_000_000;
    const NOW_S: u64 = NOW_MS / 1000;

    fn keys() -> Keys {
        Keys::new(&SECRET)
    }

    fn good() -> Value {
        json!({ "sub": "u_ada", "name": "Ada", "iss": "roost", "aud": "roost", "iat": NOW_S, "exp": NOW_S + 60 })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut claims = good();
        claims[field] = value;
        claims
    }

    fn without(field: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(field);
        claims
    }

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    /// Signs whatever it is given, as somebody with `secret` could.
    fn forge(header: &Value, claims: &Value, secret: &[u8], alg: Algorithm) -> String {
        let message = format!("{}.{}", part(header), part(claims));
        let key = EncodingKey::from_secret(secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, alg).unwrap();
        format!("{message}.{signature}")
    }

    fn signed(claims: &Value) -> String {
        forge(&json!({ "alg": "HS256", "typ": "JWT" }), claims, &SECRET, Algorithm::HS256)
    }

    #[test]
    fn a_minted_token_is_verified_and_says_what_it_said() {
        let claims = Claims::new(UserId::new("u_ada").unwrap(), "Ada", Scope::Service, NOW_MS, 60);
        assert_eq!(keys().verify(&keys().mint(&claims), NOW_MS), Ok(claims));
        // The forger's tool works: what it makes of good claims is accepted.
        let claims = keys().verify(&signed(&good()), NOW_MS).unwrap();
        assert_eq!((claims.sub.as_str(), claims.scope), ("u_ada", Scope::User));
    }

    #[test]
    fn f06_forged_tokens_are_all_refused() {
        let alg = |alg: &str| json!({ "alg": alg, "typ": "JWT" });
        let hs256 = alg("HS256");
        let own = signed(&good());
        let [header, body, signature] = own.split('.').collect::<Vec<_>>()[..] else { panic!() };
        let unsigned = |alg_name: &str| format!("{}.{body}.", part(&alg(alg_name)));
        let relabelled = |alg_name: &str| format!("{}.{body}.{signature}", part(&alg(alg_name)));
        let raised = part(&with("scope", json!("service")));
        let keyed = |field: &str, value: Value| {
            let mut header = hs256.clone();
            header[field] = value;
            forge(&header, &good(), &[8; 32], Algorithm::HS256)
        };
        let corpus: Vec<(&str, String)> = vec![
            ("empty", String::new()),
            ("garbage", "garbage".into()),
            ("two parts", format!("{header}.{body}")),
            ("four parts", format!("{own}.{signature}")),
            ("dots", "...".into()),
            ("not base64", format!("{header}.%%%.{signature}")),
            ("no JSON", forge(&hs256, &json!("text"), &SECRET, Algorithm::HS256)),
            ("not ASCII", format!("ä{own}")),
            ("a null byte", format!("{own}\0")),
            ("blanks around it", format!(" {own} ")),
            ("alg none", unsigned("none")),
            ("alg None", unsigned("None")),
            ("alg NONE with the signature", relabelled("NONE")),
            ("alg empty", unsigned("")),
            ("alg missing", format!("{}.{body}.{signature}", part(&json!({ "typ": "JWT" })))),
            ("HS256 without a signature", format!("{header}.{body}.")),
            ("labelled RS256", relabelled("RS256")),
            ("labelled ES256", relabelled("ES256")),
            ("labelled EdDSA", relabelled("EdDSA")),
            ("HS384 with our key", forge(&alg("HS384"), &good(), &SECRET, Algorithm::HS384)),
            ("HS512 with our key", forge(&alg("HS512"), &good(), &SECRET, Algorithm::HS512)),
            ("another key", forge(&hs256, &good(), &[8; 32], Algorithm::HS256)),
            ("an empty key", forge(&hs256, &good(), b"", Algorithm::HS256)),
            ("a key of zeros", forge(&hs256, &good(), &[0; 32], Algorithm::HS256)),
            ("the public words as key", forge(&hs256, &good(), b"roost", Algorithm::HS256)),
            ("jku", keyed("jku", json!("https://evil.example/keys"))),
            ("jwk", keyed("jwk", json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode([8; 32]), "alg": "HS256" }))),
            ("kid of a file", keyed("kid", json!("../../dev/null"))),
            ("kid of a query", keyed("kid", json!("' OR 1=1 --"))),
            ("x5u", keyed("x5u", json!("https://evil.example/cert"))),
            ("raised scope", format!("{header}.{raised}.{signature}")),
            ("signature cut", own[..own.len() - 4].to_owned()),
            ("wrong issuer", signed(&with("iss", json!("other")))),
            ("no issuer", signed(&without("iss"))),
            ("wrong audience", signed(&with("aud", json!("other")))),
            ("no audience", signed(&without("aud"))),
            ("no end", signed(&without("exp"))),
            ("end null", signed(&with("exp", Value::Null))),
            ("end as text", signed(&with("exp", json!("tomorrow")))),
            ("end negative", signed(&with("exp", json!(-1)))),
            ("no user", signed(&without("sub"))),
            ("user empty", signed(&with("sub", json!("")))),
            ("user with a blank", signed(&with("sub", json!("u ada")))),
            ("user too long", signed(&with("sub", json!("x".repeat(65))))),
            ("unknown scope", signed(&with("scope", json!("root")))),
        ];
        for (name, token) in corpus {
            assert_eq!(keys().verify(&token, NOW_MS), Err(AuthError::Invalid), "{name}");
        }
        let long = signed(&with("name", json!("x".repeat(5000))));
        assert_eq!(keys().verify(&long, NOW_MS), Err(AuthError::TooLong));
    }

    #[test]
    fn header_fields_beside_alg_mean_nothing() {
        let header = json!({ "alg": "HS256", "kid": "x", "jku": "https://evil.example/keys" });
        assert!(keys().verify(&forge(&header, &good(), &SECRET, Algorithm::HS256), NOW_MS).is_ok());
    }

    #[test]
    fn a_token_ends_a_little_after_its_time_and_by_the_callers_clock() {
        for (exp, want) in [
            (NOW_S + 1, true),
            (NOW_S - LEEWAY_S + 1, true),
            (NOW_S - LEEWAY_S, false),
            (NOW_S - 3600, false),
            (0, false),
            (u64::MAX, true),
        ] {
            let verified = keys().verify(&signed(&with("exp", json!(exp))), NOW_MS);
            assert_eq!(verified.as_ref().err(), (!want).then_some(&AuthError::Expired), "{exp}");
        }
    }

    #[test]
    fn tags_differ_between_users_and_keys() {
        let [ada, bob] = ["u_ada", "u_bob"].map(|id| UserId::new(id).unwrap());
        assert_ne!(keys().tag(&ada), keys().tag(&bob));
        assert_ne!(keys().tag(&ada), Keys::new(&[8; 32]).tag(&ada));
        assert_eq!(format!("{:?}", keys()), "Keys(secret)");
    }
}
