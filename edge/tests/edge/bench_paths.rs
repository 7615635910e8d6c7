//! The paths for benchmarks, with an independent client.

use roost_edge::EdgeConfig;
use tokio_tungstenite::tungstenite::{self, Error, Message};

use crate::support::{config, serve};

#[test]
fn what_is_said_on_broadcast_reaches_the_sessions_of_every_shard() {
    let config = config();
    let shard = roost_edge::ShardConfig { bench_paths: true, ..config.shard.clone() };
    let server = serve(EdgeConfig { shard, ..config });
    let url = format!("ws://{}/broadcast", server.addr);
    let mut everybody: Vec<_> = (0..8).map(|_| tungstenite::connect(&url).expect("let in").0).collect();
    server.until("all in", |metrics| metrics.total.topics_joined == 8);
    assert!(server.handle().metrics().shards.iter().all(|(shard, _)| shard.topics_joined > 0), "on both shards");
    let said = [Message::text("hello"), Message::binary(vec![0xff; 3000])];
    for message in &said {
        everybody[0].send(message.clone()).expect("sent");
    }
    for who in &mut everybody {
        for message in &said {
            assert_eq!(&who.read().expect("heard"), message);
        }
    }
}

#[test]
fn without_the_setting_the_paths_are_not_there() {
    let server = serve(config());
    for path in ["echo", "broadcast"] {
        let refused = tungstenite::connect(format!("ws://{}/{path}", server.addr));
        assert!(matches!(refused, Err(Error::Http(_) | Error::Protocol(_))), "{refused:?}");
    }
}
