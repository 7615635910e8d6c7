//! The API as a backend uses it.

use roost_link::proto::api::roost_client::RoostClient;
use roost_link::proto::api::{
    CreateConversationRequest, DisconnectRequest, GetConversationRequest, HistoryRequest, ListMembersRequest,
    PresenceRequest, PublishRequest, SendRequest, UpdateMembersRequest,
};
use roost_router::auth::Scope;
use roost_wire::{CloseCode, FrameBody, pb};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{RouterNode, channel, token, token_of, town, until};
use crate::raw::{Raw, text_of};

type Api<F> = RoostClient<InterceptedService<Channel, F>>;

async fn api(router: &RouterNode, token: &str) -> Api<impl FnMut(Request<()>) -> Result<Request<()>, Status> + use<>> {
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    RoostClient::with_interceptor(channel(router.addr).await, move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", bearer.clone());
        Ok(request)
    })
}

fn service() -> String {
    token_of("backend", Scope::Service)
}

fn body(text: &str) -> Option<pb::Body> {
    Some(pb::Body { text: text.into(), event: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_makes_conversations_sends_and_reads() {
    let town = town();
    let router = town.router();
    let edge = town.edge().await;
    let mut ada = Raw::enter(edge.addr, "u_ada").await;
    let mut bob = Raw::enter(edge.addr, "u_bob").await;
    let _carl = Raw::enter(edge.addr, "u_carl").await;
    let mut api = api(&router, &service()).await;

    let create = pb::Create {
        kind: pb::Kind::Group.into(),
        name: "Birds".into(),
        members: vec!["u_bob".into()],
        ..pb::Create::default()
    };
    let made = api.create_conversation(CreateConversationRequest { user: "u_ada".into(), create: Some(create) }).await;
    let made = made.unwrap().into_inner();
    assert_eq!((made.name.as_str(), made.members.len()), ("Birds", 2));

    let send = pb::Send { conv: made.conv.clone(), cmid: "m1".into(), body: body("hi"), ..pb::Send::default() };
    let request = SendRequest { user: "u_ada".into(), send: Some(send) };
    let sent = api.send(request.clone()).await.unwrap().into_inner();
    assert!(!sent.dup);
    let again = api.send(request).await.unwrap().into_inner();
    assert_eq!((again.seq, again.dup), (sent.seq, true), "repeated with the same cmid");
    for reader in [&mut ada, &mut bob] {
        let mut told = reader.push().await;
        while text_of(&told).is_none() {
            told = reader.push().await;
        }
        assert_eq!(text_of(&told), Some("hi"), "the user's own sessions see it too");
    }

    let members = pb::Members { conv: made.conv.clone(), add: vec!["u_carl".into()], ..pb::Members::default() };
    let grown = api.update_members(UpdateMembersRequest { user: "u_ada".into(), members: Some(members) }).await;
    assert_eq!(grown.unwrap().into_inner().members.len(), 3);
    let listed = api.list_members(ListMembersRequest { user: "u_bob".into(), conv: made.conv.clone() }).await.unwrap();
    let listed: Vec<String> = listed.into_inner().members.into_iter().map(|member| member.user).collect();
    assert_eq!(listed.len(), 3);
    let got = api.get_conversation(GetConversationRequest { user: "u_bob".into(), conv: made.conv.clone() }).await;
    assert!(got.unwrap().into_inner().head >= sent.seq);
    let history =
        pb::History { conv: made.conv.clone(), after: Some(sent.seq - 1), limit: 1, ..pb::History::default() };
    let page = api.history(HistoryRequest { user: "u_bob".into(), history: Some(history.clone()) }).await.unwrap();
    assert_eq!(page.into_inner().entries[0].cmid, "m1");
    let refused = api.history(HistoryRequest { user: "u_eve".into(), history: Some(history) }).await.unwrap_err();
    assert!(refused.metadata().get("roost-code").is_some(), "{refused:?}");
    assert!(matches!(refused.code(), Code::PermissionDenied | Code::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_publishes_looks_who_is_there_and_shows_people_out() {
    let town = town();
    let (one, _two) = (town.router(), town.router());
    let edge = town.edge().await;
    // Sessions are with both routers.
    let mut people = Vec::new();
    for n in 0..8 {
        let mut raw = Raw::enter(edge.addr, &format!("u_{n}")).await;
        raw.call(FrameBody::Subscribe(pb::Subscribe { channel: "news".into() })).await;
        people.push(raw);
    }
    let mut api = api(&one, &service()).await;
    let publish = pb::Publish { channel: "news".into(), body: body("extra"), ..pb::Publish::default() };
    let sent = api.publish(PublishRequest { publish: Some(publish) }).await.unwrap().into_inner();
    assert_eq!(sent.seq, 1);
    for raw in &mut people {
        let mut told = raw.push().await;
        while text_of(&told).is_none() {
            told = raw.push().await;
        }
        assert_eq!(text_of(&told), Some("extra"));
    }
    let users: Vec<String> = (0..9).map(|n| format!("u_{n}")).collect();
    let ids: Vec<_> = users.iter().map(|user| crate::harness::id(user)).collect();
    until("both routers know of all", || one.router.online(&ids[..8]).iter().all(|online| *online)).await;
    let seen = api.presence(PresenceRequest { users }).await.unwrap().into_inner().users;
    assert!(seen.iter().map(|user| user.online).eq((0..9).map(|n| n < 8)), "{seen:?}");
    for (n, raw) in people.iter_mut().enumerate() {
        api.disconnect(DisconnectRequest { user: format!("u_{n}") }).await.unwrap();
        assert_eq!(raw.closed().await, Some(CloseCode::Disconnected.number()), "u_{n}, whichever router has it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_service_token_is_let_in() {
    let town = town();
    let router = town.router();
    let _edge = town.edge().await;
    let request = || PresenceRequest { users: vec!["u_ada".into()] };
    for (name, token, code, roost) in [
        ("a user's", token("u_ada"), Code::PermissionDenied, "203"),
        ("nobody's", "x.y.z".to_owned(), Code::Unauthenticated, "200"),
    ] {
        let refused = api(&router, &token).await.presence(request()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{name}");
        assert_eq!(refused.metadata().get("roost-code").unwrap(), roost, "{name}");
    }
    let bare = RoostClient::new(channel(router.addr).await).presence(request()).await.unwrap_err();
    assert_eq!(bare.code(), Code::Unauthenticated);
    assert_eq!(router.metric("roost_link_calls_refused_total"), 3.0);
    let mut api = api(&router, &service()).await;
    let bad = [
        api.presence(PresenceRequest { users: vec!["no id".into()] }).await.unwrap_err(),
        api.presence(PresenceRequest { users: vec!["u_ada".into(); 513] }).await.unwrap_err(),
        api.publish(PublishRequest { publish: None }).await.unwrap_err(),
        api.send(SendRequest { user: String::new(), send: Some(pb::Send::default()) }).await.unwrap_err(),
    ];
    for status in bad {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.metadata().get("roost-code").unwrap(), "104");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_when_to_go_elsewhere() {
    let town = town();
    let router = town.router();
    let mut health = HealthClient::new(channel(router.addr).await);
    for service in ["", "roost.api.v1.Roost"] {
        let status = health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner().status();
        assert_eq!(status.as_str_name(), "SERVING", "{service:?}");
    }
    router.serving.as_ref().unwrap().not_ready().await;
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status.as_str_name(), "NOT_SERVING");
}
