//! Strangers and clients that have the right keys, around a shard of QUIC that carries two sessions meanwhile.
//!
//! The input is a list of steps: datagrams of strangers; handshakes, of which some go on; packets whose content is exchanged
//! before they are sealed; datagrams that are changed, cut, joined, replayed from anywhere, lost; time. Whatever happens, the
//! two sessions go on and are told what their clients said, no address is sent more than three times what came from it
//! before it is known to be somebody's, and what is kept of others is limited and goes ([`world`]).

mod client;
mod seeds;
mod world;

use arbitrary::{Result, Unstructured};

pub(crate) use seeds::seeds;
use world::World;

/// Steps of one input. Handshakes are dear.
const STEPS_MAX: usize = 60;

pub(crate) fn run(input: &[u8]) {
    if let Some(world) = played(input) {
        world.end();
    }
}

/// What is there when all steps of an input are done.
fn played(input: &[u8]) -> Option<World> {
    let mut input = Unstructured::new(input);
    let mut world = World::new(input.arbitrary().ok()?);
    for _ in 0..STEPS_MAX {
        let Ok(tag) = input.arbitrary::<u8>() else { break };
        if step(&mut world, tag, &mut input).is_err() {
            break;
        }
        world.check();
    }
    Some(world)
}

/// Does one step. An error: the input is used up.
fn step(world: &mut World, tag: u8, input: &mut Unstructured<'_>) -> Result<()> {
    match tag % 23 {
        0 => {
            let (from, bytes) = (input.arbitrary()?, some_bytes(input)?);
            world.stranger(from, bytes);
        }
        1 => {
            let (from, first, form, bytes) =
                (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?, some_bytes(input)?);
            world.stranger_long(from, first, form, bytes);
        }
        2 | 3 => {
            let form = input.arbitrary()?;
            world.rogue(form);
        }
        4..=6 => {
            let (who, form, header, frames) =
                (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?, some_bytes(input)?);
            world.forge(who, form, header, frames);
        }
        7 => world.exchange_rogue(input.arbitrary()?),
        8 => {
            let (who, what, much) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
            world.act(who, what, much);
        }
        9 | 10 => {
            let (who, from, at, bits) =
                (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
            world.spoil(who, from, at, bits);
        }
        11 => {
            let (who, from, at) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
            world.cut(who, from, at);
        }
        12 => {
            let (which, from) = (input.arbitrary()?, input.arbitrary()?);
            world.replay(which, from);
        }
        13 => world.lose(input.arbitrary()?),
        14 => world.pass(input.arbitrary()?),
        15 => {
            let (which, bytes) = (input.arbitrary()?, input.arbitrary()?);
            world.talk(which, bytes);
        }
        16 => {
            let (which, bytes) = (input.arbitrary()?, input.arbitrary()?);
            world.answer(which, bytes);
        }
        17 => {
            let (who, what) = (input.arbitrary()?, input.arbitrary()?);
            world.decide(who, what);
        }
        18 => {
            let (which, told) = (input.arbitrary()?, input.arbitrary()?);
            world.moved(which, told);
        }
        19 => {
            let (who, times) = (input.arbitrary()?, input.arbitrary()?);
            world.roam(who, times);
        }
        20 | 21 => {
            let (who, where_to, bytes) = (input.arbitrary()?, input.arbitrary()?, some_bytes(input)?);
            world.say(who, where_to, bytes);
        }
        _ => {
            let (from, at) = (input.arbitrary()?, input.arbitrary()?);
            world.join(from, at);
        }
    }
    Ok(())
}

/// A byte that tells how many follow, and those.
fn some_bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let count = input.arbitrary::<u8>()?;
    input.bytes(usize::from(count).min(input.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rogues_get_as_far_as_sessions_of_either_kind() {
        for (name, input) in [("roost/1", vec![1, 2, 8]), ("h3", seeds::session())] {
            assert!(played(&input).is_some_and(|world| world.rogue_has_session()), "{name}");
        }
    }
}
