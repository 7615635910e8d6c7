//! Groups: rules, events, promotion.

use roost_storage::testkit::Op;
use roost_wire::FrameBody;
use roost_wire::pb::{self, EventKind, Role};

use crate::harness::{Client, House, house};

fn members(conv: &str, add: &[&str], remove: &[&str], roles: &[(&str, Role)]) -> FrameBody {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let roles = roles
        .iter()
        .map(|(user, role)| pb::Member { user: (*user).into(), role: (*role).into(), ..pb::Member::default() })
        .collect();
    FrameBody::Members(pb::Members { conv: conv.into(), add: ids(add), remove: ids(remove), roles })
}

fn rename(conv: &str, name: &str) -> FrameBody {
    FrameBody::Update(pb::Update { conv: conv.into(), name: Some(name.into()), open: None })
}

/// A group with an owner, two admins and two members, one outsider.
async fn group() -> (House, Vec<Client>, String) {
    let house = house();
    let mut clients = Vec::new();
    for id in ["owner", "admin", "admin2", "member", "member2", "out"] {
        clients.push(house.enter(id).await);
    }
    let conv = house.group(&clients[0], &["admin", "admin2", "member", "member2"]).await;
    let roles = [("admin", Role::Admin), ("admin2", Role::Admin)];
    house.ask(&clients[0], members(&conv, &[], &[], &roles)).await.unwrap();
    house.settle().await;
    clients.iter().for_each(|client| drop(house.told(client)));
    (house, clients, conv)
}

fn roles_of(answer: FrameBody) -> Vec<(String, Role)> {
    let FrameBody::Conversation(conv) = answer else { panic!("{answer:?}") };
    conv.members.into_iter().map(|member| (member.user.clone(), member.role())).collect()
}

#[tokio::test(start_paused = true)]
async fn f08_the_table_of_roles_holds() {
    // What is asked, then what owner, admin, member and outsider get: 0 is success.
    type Case = (&'static str, fn(&str) -> FrameBody, [u32; 4]);
    let cases: [Case; 12] = [
        ("rename", |c| rename(c, "New"), [0, 0, 302, 301]),
        ("open", |c| FrameBody::Update(pb::Update { conv: c.into(), name: None, open: Some(true) }), [0, 0, 302, 301]),
        ("add", |c| members(c, &["out"], &[], &[]), [0, 0, 302, 301]),
        ("add nobody known", |c| members(c, &["nobody"], &[], &[]), [304, 304, 302, 301]),
        ("remove a member", |c| members(c, &[], &["member2"], &[]), [0, 0, 302, 301]),
        ("remove an admin", |c| members(c, &[], &["admin2"], &[]), [0, 302, 302, 301]),
        ("remove the owner", |c| members(c, &[], &["owner"], &[]), [104, 302, 302, 301]),
        ("make an admin", |c| members(c, &[], &[], &[("member2", Role::Admin)]), [0, 302, 302, 301]),
        ("give the group away", |c| members(c, &[], &[], &[("member2", Role::Owner)]), [0, 302, 302, 301]),
        ("demote oneself", |c| members(c, &[], &[], &[("owner", Role::Member)]), [104, 302, 302, 301]),
        ("leave", |c| FrameBody::Leave(pb::Leave { conv: c.into() }), [0, 0, 0, 301]),
        ("join what is closed", |c| FrameBody::Join(pb::Join { conv: c.into() }), [0, 0, 0, 203]),
    ];
    for (name, ask, want) in cases {
        for (asker, code) in [0, 1, 3, 5].into_iter().zip(want) {
            let (house, clients, conv) = group().await;
            let got = house.ask(&clients[asker], ask(&conv)).await.map_or_else(|error| error.code, |_| 0);
            assert_eq!(got, code, "{name} by {}", clients[asker].user);
            // Whatever was asked, there is one owner.
            let rows = house.store.inner();
            let all = roost_storage::Store::members(rows, &roost_wire::ConvId::new(&conv).unwrap()).await.unwrap();
            assert_eq!(all.iter().filter(|member| member.role == Role::Owner).count(), 1, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f08_giving_the_group_away_makes_the_old_owner_an_admin() {
    let (house, clients, conv) = group().await;
    let after = house.ask(&clients[0], members(&conv, &[], &[], &[("member", Role::Owner)])).await.unwrap();
    let roles = roles_of(after);
    assert!(roles.contains(&("member".into(), Role::Owner)) && roles.contains(&("owner".into(), Role::Admin)));
}

#[tokio::test(start_paused = true)]
async fn f08_when_the_owner_leaves_an_admin_is_promoted_then_a_member() {
    let (house, clients, conv) = group().await;
    let leave = || FrameBody::Leave(pb::Leave { conv: conv.clone() });
    let get = || FrameBody::Get(pb::Get { conv: conv.clone() });
    house.ask(&clients[0], leave()).await.unwrap();
    assert!(roles_of(house.ask(&clients[3], get()).await.unwrap()).contains(&("admin".into(), Role::Owner)));
    house.ask(&clients[1], leave()).await.unwrap();
    house.ask(&clients[2], leave()).await.unwrap();
    let roles = roles_of(house.ask(&clients[3], get()).await.unwrap());
    assert_eq!(roles, [("member".into(), Role::Owner), ("member2".into(), Role::Member)]);
    let entries = house.entries(&clients[4]);
    let kinds: Vec<_> = entries.iter().filter_map(|entry| Some(entry.body.as_ref()?.event.as_ref()?.kind())).collect();
    use EventKind::{Left, RoleChanged};
    assert_eq!(kinds, [Left, RoleChanged, Left, RoleChanged, Left, RoleChanged]);
    house.ask(&clients[3], leave()).await.unwrap();
    house.ask(&clients[4], leave()).await.unwrap();
    assert_eq!(house.refused(&clients[4], get()).await, 301);
}

#[tokio::test(start_paused = true)]
async fn f08_members_see_the_events_and_only_members() {
    let (house, clients, conv) = group().await;
    house.ask(&clients[1], members(&conv, &["out"], &["member2"], &[])).await.unwrap();
    house.settle().await;
    for (place, client) in clients.iter().enumerate() {
        let pushes = house.pushes(client);
        let kinds: Vec<_> = pushes
            .iter()
            .filter_map(|body| match body {
                FrameBody::Entry(entry) => Some(entry.body.as_ref()?.event.as_ref()?.kind()),
                _ => None,
            })
            .collect();
        let row = pushes.iter().find_map(|body| match body {
            FrameBody::Changed(changed) => Some(changed.rows[0].clone()),
            _ => None,
        });
        match place {
            4 => {
                assert!(kinds.is_empty(), "who was removed sees no entry");
                let row = row.expect("is told");
                assert!(row.left && row.last.is_none() && row.name.is_empty());
            }
            5 => {
                assert_eq!(kinds, [EventKind::Removed, EventKind::Added]);
                let row = row.expect("is told");
                assert_eq!((row.role(), row.head - row.unread, row.name.as_str()), (Role::Member, row.read, "Birds"));
            }
            _ => assert_eq!((kinds, row), (vec![EventKind::Removed, EventKind::Added], None)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f08_an_open_group_is_joined_and_left_in_the_order_of_commands() {
    let (house, clients, conv) = group().await;
    let open = pb::Update { conv: conv.clone(), name: None, open: Some(true) };
    house.ask(&clients[0], FrameBody::Update(open)).await.unwrap();
    let out = &clients[5];
    let send = |n: &str| FrameBody::Send(crate::harness::sending(&conv, n, "x"));
    let rids = [
        house.command(out, send("0")),
        house.command(out, FrameBody::Join(pb::Join { conv: conv.clone() })),
        house.command(out, send("1")),
        house.command(out, FrameBody::Leave(pb::Leave { conv: conv.clone() })),
        house.command(out, send("2")),
    ];
    let mut codes = Vec::new();
    for rid in rids {
        codes.push(house.reply(out, rid).await.map_or_else(|error| error.code, |_| 0));
    }
    assert_eq!(codes, [301, 0, 0, 0, 301]);
}

#[tokio::test(start_paused = true)]
async fn f08_a_repeated_command_changes_nothing_and_is_no_error() {
    let (house, clients, conv) = group().await;
    let appends = house.store.calls(Op::Append);
    house.ask(&clients[0], members(&conv, &["member"], &["out"], &[("admin", Role::Admin)])).await.unwrap();
    house.ask(&clients[0], rename(&conv, "Birds")).await.unwrap();
    house.ask(&clients[3], FrameBody::Join(pb::Join { conv: conv.clone() })).await.unwrap();
    assert_eq!(house.store.calls(Op::Append), appends);
}

#[tokio::test(start_paused = true)]
async fn f08_creating_a_group_tells_every_member_and_needs_known_users() {
    let house = house();
    let [ada, bob] = [house.enter("ada").await, house.enter("bob").await];
    let create = |kind: i32, name: &str, members: &[&str]| {
        let members = members.iter().map(|id| (*id).to_owned()).collect();
        FrameBody::Create(pb::Create { kind, name: name.into(), members, open: false })
    };
    for (name, body, code) in [
        ("nobody knows him", create(2, "", &["nobody"]), 304),
        ("nor for a direct one", create(1, "", &["nobody"]), 304),
        ("two others", create(1, "", &["ada", "bob"]), 104),
        ("no kind", create(0, "", &["bob"]), 104),
        ("a channel", create(3, "news", &[]), 305),
        ("a long name", create(2, &"x".repeat(129), &[]), 104),
        ("a name with a bell", create(2, "a\u{7}", &[]), 104),
    ] {
        assert_eq!(house.refused(&ada, body).await, code, "{name}");
    }
    let conv = house.group(&ada, &["bob", "bob", "ada"]).await;
    house.settle().await;
    let pushes = house.pushes(&bob);
    let [FrameBody::Changed(changed)] = pushes.as_slice() else { panic!("{pushes:?}") };
    assert_eq!((changed.rows[0].conv.as_str(), changed.rows[0].role()), (conv.as_str(), Role::Member));
    let Ok(FrameBody::Conversation(got)) = house.ask(&bob, FrameBody::Get(pb::Get { conv })).await else { panic!() };
    assert_eq!((got.members.len(), got.members[0].name.as_str()), (2, "ada"));
}
