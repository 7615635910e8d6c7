//! CONNECT, guests, tokens, devices.

use roost_router::RouterConfig;
use roost_router::auth::{Claims, Keys, Scope};
use roost_storage::testkit::Op;
use roost_wire::link::Up;
use roost_wire::{CloseCode, FrameBody, pb};

use crate::harness::{Got, SECRET, house, house_with, user};

fn guest(name: &str) -> pb::Connect {
    pb::Connect { guest: name.into(), device: "phone".into(), ..pb::Connect::default() }
}

#[tokio::test(start_paused = true)]
async fn f06_a_guest_is_a_new_user_each_time_and_only_the_token_gives_access() {
    let house = house();
    let first = house.connect_with(guest(" Ada ")).await;
    let second = house.connect_with(guest("Ada")).await;
    assert_eq!((first.welcome.name.as_str(), first.welcome.fresh), ("Ada", false));
    assert_ne!(first.user, second.user);
    let conv = house.direct(&first, second.user.as_str()).await;
    house.send(&first, &conv, "1", "mine").await;
    let third = house.connect_with(guest("Ada")).await;
    let history = FrameBody::History(pb::History { conv: conv.clone(), ..pb::History::default() });
    assert_eq!(house.refused(&third, history).await, 301);
    assert!(house.sync(&third, "", 0).await.rows.is_empty());
    let token = first.welcome.token.clone();
    let back = house.connect_with(pb::Connect { token, device: "laptop".into(), ..pb::Connect::default() }).await;
    assert_eq!(back.user, first.user);
    assert_eq!(house.page(&back, &conv).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f06_bad_names_are_refused_and_guests_can_be_switched_off() {
    let shut = house_with(RouterConfig { guests: false, ..RouterConfig::default() });
    let (_, got) = shut.knock(guest("Ada")).await;
    assert!(matches!(got, Got::Refused(error, CloseCode::Unauthenticated) if error.code == 202));
    assert_eq!(shut.router.guest("Ada").await.unwrap_err().code, 202);
    let open = house();
    for name in ["  ", "a\nb", "\u{7f}", &"x".repeat(129)] {
        assert_eq!(open.router.guest(name).await.unwrap_err().code, 104, "{name:?}");
        let (_, got) = open.knock(guest(name)).await;
        assert!(matches!(got, Got::Refused(error, close) if error.code == 104 && close.number() >= 4500), "{name:?}");
    }
    assert_eq!(open.router.guest(&"ä".repeat(64)).await.unwrap().name.len(), 128);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_bad_token_is_refused_with_the_close_that_fits() {
    let house = house();
    let expired = Keys::new(&SECRET).mint(&Claims::new(user("ada"), "", Scope::User, 1_000_000, 1));
    let foreign = Keys::new(&[8; 32]).mint(&Claims::new(user("ada"), "", Scope::User, house.env_now(), 100));
    for (token, code, want) in [
        (expired, 201, CloseCode::TokenExpired),
        (foreign, 200, CloseCode::Unauthenticated),
        ("x".repeat(5000), 200, CloseCode::Unauthenticated),
        (String::new(), 200, CloseCode::Unauthenticated),
        (house.token("robot", "", Scope::Service), 203, CloseCode::Forbidden),
    ] {
        let (_, got) = house.knock(pb::Connect { token, ..pb::Connect::default() }).await;
        let Got::Refused(error, close) = got else { panic!("{got:?}") };
        assert_eq!((error.code, close), (code, want));
    }
    let session = house.next_key();
    let bearer = Some(house.token("ada", "", Scope::User).into());
    let connect = pb::Connect { device: "d".repeat(64), ..pb::Connect::default() };
    house.router.submit(&mut vec![Up::Connect { session, rid: 1, connect, bearer, peer: ([127, 0, 0, 1], 1).into() }]);
    house.wait(|edge| matches!(edge.told.get(&session)?.first()?, Got::Accepted(_)).then_some(())).await;
    let connect =
        pb::Connect { token: house.token("ada", "", Scope::User), device: "d".repeat(65), ..pb::Connect::default() };
    assert!(matches!(house.knock(connect).await.1, Got::Refused(error, _) if error.code == 104));
}

#[tokio::test(start_paused = true)]
async fn f07_a_newer_connection_of_the_same_device_replaces_the_older_only() {
    let house = house();
    let old = house.enter_on("ada", "phone", "").await;
    let laptop = house.enter_on("ada", "laptop", "").await;
    let new = house.enter_on("ada", "phone", "").await;
    assert!(matches!(house.told(&old).last(), Some(Got::Close(CloseCode::Replaced))));
    // The edge tells of the end of the older one late.
    house.leave(&old);
    let bob = house.enter("bob").await;
    let conv = house.direct(&bob, "ada").await;
    house.settle().await;
    house.told(&laptop);
    house.told(&new);
    house.send(&bob, &conv, "1", "hi").await;
    assert_eq!((house.entries(&laptop).len(), house.entries(&new).len(), house.entries(&old).len()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn f07_connections_without_a_device_are_devices_of_their_own() {
    let house = house();
    let [a, b] = [house.enter_on("ada", "", "").await, house.enter_on("ada", "", "").await];
    assert_ne!(a.welcome.device, b.welcome.device);
    assert!(house.told(&a).iter().all(|got| !matches!(got, Got::Close(_))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_token_costs_no_access_to_the_store() {
    let house = house();
    let ada = house.enter("ada").await;
    house.leave(&ada);
    house.settle().await;
    for op in [Op::PutUsers, Op::Index, Op::LastChange, Op::Metas, Op::Members] {
        assert_eq!(house.store.calls(op), 0, "{op:?}");
    }
    // Her name is kept until somebody may see it.
    let ada = house.connect_with(pb::Connect { token: house.token("ada", "Ada", Scope::User), ..guest("") }).await;
    let bob = house.enter("bob").await;
    let made = house.create(&bob, pb::Create { kind: 1, members: vec!["ada".into()], ..pb::Create::default() }).await;
    assert_eq!(made.members[0].name, "Ada");
    let Ok(FrameBody::Users(found)) =
        house.ask(&ada, FrameBody::Search(pb::Search { prefix: "AD".into(), limit: 0 })).await
    else {
        panic!()
    };
    assert_eq!(found.users.iter().map(|user| user.user.as_str()).collect::<Vec<_>>(), ["ada"]);
    assert_eq!(house.refused(&ada, FrameBody::Search(pb::Search::default())).await, 104);
}

#[tokio::test(start_paused = true)]
async fn a_refreshed_token_extends_the_session_of_its_user_only() {
    let house = house();
    let ada = house.enter("ada").await;
    let fresh = house.router.refresh(&ada.welcome.token).await.unwrap();
    let refresh = |token: String| FrameBody::Refresh(pb::Refresh { token });
    house.ask(&ada, refresh(fresh.token)).await.unwrap();
    assert!(house.told(&ada).iter().any(|got| matches!(got, Got::Extend(until) if *until == fresh.expires_ms)));
    let others = house.token("bob", "", Scope::User);
    assert_eq!(house.refused(&ada, refresh(others)).await, 203);
    assert_eq!(house.refused(&ada, refresh("x".into())).await, 200);
    let service = house.token("robot", "", Scope::Service);
    assert_eq!(house.router.refresh(&service).await.unwrap_err().code, 203);
}
