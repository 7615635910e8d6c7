//! Which shard a datagram belongs to.
//!
//! All shards have sockets at one port, and a client may change its address, so the connection id decides: its first eight
//! bytes, mixed with a key. Ids that we give are drawn until they come out at the shard that gives them; the first id of a
//! client is its own draw. The kernel runs the same mix for us where it can (classic BPF on the group of sockets), else a
//! shard hands on what is not its own.
//!
//! The key makes the mix of one process unlike that of another: a stranger cannot choose the shard it floods.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// Bytes of the ids that we give. Eight random ones: a billion connections with five each have one collision in a thousand
/// million draws.
pub(super) const CID_BYTES: usize = 8;

/// In a long header (RFC 9000 §17.2) the id stands behind flags, version and its own length; in a short one (§17.3) behind
/// the flags.
const LONG_AT: usize = 6;
const SHORT_AT: usize = 1;

/// The mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steer {
    keys: [u32; 2],
    shards: u16,
}

impl Steer {
    /// Among `shards`, with a key that begins with `seed`.
    pub(super) fn new(shards: u16, seed: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = seed;
        // Odd, so that multiplying loses nothing.
        Self {
            keys: [u32::from_be_bytes([a, b, c, d]) | 1, u32::from_be_bytes([e, f, g, h]) | 1],
            shards: shards.max(1),
        }
    }

    /// The shard of an id.
    fn shard_of(self, id: [u8; CID_BYTES]) -> u16 {
        let [a, b, c, d, e, f, g, h] = id;
        let (front, back) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let mixed = (front.wrapping_mul(self.keys[0]) ^ back).wrapping_mul(self.keys[1]) >> 16;
        (mixed % u32::from(self.shards)) as u16
    }

    /// The shard of a datagram. `None`: it is too short for any.
    pub(super) fn shard(self, datagram: &[u8]) -> Option<u16> {
        let at = if datagram.first()? & 0x80 == 0 { SHORT_AT } else { LONG_AT };
        Some(self.shard_of(*datagram.get(at..)?.first_chunk()?))
    }

    /// The same as a program of classic BPF that returns the number of the socket in its group (socket(7),
    /// `SO_ATTACH_REUSEPORT_CBPF`). It sees the datagram without its header; one that is too short ends it with 0.
    #[cfg(target_os = "linux")]
    fn program(self) -> [libc::sock_filter; 16] {
        const LOAD_BYTE: u16 = 0x30;
        const LOAD_WORD: u16 = 0x20;
        const STORE: u16 = 0x02;
        const LOAD_X: u16 = 0x61;
        const JUMP: u16 = 0x05;
        const JUMP_IF_SET: u16 = 0x45;
        const MULTIPLY: u16 = 0x24;
        const XOR_X: u16 = 0xac;
        const SHIFT_RIGHT: u16 = 0x74;
        const MODULO: u16 = 0x94;
        const RETURN: u16 = 0x16;
        let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
        let (short, long) = (SHORT_AT as u32, LONG_AT as u32);
        [
            step(LOAD_BYTE, 0),
            libc::sock_filter { code: JUMP_IF_SET, jt: 4, jf: 0, k: 0x80 },
            step(LOAD_WORD, short + 4),
            step(STORE, 0),
            step(LOAD_WORD, short),
            step(JUMP, 3),
            step(LOAD_WORD, long + 4),
            step(STORE, 0),
            step(LOAD_WORD, long),
            step(MULTIPLY, self.keys[0]),
            step(LOAD_X, 0),
            step(XOR_X, 0),
            step(MULTIPLY, self.keys[1]),
            step(SHIFT_RIGHT, 16),
            step(MODULO, u32::from(self.shards)),
            step(RETURN, 0),
        ]
    }

    /// Lets the kernel give each datagram to the socket of its shard: the sockets of the group count in the order in which
    /// they were bound. `socket` is any of them.
    ///
    /// # Errors
    /// The kernel does not allow it.
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "no crate has this option of sockets")]
    pub(super) fn attach(self, socket: &std::net::UdpSocket) -> std::io::Result<()> {
        use std::os::fd::AsRawFd;
        let mut program = self.program();
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the kernel reads `len` steps at `filter`, which live until the end of this call, and copies them; the size
        // is that of what the option takes, and the descriptor is open.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Elsewhere sockets are not steered.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn attach(self, _: &std::net::UdpSocket) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Draws the ids of one shard.
#[derive(Debug)]
pub(super) struct Ids {
    steer: Steer,
    shard: u16,
    random: StdRng,
}

impl Ids {
    pub(super) fn new(steer: Steer, shard: u16, seed: [u8; 32]) -> Self {
        Self { steer, shard, random: StdRng::from_seed(seed) }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        // As many draws as there are shards, on average.
        loop {
            let mut id = [0; CID_BYTES];
            self.random.fill_bytes(&mut id);
            if self.steer.shard_of(id) == self.shard {
                return ConnectionId::new(&id);
            }
        }
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        match <[u8; CID_BYTES]>::try_from(&cid[..]) {
            Ok(id) if self.steer.shard_of(id) == self.shard => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 8] = [0x9e, 0x37, 0x79, 0xb1, 0x85, 0xeb, 0xca, 0x77];

    /// A long or a short header with `id` in it.
    fn datagram(long: bool, id: &[u8]) -> Vec<u8> {
        let mut datagram = if long { vec![0xc0, 0, 0, 0, 1, 8] } else { vec![0x40] };
        datagram.extend_from_slice(id);
        datagram.extend_from_slice(b"and what follows");
        datagram
    }

    #[test]
    fn ids_lead_to_the_shard_that_gave_them_and_are_spread() {
        for shards in [1, 2, 4, 7] {
            let steer = Steer::new(shards, SEED);
            for shard in 0..shards {
                let mut ids = Ids::new(steer, shard, [shard as u8; 32]);
                for _ in 0..50 {
                    let id = ids.generate_cid();
                    assert!(ids.validate(&id).is_ok());
                    for long in [false, true] {
                        assert_eq!(steer.shard(&datagram(long, &id)), Some(shard));
                    }
                    let other = Ids::new(steer, (shard + 1) % shards, [0; 32]);
                    assert_eq!(other.validate(&id).is_ok(), shards == 1);
                }
            }
        }
        let mut random = StdRng::from_seed([1; 32]);
        let mut counts = [0_u32; 4];
        for _ in 0..4000 {
            let mut id = [0; 8];
            random.fill_bytes(&mut id);
            let shard = Steer::new(4, SEED).shard(&datagram(true, &id)).unwrap();
            counts[usize::from(shard)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_datagram_too_short_for_an_id_belongs_to_nobody() {
        let steer = Steer::new(4, SEED);
        for len in 0..14 {
            assert_eq!(steer.shard(&datagram(true, &[7; 8])[..len]), None, "{len} of a long header");
        }
        for len in 0..9 {
            assert_eq!(steer.shard(&datagram(false, &[7; 8])[..len]), None, "{len} of a short header");
        }
        assert!(Ids::new(steer, 0, [0; 32]).validate(&ConnectionId::new(&[1, 2, 3])).is_err());
    }

    /// Runs the program as the kernel would.
    #[cfg(target_os = "linux")]
    fn run(program: &[libc::sock_filter], datagram: &[u8]) -> u32 {
        let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; 16], 0);
        loop {
            let step = program[at];
            let k = step.k;
            at += 1;
            match step.code {
                0x30 => a = datagram.get(k as usize).map_or(0, |byte| (*byte).into()),
                0x20 => match datagram.get(k as usize..).and_then(<[u8]>::first_chunk) {
                    Some(word) => a = u32::from_be_bytes(*word),
                    None => return 0,
                },
                0x02 => memory[k as usize] = a,
                0x61 => x = memory[k as usize],
                0x05 => at += k as usize,
                0x45 => at += usize::from(if a & k == 0 { step.jf } else { step.jt }),
                0x24 => a = a.wrapping_mul(k),
                0xac => a ^= x,
                0x74 => a >>= k,
                0x94 => a %= k,
                0x16 => return a,
                code => panic!("step {code:#x}"),
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernels_program_comes_to_the_same_shard() {
        let mut random = StdRng::from_seed([2; 32]);
        for shards in [1, 2, 3, 16] {
            let mut seed = [0; 8];
            random.fill_bytes(&mut seed);
            let steer = Steer::new(shards, seed);
            for long in [false, true] {
                for _ in 0..200 {
                    let mut id = [0; 8];
                    random.fill_bytes(&mut id);
                    let datagram = datagram(long, &id);
                    assert_eq!(run(&steer.program(), &datagram), u32::from(steer.shard(&datagram).unwrap()));
                }
            }
        }
    }
}
