//! The key that signs tokens: 32 random bytes in the data directory, made on the first start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use roost_router::auth::{Claims, Keys, Scope};

/// The key's file in a data directory.
/// Its name in a data directory.
pub(crate) const FILE: &str = "token.key";

pub(crate) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Reads the key of a server that was started before.
pub(crate) fn read(path: &Path) -> anyhow::Result<Keys> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("cannot read the token key {} (a server makes it on its first start; --data names its directory)", path.display())
    })?;
    let key: [u8; 32] = bytes.as_slice().try_into().ok().with_context(|| format!("{} is no token key: it has {} bytes, not 32", path.display(), bytes.len()))?;
    Ok(Keys::new(&key))
}

/// Makes a token that is valid for `ttl` from now.
pub(crate) fn mint(keys: &Keys, user: &str, name: &str, scope: Scope, ttl: Duration) -> anyhow::Result<String> {
    ensure!(!ttl.is_zero(), "--ttl must be longer than nothing");
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    Ok(keys.mint(&Claims::new(user, name, scope, now_s, ttl)))
}
