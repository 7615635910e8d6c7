//! What idle sessions cost in the shard and the router: live bytes on the heap, as the allocator of the node hands
//! them out. The budget is a table in ARCHITECTURE.md.
//!
//! One test in a process of its own, so that nothing else is counted.
#![allow(unsafe_code, reason = "an allocator can be written in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use roost_benches::node::Node;

/// Bytes an idle session may cost in user space without its socket: shard, timer, route.
const IDLE_BYTES_MAX: isize = 256;
/// With a display name and one subscription.
const SUBSCRIBED_BYTES_MAX: isize = 345;
/// An unoptimised build would take minutes for all of them; the tables are as full with a quarter.
const SESSIONS: u32 = if cfg!(debug_assertions) { 25_000 } else { 100_000 };

/// The system's allocator, counting what lives, rounded up as mimalloc does: eight sizes of a word each, then four to
/// a doubling.
struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to `System` as it came; counting touches no memory but the counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(rounded(layout.size()) as isize, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(rounded(layout.size()) as isize, Relaxed);
        // SAFETY: as above; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

fn rounded(bytes: usize) -> usize {
    let step = if bytes <= 64 { 8 } else { bytes.next_power_of_two() / 8 };
    bytes.next_multiple_of(step)
}

/// Bytes per session of [`SESSIONS`], each of a user of its own with a device, presence and a route.
fn bytes_per_session(name: &str, channel: Option<&str>) -> isize {
    let mut node = Node::new();
    let before = LIVE_BYTES.load(Relaxed);
    for number in 0..SESSIONS {
        let mut hellos = Node::hellos(node.token(number, name));
        let session = node.enter(&mut hellos);
        if let Some(channel) = channel {
            node.subscribe(session, channel);
        }
    }
    assert_eq!(node.sessions(), SESSIONS as usize);
    assert_eq!(node.subscriptions(), u64::from(SESSIONS) * u64::from(channel.is_some() as u8));
    let bytes = (LIVE_BYTES.load(Relaxed) - before) / SESSIONS as isize;
    println!("{SESSIONS} sessions, name of {} B, subscribed to {channel:?}: {bytes} B each", name.len());
    bytes
}

#[test]
fn a_session_keeps_to_its_budget() {
    for (name, channel, most) in [("", None, IDLE_BYTES_MAX), ("Ada Lovelace", Some("news"), SUBSCRIBED_BYTES_MAX)] {
        let bytes = bytes_per_session(name, channel);
        assert!(bytes <= most, "{bytes} B per session, {most} are allowed (name: {name:?}, channel: {channel:?})");
    }
}
