//! Secrets that all nodes share: drawn by whoever asks first.

use roost_wire::ConvId;
use std::time::{Duration, Instant};

use super::CqlStore;
use super::db::Failure;
use crate::embedded::SECRET_BYTES;
use crate::{Result, StoreError};

impl CqlStore {
    /// The secret `name` (letters, digits, `-`), drawn when it is first asked for; the same for all nodes ever after.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] for another name, [`StoreError::Damaged`] if what is stored is none, and what the
    /// servers' failure means.
    pub async fn secret(&self, name: &str) -> Result<[u8; SECRET_BYTES]> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(StoreError::BadRequest("a secret's name holds letters, digits and - only"));
        }
        if let Some(secret) = self.stored_secret(name).await? {
            return Ok(secret);
        }
        let db = &self.shared.db;
        let drawn: [u8; SECRET_BYTES] = rand::random();
        // Whoever won, and whatever became of this: what is there now is the secret.
        let written = db.conditional(&[&db.statements.make_secret], ((name, drawn.as_slice()),)).await;
        match (self.stored_secret(name).await?, written) {
            (Some(secret), _) => Ok(secret),
            (None, Err(failure)) => Err(Failure::of_write(failure)),
            (None, Ok(_)) => Err(StoreError::Damaged(format!("secret {name} was stored and is not there"))),
        }
    }

    async fn stored_secret(&self, name: &str) -> Result<Option<[u8; SECRET_BYTES]>> {
        let db = &self.shared.db;
        let Some((value,)) = db.row::<(Option<Vec<u8>>,)>(&db.statements.secret, (name,)).await? else {
            return Ok(None);
        };
        let secret = value.and_then(|value| value.try_into().ok());
        secret.map(Some).ok_or_else(|| StoreError::Damaged(format!("secret {name} does not have {SECRET_BYTES} bytes")))
    }

    /// Asks the servers for something small at the consistency of all reads; how long that took.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with what they say: reads, and then surely appends, fail now.
    pub async fn health(&self) -> Result<Duration> {
        let asked = Instant::now();
        self.metas_of(&[ConvId::from_bits(0)]).await?;
        Ok(asked.elapsed())
    }
}
