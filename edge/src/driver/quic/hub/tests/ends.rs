//! How connections end.

use super::*;

#[test]
fn all_that_was_written_arrives_before_the_code() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    let much = vec![7; 40_000];
    assert_eq!(world.hub.write(key, &queue(&[&much]), world.now).unwrap(), much.len());
    world.hub.close(key, CloseCode::Replaced, world.now);
    assert_eq!(world.hub.closing(), 1);
    assert_eq!((world.hub.attached(), world.hub.write(key, &queue(&[b"late"]), world.now).unwrap()), (0, 0));
    let mut got = Vec::new();
    world.until(&mut client, "the code", |_, client| {
        got.extend(client.read());
        client.lost.is_some()
    });
    assert_eq!((got.len(), client.code()), (much.len(), Some(4503)));
    assert!(world.told.ended.is_empty(), "who was let go has no end to tell");
}

#[test]
fn a_peer_that_takes_nothing_is_told_the_code_after_a_moment() {
    let mut world = World::new();
    let (mut client, key) = world.session(1);
    world.hub.write(key, &queue(&[b"last words"]), world.now).unwrap();
    client.deaf = true;
    world.hub.close(key, CloseCode::SlowConsumer, world.now);
    for _ in 0..30 {
        world.step(&mut client);
    }
    client.deaf = false;
    world.until(&mut client, "the code", |_, client| client.lost.is_some());
    assert_eq!(client.code(), Some(4010));
}

#[test]
fn nothing_is_left_of_connections_that_ended() {
    let mut world = World::new();
    for number in 0..5 {
        let (mut client, key) = world.session(number);
        match number {
            0 => client.quic.close(world.now, VarInt::from_u32(1000), Bytes::new()),
            1 => client.quic.close(world.now, VarInt::from_u32(7), Bytes::new()),
            2 => world.hub.close(key, CloseCode::Drain, world.now),
            3 => client.deaf = true, // and says nothing any more
            _ => _ = client.quic.send_stream(Client::lane()).reset(VarInt::from_u32(1)),
        }
        if number == 3 {
            world.now += Duration::from_secs(3600);
            world.serve();
        }
        world.settle(&mut client);
    }
    world.now += Duration::from_secs(3600);
    world.serve();
    let counted = world.counted();
    assert_eq!((counted.opened, counted.closed, world.hub.held(), world.hub.attached()), (5, 5, 0, 0));
    assert_eq!(world.hub.closing(), 0);
    assert_eq!(world.told.ended, [End::Eof, End::Eof, End::Error, End::Error]);
    assert!(!world.hub.is_busy() && world.hub.next_deadline().is_none_or(|due| due > world.now));
}

#[test]
fn a_handle_used_again_is_not_taken_for_the_old_connection() {
    let mut world = World::new();
    let mut first = world.client(1);
    world.until(&mut first, "the handshake", |_, client| !client.quic.is_handshaking());
    first.open();
    world.until(&mut first, "the stream", |world, _| !world.told.arrivals.is_empty());
    let stale = world.told.arrivals.pop().unwrap();
    first.quic.close(world.now, VarInt::from_u32(1000), Bytes::new());
    world.settle(&mut first);
    world.now += Duration::from_secs(10);
    world.serve();
    assert_eq!(world.hub.held(), 0);
    let (mut second, key) = world.session(2);
    assert!(world.hub.attach(SessionKey::new(0, 9, 0), &stale).is_err());
    world.hub.refuse(&stale, world.now);
    second.write(b"still here");
    world.until(&mut second, "its bytes", |world, _| world.told.received == b"still here");
    assert_eq!(world.hub.keys(), [key]);
}
