//! Keyspaces that are missing, older, newer, half made, or made by many at once; secrets.

use std::collections::HashSet;
use std::time::Duration;

use roost_storage::testkit::conformance::{append, conv, group};
use roost_storage::testkit::run;
use roost_storage::{CqlOpenError, CqlOptions, CqlStore, Store, StoreError};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use super::{server, two};

/// A connection of its own, past the store.
pub(super) async fn session(options: &CqlOptions) -> Session {
    SessionBuilder::new().known_nodes(&options.contact_points).build().await.unwrap()
}

async fn refusal(options: &CqlOptions) -> CqlOpenError {
    match CqlStore::connect(options.clone()).await {
        Ok(_) => panic!("{} was opened", options.keyspace),
        Err(error) => error,
    }
}

#[test]
fn a_missing_or_empty_keyspace_is_refused_with_the_command_that_makes_it() {
    run(async {
        let options = server().options();
        let error = refusal(&options).await;
        assert!(matches!(error, CqlOpenError::NoKeyspace { .. }), "{error:?}");
        assert!(error.to_string().contains("roost store migrate"), "{error}");
        let keyspace = &options.keyspace;
        let replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
        let make = format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}");
        session(&options).await.query_unpaged(make, ()).await.unwrap();
        let error = refusal(&options).await;
        assert!(matches!(error, CqlOpenError::SchemaOlder { found: 0, .. }), "{error:?}");
        assert!(error.to_string().contains("roost store migrate"), "{error}");
        let report = CqlStore::migrate(&options, &server().replication()).await.unwrap();
        assert_eq!((report.from, report.to, report.created_keyspace), (0, 1, false));
        CqlStore::connect(options).await.unwrap();
    });
}

#[test]
fn a_newer_schema_is_refused_by_who_would_use_and_who_would_migrate_it() {
    run(async {
        let options = server().options();
        server().open(&options).await;
        let newer = format!("INSERT INTO {}.schema_migrations (part, version) VALUES (0, 9)", options.keyspace);
        session(&options).await.query_unpaged(newer, ()).await.unwrap();
        let error = refusal(&options).await;
        let words = format!(
            "this binary knows version 1 of the schema, keyspace {} has 9: use a newer binary",
            options.keyspace
        );
        assert_eq!(error.to_string(), words);
        let error = CqlStore::migrate(&options, &server().replication()).await.unwrap_err();
        assert_eq!(error.to_string(), words);
    });
}

#[test]
fn four_nodes_that_migrate_at_once_do_it_once() {
    run(async {
        let options = server().options();
        let replication = server().replication();
        let race = || async {
            let report = CqlStore::migrate(&options, &replication).await.unwrap();
            CqlStore::connect(options.clone()).await.unwrap();
            report
        };
        let reports = tokio::join!(race(), race(), race(), race());
        let reports = [reports.0, reports.1, reports.2, reports.3];
        assert!(reports.iter().all(|report| report.to == 1));
        assert_eq!(reports.iter().filter(|report| report.from == 0).count(), 1, "{reports:?}");
        let again = CqlStore::migrate(&options, &replication).await.unwrap();
        assert_eq!((again.from, again.to, again.created_keyspace), (1, 1, false));
    });
}

#[test]
fn a_migration_that_died_halfway_is_done_by_the_next() {
    run(async {
        let options = CqlOptions { migration_lock: Duration::from_secs(2), ..server().options() };
        server().open(&options).await;
        let session = session(&options).await;
        // As after a death: some tables are there, no version is noted, and the lock is held by nobody who lives.
        let keyspace = &options.keyspace;
        for cql in [
            format!("DROP TABLE {keyspace}.users"),
            format!("DROP TABLE {keyspace}.secrets"),
            format!("TRUNCATE {keyspace}.schema_migrations"),
            format!("INSERT INTO {keyspace}.schema_lock (name, owner) VALUES ('migrate', 'dead') USING TTL 2"),
        ] {
            session.query_unpaged(cql, ()).await.unwrap();
        }
        let error = refusal(&options).await;
        assert!(matches!(error, CqlOpenError::SchemaOlder { found: 0, .. }), "{error:?}");
        let report = CqlStore::migrate(&options, &server().replication()).await.unwrap();
        assert_eq!((report.from, report.to), (0, 1));
        let store = CqlStore::connect(options).await.unwrap();
        store.create(group("c_1"), vec![]).await.unwrap();
        store.append(append("c_1", 1, "x")).await.unwrap();
        assert_eq!(store.metas(&[conv("c_1")]).await.unwrap()[0].as_ref().unwrap().head, 1);
    });
}

#[test]
fn settings_that_make_no_sense_and_servers_that_do_not_answer_are_named() {
    run(async {
        let bad = CqlOptions { keyspace: "Roost; DROP".to_owned(), ..server().options() };
        assert!(matches!(refusal(&bad).await, CqlOpenError::Setting(_)));
        let nobody = CqlOptions { contact_points: vec!["127.0.21.99:9".to_owned()], ..server().options() };
        let error = refusal(&nobody).await;
        assert!(matches!(error, CqlOpenError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("127.0.21.99:9"), "{error}");
    });
}

#[test]
fn a_secret_is_drawn_once_whoever_asks_first() {
    run(async {
        let (first, second) = two().await;
        let asks = |store: &CqlStore| {
            let store = store.clone();
            tokio::spawn(async move { store.secret("token-key").await.unwrap() })
        };
        let asked: Vec<_> = (0..8).map(|place| asks(if place % 2 == 0 { &first } else { &second })).collect();
        let mut secrets = HashSet::new();
        for asked in asked {
            secrets.insert(asked.await.unwrap());
        }
        assert_eq!(secrets.len(), 1);
        assert_ne!(secrets.into_iter().next(), Some([0; 32]));
        assert_ne!(first.secret("other").await.unwrap(), first.secret("token-key").await.unwrap());
        assert!(matches!(first.secret("../x").await, Err(StoreError::BadRequest(_))));
        assert!(first.health().await.unwrap() > Duration::ZERO);
    });
}
