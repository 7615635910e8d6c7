//! Any sequence of operations gives the same answers in CQL, with a store that is opened anew in between, as in the model.
//!
//! The two give other stamps: what is compared is their order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{
    Append, Appended, ConvMeta, CqlOptions, CqlStore, IndexRow, IndexUpdate, Mark, Member, MemberChange, MemoryStore,
    Range, Stamp, Store, User,
};
use roost_wire::ConvId;

use super::server;
use crate::steps::{Step, id, step, who};

/// The answer to a step, in words without stamps.
async fn answer<S: Store>(store: &S, step: &Step) -> String {
    match step.clone() {
        Step::Create { conv: place, members } => {
            let members = members.into_iter().map(|(place, role)| Member { user: user(&who(place)), role }).collect();
            let meta = ConvMeta { name: format!("name {place}"), ..group(&id(place)) };
            let made = store.create(meta, members).await;
            format!("{:?}", made.map(|(meta, made)| (ConvMeta { changed: 0, ..meta }, made)))
        }
        Step::Append { conv: place, off, entries, index, members, name } => {
            let head = store.metas(&[conv(&id(place))]).await.unwrap()[0].as_ref().map_or(0, |meta| meta.head);
            let expected = (head + 1).saturating_add_signed(off.into());
            let entries = (0..u64::from(entries)).map(|step| entry(expected + step, "u_ada", "text")).collect();
            let up = |(place, head, read): (u8, u8, Option<u8>)| IndexUpdate {
                user: user(&who(place)),
                head: Some(head.into()),
                read: read.map(u64::from),
            };
            let index = index.into_iter().map(up).collect();
            let change = |(place, role): (u8, _)| MemberChange { user: user(&who(place)), role };
            let members = members.into_iter().map(change).collect();
            let open = name.as_ref().map(String::is_empty);
            let whole = Append { entries, index, members, name, open, ..append(&id(place), expected, "") };
            match store.append(whole).await {
                Ok(Appended::Stored { .. }) => "stored".to_owned(),
                other => format!("{other:?}"),
            }
        }
        Step::Mark { conv: place, user: reader, delivered, read } => {
            let (delivered, read) = (delivered.map(u64::from), read.map(u64::from));
            let mark = Mark { user: user(&who(reader)), conv: conv(&id(place)), delivered, read };
            format!("{:?}", store.mark(vec![mark]).await)
        }
        Step::Users(users) => {
            let user =
                |(place, name, last_seen_ms)| User { user: user(&who(place)), name, created_ms: 1, last_seen_ms };
            format!("{:?}", store.put_users(users.into_iter().map(user).collect()).await)
        }
        Step::Range { conv: place, after, seq, limit } => {
            let range = if after { Range::After(seq.into()) } else { Range::Before(seq.into()) };
            format!("{:?}", store.range(&conv(&id(place)), range, limit).await)
        }
        Step::Index { user: place, since, limit } => {
            // From a row that is there, as the stamps themselves differ.
            let all = store.index(&user(&who(place)), 0, usize::MAX).await.unwrap().rows;
            let since = all.iter().cycle().nth(since.into()).map_or(0, |row| row.changed);
            let page = store.index(&user(&who(place)), since, limit).await.unwrap();
            format!("{:?} {}", rows(&page.rows), page.more)
        }
        Step::Search { prefix, limit } => format!("{:?}", store.search(&prefix, limit).await),
        Step::Reopen => String::new(),
    }
}

fn rows(rows: &[IndexRow]) -> Vec<IndexRow> {
    rows.iter().map(|row| IndexRow { changed: 0, ..row.clone() }).collect()
}

/// Everything that can be read, in words; stamps as their places in the order of all.
async fn everything<S: Store>(store: &S) -> Vec<String> {
    let convs: Vec<ConvId> = (0..4).map(|place| conv(&id(place))).collect();
    let users: Vec<_> = (0..4).map(|place| user(&who(place))).collect();
    let metas = store.metas(&convs).await.unwrap();
    let mut indexes = Vec::new();
    for user in &users {
        indexes.push((store.index(user, 0, 100).await.unwrap().rows, store.last_change(user).await.unwrap()));
    }
    let mut stamps: BTreeSet<Stamp> = metas.iter().flatten().map(|meta| meta.changed).collect();
    stamps.extend(indexes.iter().flat_map(|(rows, _)| rows).map(|row| row.changed));
    let places: BTreeMap<Stamp, u64> = stamps.into_iter().zip(1..).chain([(0, 0)]).collect();
    let mut all = Vec::new();
    for meta in metas {
        all.push(format!("{:?}", meta.map(|meta| ConvMeta { changed: places[&meta.changed], ..meta })));
    }
    for (rows, last) in indexes {
        let row = |row: IndexRow| IndexRow { changed: places[&row.changed], ..row };
        all.push(format!("{:?} {}", rows.into_iter().map(row).collect::<Vec<_>>(), places[&last]));
    }
    for conv in &convs {
        all.push(format!("{:?}", store.range(conv, Range::After(0), 1000).await));
        all.push(format!("{:?}", store.members(conv).await));
        all.push(format!(
            "{:?}",
            rows(&store.rows(conv, &users).await.unwrap().into_iter().flatten().collect::<Vec<_>>())
        ));
    }
    all.push(format!("{:?}", store.last_entries(&convs).await));
    all.push(format!("{:?} {:?}", store.users(&users).await, store.search("", 100).await));
    all
}

#[test]
fn the_store_in_cql_answers_as_the_model_does() {
    let config = Config { cases: 6, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let steps = prop::collection::vec(step(), 10..60);
    TestRunner::new(config)
        .run(&steps, |steps| {
            run(async {
                // As a ring in one data centre is used.
                let datacenter = Some("datacenter1".to_owned());
                let options = CqlOptions { local: true, datacenter, compression: true, ..server().options() };
                let model = MemoryStore::default();
                let mut store = server().open(&options).await;
                for (place, step) in steps.iter().enumerate() {
                    if let Step::Reopen = step {
                        // A store that finds nothing noted applies effects again, with new stamps.
                        store.flush().await;
                        store = CqlStore::connect(options.clone()).await.unwrap();
                    }
                    prop_assert_eq!(
                        answer(&store, step).await,
                        answer(&model, step).await,
                        "step {}: {:?}",
                        place,
                        step
                    );
                }
                prop_assert_eq!(everything(&store).await, everything(&model).await);
                Ok(())
            })
        })
        .unwrap();
}
