//! The tokio driver against a small server on real sockets.

mod server;

use std::time::Duration;

use roost_client::{
    Client, Config, ConnectError, EndReason, Event, Events, FileOutbox, RequestError, Resume, SendError, Transport,
};
use roost_wire::{ConvId, Encoding, UserId, pb};
use server::{Behaviour, TestServer};

fn conv() -> ConvId {
    ConvId::new("c_1").expect("an id")
}

/// Short delays; nothing depends on their length.
fn quick() -> Config {
    Config {
        backoff_base: Duration::from_millis(20),
        gap_grace: Duration::from_millis(5),
        marks_after: Duration::from_millis(5),
        ..Config::default()
    }
}

async fn client(server: &TestServer) -> (Client, Events) {
    Client::builder(&server.url()).guest("Ada").config(quick()).connect().await.expect("connects")
}

/// The next event that `wanted` takes.
async fn until<T>(events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.recv().await.expect("the client has not ended");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), search).await.expect("it happens")
}

async fn texts(events: &mut Events, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        texts
            .push(until(events, |event| if let Event::Entry(entry) = event { Some(text(&entry)) } else { None }).await);
    }
    texts
}

fn text(entry: &pb::Entry) -> String {
    entry.body.as_ref().map(|body| body.text.clone()).unwrap_or_default()
}

#[tokio::test]
async fn f38_both_encodings_send_and_receive_in_order() {
    for encoding in Encoding::ALL {
        let server = TestServer::start(Behaviour::default()).await;
        let builder = Client::builder(&server.url()).guest("Ada").config(quick()).encoding(encoding);
        let (client, mut events) = builder.connect().await.expect("connects");
        assert_eq!(client.me().map(|(user, name)| (user.to_string(), name)), Some(("u_ada".into(), "Ada".into())));
        let sends: Vec<_> = (1..=20).map(|number| client.send(&conv(), format!("text {number}"))).collect();
        for (send, seq) in sends.into_iter().zip(1..) {
            assert_eq!(send.await.map(|sent| sent.seq), Ok(seq));
        }
        let want: Vec<String> = (1..=20).map(|number| format!("text {number}")).collect();
        assert_eq!(texts(&mut events, 20).await, want);
        let page = client.history_after(&conv(), 18, 10).await.expect("a page");
        assert_eq!(page.entries.iter().map(text).collect::<Vec<_>>(), want[18..]);
    }
}

#[tokio::test]
async fn f38_after_a_cut_the_client_reconnects_resends_and_misses_nothing() {
    // The connection breaks after the third SEND was stored and before it was answered.
    let server = TestServer::start(Behaviour { cut_after_sends: Some(3), ..Behaviour::default() }).await;
    let (client, mut events) = client(&server).await;
    let sends: Vec<_> = (1..=6).map(|number| client.send(&conv(), format!("text {number}"))).collect();
    let mut dups = 0;
    for (send, seq) in sends.into_iter().zip(1..) {
        let sent = send.await.expect("sent");
        assert_eq!(sent.seq, seq);
        dups += u32::from(sent.dup);
    }
    assert_eq!(dups, 1, "the third was found by its cmid");
    let want: Vec<String> = (1..=6).map(|number| format!("text {number}")).collect();
    assert_eq!(texts(&mut events, 6).await, want);
    assert_eq!(server.texts("c_1"), want, "each once");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn f38_what_was_missed_while_away_is_fetched() {
    let server = TestServer::start(Behaviour::default()).await;
    let (client, mut events) = client(&server).await;
    client.send(&conv(), "first").await.expect("sent");
    server.cut();
    for number in 1..=5 {
        server.write("c_1", &format!("missed {number}"));
    }
    let mut seen = texts(&mut events, 6).await;
    server.write("c_1", "live");
    seen.extend(texts(&mut events, 1).await);
    assert_eq!(seen, ["first", "missed 1", "missed 2", "missed 3", "missed 4", "missed 5", "live"]);
    // What the app has taken is acknowledged, and only that.
    while server.delivered("c_1") < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.delivered("c_1"), 6, "the last one was given out, and not yet dealt with");
}

#[tokio::test]
async fn f38_a_half_open_connection_is_noticed_and_replaced() {
    // The first connection swallows everything after WELCOME.
    let server = TestServer::start(Behaviour { first_is_deaf: true, ..Behaviour::default() }).await;
    let config = Config { answer_within: Duration::from_millis(300), ..quick() };
    let (client, mut events) =
        Client::builder(&server.url()).guest("Ada").config(config).connect().await.expect("connects");
    assert_eq!(client.send(&conv(), "hello").await.map(|sent| sent.seq), Ok(1));
    assert_eq!(texts(&mut events, 1).await, ["hello"]);
    assert!(server.connections() >= 2);
}

#[tokio::test]
async fn f38_a_refused_token_stops_the_client() {
    let server = TestServer::start(Behaviour { refuse: Some(200), ..Behaviour::default() }).await;
    let error = Client::builder(&server.url()).token("bad").config(quick()).connect().await.err();
    assert!(matches!(error, Some(ConnectError::Ended(EndReason::Refused(error))) if error.code == 200));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.connections(), 1, "it does not try again");
}

#[tokio::test]
async fn f38_close_codes_are_obeyed() {
    for (code, stays) in [(4000, true), (4010, true), (1011, true), (4503, false), (1002, false)] {
        let server = TestServer::start(Behaviour::default()).await;
        let (client, mut events) = client(&server).await;
        server.close(code);
        let told = until(&mut events, |event| match event {
            Event::Disconnected { code, retry_in, .. } => Some((code, retry_in.is_some())),
            _ => None,
        });
        assert_eq!(told.await, (Some(code), stays), "{code}");
        if stays {
            until(&mut events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
        } else {
            let reason = until(&mut events, |event| if let Event::Ended(reason) = event { Some(reason) } else { None });
            assert!(matches!(reason.await, EndReason::Code { code: told, .. } if told == code), "{code}");
            assert_eq!(client.send(&conv(), "x").await, Err(SendError::Ended));
            assert_eq!(client.get(&conv()).await, Err(RequestError::Ended));
        }
    }
}

#[tokio::test]
async fn f38_goaway_moves_the_client_without_a_gap() {
    let (old, new) = (TestServer::start(Behaviour::default()).await, TestServer::start(Behaviour::default()).await);
    new.share(&old);
    let (client, mut events) = client(&old).await;
    client.send(&conv(), "before").await.expect("sent");
    old.goaway(&[new.url()]);
    while new.connections() == 0 || old.open() > 0 {
        client.send(&conv(), "during").await.expect("sent");
    }
    client.send(&conv(), "after").await.expect("sent");
    let stored = old.texts("c_1");
    assert_eq!(texts(&mut events, stored.len()).await, stored);
    client.close();
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn f38_a_later_client_goes_on_where_an_earlier_one_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("outbox");
    let server = TestServer::start(Behaviour::default()).await;
    let outbox = || FileOutbox::open(&path).expect("opens");
    let builder = Client::builder(&server.url()).guest("Ada").config(quick()).outbox(outbox());
    let (client, mut events) = builder.connect().await.expect("connects");
    client.send(&conv(), "one").await.expect("sent");
    assert_eq!(texts(&mut events, 1).await, ["one"]);
    server.hold_sends(true);
    let unanswered = client.send(&conv(), "two");
    while server.texts("c_1").len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Asking for the next event says that "one" is dealt with.
    let _ = tokio::time::timeout(Duration::from_millis(20), events.recv()).await;
    let resume = client.resume().await.expect("lives");
    client.close();
    assert_eq!(unanswered.await, Err(SendError::Ended));
    while events.recv().await.is_some() {}
    server.hold_sends(false);
    server.write("c_1", "three");

    let resume: Resume = serde_json::from_str(&serde_json::to_string(&resume).expect("writes")).expect("reads");
    let builder = Client::builder(&server.url()).resume(resume).config(quick()).outbox(outbox());
    let (client, mut events) = builder.connect().await.expect("connects");
    assert_eq!(texts(&mut events, 2).await, ["two", "three"]);
    assert_eq!(server.texts("c_1"), ["one", "two", "three"], "the unanswered one was stored once");
    assert_eq!(client.send(&conv(), "four").await.map(|sent| sent.seq), Ok(4));
}

#[tokio::test]
async fn requests_without_an_answer_end() {
    let server = TestServer::start(Behaviour::default()).await;
    let config = Config { request_within: Duration::from_millis(50), ..quick() };
    let (client, _events) =
        Client::builder(&server.url()).guest("Ada").config(config).connect().await.expect("connects");
    let error = client.search("Bob", 1).await.expect_err("the test server does not answer SEARCH");
    assert_eq!(error, RequestError::Timeout(Duration::from_millis(50)));
    let bob = UserId::new("u_bob").expect("an id");
    assert!(client.create_direct(&bob).await.is_ok(), "other requests go on");
}

#[tokio::test]
async fn starting_without_a_server_or_with_a_wrong_address_says_why() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let url = format!("http://{nobody}");
    let error = Client::builder(&url).guest("Ada").connect().await.err().expect("refused");
    assert!(matches!(&error, ConnectError::Failed { url: told, .. } if *told == url), "{error}");
    let error = Client::builder("ftp://chat.example").guest("Ada").start().err().expect("refused");
    assert!(error.to_string().contains("https://"), "{error}");
    let error = Client::builder(&url).transport(Transport::Quic).guest("Ada").start().err().expect("refused");
    assert_eq!(error, ConnectError::NoQuic);
    assert!(matches!(Client::builder(&url).start().err(), Some(ConnectError::Identity)));
}
