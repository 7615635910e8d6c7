//! The key that signs tokens: 32 random bytes in the data directory, made on the first start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use roost_router::auth::{Claims, Keys, Scope};
use roost_router::{Env, SystemEnv};
use roost_storage::EmbeddedStore;
use roost_storage::embedded::read_secret;
use roost_wire::UserId;

/// The key's file in a data directory.
/// Its name among the secrets of a data directory.
pub(crate) const NAME: &str = "token-key";

/// The key's file in a data directory.
pub(crate) fn path(data: &Path) -> PathBuf {
    EmbeddedStore::secret_path(data, NAME)
}

/// Reads the key of a server that was started before.
pub(crate) fn read(path: &Path) -> anyhow::Result<Keys> {
    let secret = read_secret(path).with_context(|| {
        let path = path.display();
        format!("cannot read the token key {path} (a server makes it on its first start; --data names its directory)")
    })?;
    Ok(Keys::new(&secret))
}

/// Reads the key from `file` if one is named, else that of the data directory.
pub(crate) fn find(file: Option<&Path>, data: &Path) -> anyhow::Result<Keys> {
    file.map_or_else(|| read(&path(data)), read)
}

/// Makes a token that is valid for `ttl` from now.
pub(crate) fn mint(keys: &Keys, user: UserId, name: &str, scope: Scope, ttl: Duration) -> anyhow::Result<String> {
    ensure!(ttl >= Duration::from_secs(1), "--ttl must be at least a second");
    Ok(keys.mint(&Claims::new(user, name, scope, SystemEnv.now_ms(), ttl.as_secs())))
}

/// The subject of a backend's token.
pub(crate) fn service() -> UserId {
    UserId::new("service").expect("it is an id")
}
