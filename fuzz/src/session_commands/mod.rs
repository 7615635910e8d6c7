//! Anything that can happen to a shard, in any order: what peers send, what the router says, what the driver does, and
//! time.
//!
//! The input is a list of steps: a byte that chooses one, then what it needs; the top bit of that byte leaves the
//! effects for a later step, as a driver does that tells several things in a turn. Driver, router and peers are played
//! by the rules of `roost_edge_core::driver` and `roost_wire::link`, and they check what they see ([`world`],
//! [`peer`]); the shard checks its own invariants at each input. In the end everything is closed, and nothing is left.

mod peer;
mod world;

use arbitrary::{Result, Unstructured};

use world::World;

/// Steps of one input.
const STEPS_MAX: usize = 400;
/// From this tag on steps are those of sessions that are no WebSockets.
const NATIVE_TAGS: u8 = 112;

pub(crate) fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(reads_to_the_end) = input.arbitrary::<bool>() else { return };
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        let Ok(tag) = input.arbitrary::<u8>() else { break };
        if step(&mut world, tag & 0x7f, &mut input).is_err() {
            break;
        }
        if tag & 0x80 == 0 {
            world.obey_effects();
        }
        world.check_limits();
    }
    world.settle();
    world.close_all(reads_to_the_end);
}

/// Does one step. An error: the input is used up.
fn step(world: &mut World, tag: u8, input: &mut Unstructured<'_>) -> Result<()> {
    if tag >= NATIVE_TAGS {
        return native_step(world, tag, input);
    }
    match tag % 28 {
        0 => drop(world.open()),
        1 | 2 => {
            let offer = input.arbitrary::<u8>()?;
            if let Some(peer) = world.open() {
                world.obey_effects();
                world.upgrade(peer, offer);
                world.command(peer, 0, 1);
                world.obey_effects();
                world.accept(peer);
                world.turns();
            }
        }
        3 => {
            let (peer, offer) = (world.pick(input)?, input.arbitrary()?);
            world.upgrade(peer, offer);
        }
        4 => {
            let (peer, more) = (world.pick(input)?, input.arbitrary::<u8>()?);
            let mut request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
            request.resize(request.len() + 20 * usize::from(more), b'.');
            world.receive(peer, &request);
        }
        5 => {
            let (peer, bytes) = (world.pick(input)?, some_bytes(input)?);
            world.receive(peer, bytes);
        }
        6 => {
            let (peer, form, payload) = (world.pick(input)?, input.arbitrary()?, some_bytes(input)?);
            world.message(peer, form, payload);
        }
        7..=9 => {
            let (peer, which, rid) = (world.pick(input)?, input.arbitrary::<u8>()?, input.arbitrary::<u8>()?);
            world.command(peer, which, rid);
        }
        10 => {
            let (peer, opcode, payload) = (world.pick(input)?, input.arbitrary::<u8>()?, some_bytes(input)?);
            world.control(peer, opcode, payload);
        }
        11 => {
            let peer = world.pick(input)?;
            world.half_close(peer);
        }
        12 => {
            let peer = world.pick(input)?;
            world.broken(peer);
        }
        13 | 14 => {
            let (peer, max) = (world.pick(input)?, input.arbitrary::<u16>()?);
            world.write(peer, usize::from(max));
        }
        15 => {
            let peer = world.pick(input)?;
            world.accept(peer);
        }
        16 => {
            let peer = world.pick(input)?;
            world.refuse(peer);
        }
        17 => {
            let (peer, what) = (world.pick(input)?, input.arbitrary()?);
            world.reply(peer, what);
        }
        18 => {
            let (peer, ms) = (world.pick(input)?, input.arbitrary()?);
            world.extend(peer, ms);
        }
        19 => {
            let (peers, durable, bytes) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary::<u8>()?);
            world.deliver(peers, durable, 10 * usize::from(bytes));
        }
        20 => {
            let (topic, except, bytes) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary::<u8>()?);
            world.publish(topic, except, 10 * usize::from(bytes));
        }
        21 => {
            let (peer, topic) = (world.pick(input)?, input.arbitrary()?);
            world.join(peer, topic);
        }
        22 => {
            let (peer, topic) = (world.pick(input)?, input.arbitrary()?);
            world.leave(peer, topic);
        }
        23 => {
            let peer = world.pick(input)?;
            world.close(peer);
        }
        24 => {
            let (peer, what, count) = (world.pick(input)?, input.arbitrary()?, input.arbitrary::<u8>()?);
            world.http(peer, what, 10 * usize::from(count));
        }
        25 => {
            let span = u32::from(input.arbitrary::<u16>()?);
            world.pass(if span & 1 == 0 { span >> 8 } else { span });
        }
        26 => match input.arbitrary::<u8>()? {
            what @ 0..4 => world.walk(what, input.arbitrary()?),
            _ => world.turns(),
        },
        _ => world.turn(),
    }
    Ok(())
}

/// Does a step of sessions on a stream of QUIC.
fn native_step(world: &mut World, tag: u8, input: &mut Unstructured<'_>) -> Result<()> {
    match tag % 8 {
        0 => drop(world.open_native(input.arbitrary()?)),
        1 | 2 => {
            let datagrams = input.arbitrary()?;
            if let Some(peer) = world.open_native(datagrams) {
                world.obey_effects();
                world.command(peer, 0, 1);
                world.obey_effects();
                world.accept(peer);
                world.turns();
            }
        }
        3 | 4 => {
            let (peer, bytes) = (world.pick(input)?, some_bytes(input)?);
            world.datagram(peer, bytes);
        }
        5 => {
            let (peer, which, rid) = (world.pick(input)?, input.arbitrary()?, input.arbitrary()?);
            world.command_datagram(peer, which, rid);
        }
        6 => {
            let (peer, which, cut) = (world.pick(input)?, input.arbitrary()?, input.arbitrary()?);
            world.command_cut(peer, which, cut);
        }
        _ => world.refuse_datagrams(input.arbitrary()?),
    }
    Ok(())
}

/// A byte that tells how many follow, and those.
fn some_bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let count = input.arbitrary::<u8>()?;
    input.bytes(usize::from(count).min(input.len()))
}
