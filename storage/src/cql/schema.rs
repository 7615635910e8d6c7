//! The tables, by version of the schema. What stands here was applied somewhere and never changes: a new version is
//! added below.
//!
//! Every statement may be run again. Nothing that only one of Cassandra and ScyllaDB has: no counters, no views, no
//! secondary indexes, no settings of compaction; see `docs/adr/0019-the-log-in-cql.md`.

/// Why a table looks as it does stands in the ADR.
const V1: &[&str] = &[
    // One partition per conversation and bucket of seqs. The static columns `head`, `stamp`, `effects`, `kind` and
    // `created` are written by conditional batches only, `done`, `restamp`, `name`, `open` and `tail` by plain upserts
    // only: cells of the two kinds have timestamps that must not meet.
    "CREATE TABLE IF NOT EXISTS @log (
        conv text, bucket bigint, seq bigint,
        head bigint static, stamp bigint static, effects blob static, kind tinyint static, created bigint static,
        done bigint static, restamp bigint static, name text static, open boolean static, tail bigint static,
        ts bigint, sender text, cmid text, body blob, append_id bigint,
        PRIMARY KEY ((conv, bucket), seq))",
    // Role 0: has left. Nothing is deleted, so that an upsert that comes late cannot bring it back.
    "CREATE TABLE IF NOT EXISTS @members (conv text, user text, role tinyint, PRIMARY KEY (conv, user))",
    "CREATE TABLE IF NOT EXISTS @index_rows (
        user text, conv text, head bigint, head_at bigint, read bigint, read_at bigint, delivered bigint,
        role tinyint, role_at bigint,
        PRIMARY KEY (user, conv))",
    "CREATE TABLE IF NOT EXISTS @users (user text PRIMARY KEY, name text, created bigint, seen bigint)",
    "CREATE TABLE IF NOT EXISTS @names (bucket text, folded text, user text, PRIMARY KEY (bucket, folded, user))",
    "CREATE TABLE IF NOT EXISTS @name_buckets (first text, bucket text, PRIMARY KEY (first, bucket))",
    "CREATE TABLE IF NOT EXISTS @secrets (name text PRIMARY KEY, value blob)",
];

/// Statements of each version; `@` stands for the keyspace. The first is version 1.
pub(super) const VERSIONS: &[&[&str]] = &[V1];

/// The version that this build reads and writes.
pub const SCHEMA_VERSION: u32 = VERSIONS.len() as u32;

/// What migrations themselves need.
pub(super) const BOOKS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS @schema_migrations (part int, version int, applied timestamp, PRIMARY KEY (part, version))",
    "CREATE TABLE IF NOT EXISTS @schema_lock (name text PRIMARY KEY, owner text)",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_may_be_run_again() {
        for statement in VERSIONS.iter().copied().flatten().chain(BOOKS) {
            assert!(statement.contains("IF NOT EXISTS"), "{statement}");
        }
    }
}
