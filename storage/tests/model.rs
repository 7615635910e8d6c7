//! Any sequence of operations gives the same answers on the embedded store, reopened in between, as on the model.

mod steps;

use proptest::prelude::*;
use roost_storage::testkit::conformance::{append, conv, entry, group, user};
use roost_storage::testkit::run;
use roost_storage::{
    Append, ConvMeta, EmbeddedOptions, EmbeddedStore, IndexUpdate, Mark, Member, MemberChange, MemoryStore, Range,
    Store, User,
};

use steps::{Step, id, step, who};

/// The answer of a store to a step, in words, so that answers of all kinds can be compared.
async fn answer<S: Store>(store: &S, step: &Step) -> String {
    match step.clone() {
        Step::Create { conv: place, members } => {
            let members = members.into_iter().map(|(place, role)| Member { user: user(&who(place)), role }).collect();
            let meta = ConvMeta { name: format!("name {place}"), ..group(&id(place)) };
            format!("{:?}", store.create(meta, members).await)
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
            format!(
                "{:?}",
                store.append(Append { entries, index, members, name, open, ..append(&id(place), expected, "") }).await
            )
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
            format!("{:?}", store.index(&user(&who(place)), since.into(), limit).await)
        }
        Step::Search { prefix, limit } => format!("{:?}", store.search(&prefix, limit).await),
        Step::Reopen => String::new(),
    }
}

/// Everything that can be read, in words.
async fn everything<S: Store>(store: &S) -> Vec<String> {
    let (convs, users): (Vec<_>, Vec<_>) =
        ((0..4).map(|c| conv(&id(c))).collect(), (0..4).map(|u| user(&who(u))).collect());
    let mut all = vec![
        format!("{:?}", store.metas(&convs).await),
        format!("{:?}", store.last_entries(&convs).await),
        format!("{:?}", store.users(&users).await),
        format!("{:?}", store.search("", 100).await),
    ];
    for conv in &convs {
        all.push(format!("{:?}", store.range(conv, Range::After(0), 1000).await));
        all.push(format!("{:?}", store.members(conv).await));
        all.push(format!("{:?}", store.rows(conv, &users).await));
    }
    for user in &users {
        all.push(format!("{:?} {:?}", store.index(user, 0, 100).await, store.last_change(user).await));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_answers_as_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let options =
            EmbeddedOptions { disk_reserve_bytes: 0, marks_wait_ms: 0, rows_cached_max: 4, metas_cached_max: 2, ..EmbeddedOptions::default() };
        let model = MemoryStore::default();
        let mut embedded = Some(EmbeddedStore::open(dir.path(), &options).unwrap());
        run(async {
            for (place, step) in steps.iter().enumerate() {
                if let Step::Reopen = step {
                    drop(embedded.take());
                    embedded = Some(EmbeddedStore::open(dir.path(), &options).unwrap());
                }
                let store = embedded.as_ref().unwrap();
                prop_assert_eq!(answer(store, step).await, answer(&model, step).await, "step {}: {:?}", place, step);
            }
            prop_assert_eq!(everything(embedded.as_ref().unwrap()).await, everything(&model).await);
            Ok(())
        })?;
    }
}
