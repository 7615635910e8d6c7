//! What an idle session costs in the router: live bytes on the heap, counted by the allocator.
//!
//! One test in a process of its own, so that nothing else is counted.
#![allow(unsafe_code, reason = "an allocator can be written in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use roost_router::auth::{Claims, Keys, Scope};
use roost_router::{Downstream, Env, Router, RouterConfig, SystemEnv};
use roost_storage::MemoryStore;
use roost_wire::link::{Down, SessionKey, Up};
use roost_wire::{UserId, pb};

/// Bytes a session with a token and no sync token may cost, with everything the tables reserve.
const SESSION_BYTES_MAX: isize = 125;
const SHARDS: u16 = 4;

/// The system's allocator, counting what lives.
struct Counting;

static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to `System` as it came; counting touches no memory but the counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as above; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// An edge that forgets at once.
struct Nowhere;

impl Downstream for Nowhere {
    fn shards(&self) -> u16 {
        SHARDS
    }

    fn post(&self, _shard: u16, batch: &mut Vec<Down>) {
        batch.clear();
    }
}

fn live_bytes() -> isize {
    LIVE_BYTES.load(Relaxed)
}

/// Bytes per session of `sessions` idle ones, each of a user of its own that the store does not know.
fn bytes_per_session(sessions: u32, name: &str) -> isize {
    let before = live_bytes();
    let router = Router::new(
        RouterConfig::default(),
        Keys::new(&[1; 32]),
        Arc::new(MemoryStore::default()),
        Arc::new(Nowhere),
        SystemEnv,
    );
    let empty = live_bytes();
    let key = |n: u32| SessionKey::new((n % u32::from(SHARDS)) as u16, n, 0);
    let user = |n: u32| UserId::from_bits(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    for n in 0..sessions {
        let token = router.keys().mint(&Claims::new(user(n), name, Scope::User, SystemEnv.now_ms(), 3600));
        let connect = pb::Connect { token, device: "phone".into(), ..pb::Connect::default() };
        router.submit(&mut vec![Up::Connect {
            session: key(n),
            rid: 1,
            connect,
            bearer: None,
            peer: ([127, 0, 0, 1], 1).into(),
        }]);
    }
    assert_eq!(router.metrics().get("roost_router_sessions"), Some(sessions.into()));
    let full = live_bytes();
    let bytes = (full - empty) / sessions as isize;
    println!("{sessions} sessions, name of {} B: {bytes} B each; router without any: {} B", name.len(), empty - before);
    bytes
}

#[tokio::test]
async fn an_idle_session_stays_small() {
    let name = "Somebody with a name";
    for (sessions, name) in [(1_000, ""), (1_000, name), (10_000, ""), (10_000, name), (50_000, name)] {
        let bytes = bytes_per_session(sessions, name);
        assert!(bytes <= SESSION_BYTES_MAX, "{bytes} B per session with {sessions} sessions");
    }
}
