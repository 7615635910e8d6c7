//! `roost store migrate` and `roost store key`: a keyspace that nodes share.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use roost_storage::cql::{CqlStore, Replication};

use super::key;
use crate::config::StoreAt;
use crate::lifecycle::client_runtime;

/// Makes the keyspace and its tables, or brings them to what this binary needs.
pub(super) fn migrate(at: &StoreAt, replication: u8, datacenter: Option<String>) -> anyhow::Result<()> {
    let StoreAt::Cql(at) = at else {
        bail!("an embedded store is brought up to date when it is opened: nothing to do")
    };
    let replication = Replication { factor: replication, datacenter };
    let report = client_runtime()?.block_on(CqlStore::migrate(&at.options(), &replication))?;
    println!("{report}");
    Ok(())
}

/// Writes the key that signs tokens, of a store that nodes share, to a file that only its owner can read. Made if there
/// is none yet.
pub(super) fn write_key(at: &StoreAt, path: &Path) -> anyhow::Result<()> {
    let StoreAt::Cql(at) = at else { bail!("the key of an embedded store is a file in its data directory (--data)") };
    let secret = client_runtime()?.block_on(async {
        let store = CqlStore::connect(at.options()).await?;
        anyhow::Ok(store.secret(key::NAME).await?)
    })?;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot make {} (it must not exist)", path.display()))?;
    // As a data directory has it.
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{hex}").with_context(|| format!("cannot write {}", path.display()))
}
