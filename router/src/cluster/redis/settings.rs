//! Settings that all nodes share, and that may change while they run.
//!
//! The text is whatever those who follow it can read. It is checked before it is stored and again by each node before it
//! counts: one that cannot be used is refused, and what was used before goes on. Redis may forget it: a node that has a
//! version in use then puts it back.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use tokio::sync::watch;

use super::receive::NEWS_CONFIG;
use super::shared::Shared;

/// Most bytes of the text.
pub const SETTINGS_BYTES_MAX: usize = 64 * 1024;
/// News of a change may be lost: it is looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Key: the settings, `version text`. Arguments: the version that is expected (or nothing), the text. Answers with the new
/// version, or with minus the present one. Versions do not begin anew after a flush, as nodes may use higher ones: they
/// are not below Redis's clock in seconds.
const SET: &str = r"
local held = redis.call('GET', KEYS[1])
local version = held and tonumber(string.match(held, '^%d+')) or 0
if ARGV[1] ~= '' and tonumber(ARGV[1]) ~= version then return -version end
local next = math.max(version + 1, tonumber(redis.call('TIME')[1]))
redis.call('SET', KEYS[1], string.format('%.0f', next) .. ' ' .. ARGV[2])
return next";

/// Puts back what Redis forgot, unless it knows something newer. Key: the settings. Arguments: version, text.
const RESTORE: &str = r"
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.match(held, '^%d+')) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
return 1";

/// A version of the shared settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// It rises with every change.
    pub version: u64,
    /// What was set.
    pub text: String,
}

/// Why shared settings were not stored or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// More than [`SETTINGS_BYTES_MAX`].
    #[error("{0} B are more than {SETTINGS_BYTES_MAX}")]
    TooLarge(usize),
    /// Somebody else changed them.
    #[error("they are at version {0} now: read them again")]
    Changed(u64),
    /// Redis does not answer, or not as it should. They may be stored nevertheless.
    #[error("Redis: {0}")]
    Redis(String),
}

/// What a node made of the shared settings.
#[derive(Debug)]
pub struct Followed<T> {
    /// The version in use; 0: none is.
    pub version: u64,
    /// What is in use. `None`: nothing was set that could be used.
    pub value: Option<Arc<T>>,
    /// A newer version that cannot be used.
    pub refused: Option<Refused>,
}

/// A version that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub version: u64,
    /// Why.
    pub reason: String,
}

/// The shared settings.
#[derive(Clone)]
pub struct Settings {
    shared: Arc<Shared>,
}

impl Settings {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reads them. `None`: nothing was ever set.
    ///
    /// # Errors
    /// [`SettingsError::Redis`].
    pub async fn get(&self) -> Result<Option<Setting>, SettingsError> {
        let told: Option<String> = self.shared.commands.get(self.shared.names.config()).await.map_err(failed)?;
        Ok(told.as_deref().and_then(parse))
    }

    /// Stores `text`, if they are at version `expected` (0: nothing was set), or whatever they are at if that is `None`;
    /// returns the new version. Check the text first: nodes that cannot use it go on with what they have.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub async fn set(&self, text: &str, expected: Option<u64>) -> Result<u64, SettingsError> {
        if text.len() > SETTINGS_BYTES_MAX {
            return Err(SettingsError::TooLarge(text.len()));
        }
        let expected = expected.map(|version| version.to_string()).unwrap_or_default();
        let args = vec![expected, text.to_owned()];
        let version: i64 =
            self.shared.commands.eval(SET, vec![self.shared.names.config()], args).await.map_err(failed)?;
        if version <= 0 {
            return Err(SettingsError::Changed(version.unsigned_abs()));
        }
        self.shared.tell_news(NEWS_CONFIG).await;
        Ok(version.unsigned_abs())
    }

    /// Follows them for as long as what it returns is held: each new version is given to `check`, and counts if that
    /// returns a value; else its reason is logged, and the last good one goes on.
    #[must_use]
    pub fn follow<T, C>(&self, check: C) -> watch::Receiver<Arc<Followed<T>>>
    where
        T: Send + Sync + 'static,
        C: Fn(&str) -> Result<T, String> + Send + 'static,
    {
        let (told, followed) = watch::channel(Arc::new(Followed { version: 0, value: None, refused: None }));
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let settings = Self { shared };
            let mut used: Option<Setting> = None;
            loop {
                let news = settings.shared.settings_news.notified();
                tokio::pin!(news);
                // From here on no news is missed.
                news.as_mut().enable();
                match settings.get().await {
                    Ok(Some(read)) => settings.look(read, &mut used, &check, &told),
                    Ok(None) => settings.restore(used.as_ref()).await,
                    // It is looked for again.
                    Err(_) => {}
                }
                tokio::select! {
                    () = news => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = told.closed() => return,
                }
            }
        });
        followed
    }

    /// Makes something of what was read, if it is new.
    fn look<T>(
        &self,
        read: Setting,
        used: &mut Option<Setting>,
        check: &impl Fn(&str) -> Result<T, String>,
        told: &watch::Sender<Arc<Followed<T>>>,
    ) {
        let metrics = &self.shared.metrics;
        let version = read.version;
        metrics.config_version.set(version as usize);
        let known = told.borrow().refused.as_ref().is_some_and(|refused| refused.version == version);
        if used.as_ref() == Some(&read) || known {
            return;
        }
        let before = Arc::clone(&told.borrow());
        let followed = match check(&read.text) {
            Ok(value) => {
                tracing::info!(version, "shared settings are in use");
                *used = Some(read);
                Followed { version, value: Some(Arc::new(value)), refused: None }
            }
            Err(reason) => {
                metrics.config_refused.add(1);
                let in_use = before.version;
                tracing::error!(version, reason, in_use, "shared settings cannot be used: the last good ones go on");
                Followed { version: in_use, value: before.value.clone(), refused: Some(Refused { version, reason }) }
            }
        };
        told.send_replace(Arc::new(followed));
    }

    async fn restore(&self, used: Option<&Setting>) {
        let Some(Setting { version, text }) = used else { return };
        let keys = vec![self.shared.names.config()];
        let restored: Result<i64, Error> =
            self.shared.commands.eval(RESTORE, keys, vec![version.to_string(), text.clone()]).await;
        if matches!(restored, Ok(1)) {
            tracing::warn!(version, "Redis had forgotten the shared settings: they were put back");
        }
    }
}

fn parse(told: &str) -> Option<Setting> {
    let (version, text) = told.split_once(' ')?;
    Some(Setting { version: version.parse().ok()?, text: text.to_owned() })
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn failed(error: Error) -> SettingsError {
    SettingsError::Redis(error.details().to_owned())
}
