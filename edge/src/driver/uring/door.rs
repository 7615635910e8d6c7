//! The way in that all shards share: one listener, one gate, and who has how many.
//!
//! Each shard accepts for itself. The kernel hands connections to whoever waits, so a shard that has clearly more than the
//! emptiest one stops waiting until others have caught up; the emptiest one never stops.
//!
//! One listener and not one a shard (SO_REUSEPORT): connections that wait at a shard which does not accept would be
//! nobody's.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use roost_edge_core::driver::Wake;

use crate::Permit;
use crate::accept::Control;
use crate::address::Gate;

/// What counts as having no room, where connections are counted.
const NO_ROOM: u32 = u32::MAX;

/// What the shards share.
pub(crate) struct Door {
    pub(crate) control: Arc<Control>,
    gate: Mutex<Gate>,
    shards: Box<[Row]>,
    /// How many shards hold back.
    holding: AtomicU32,
}

struct Row {
    /// Connections it has, or [`NO_ROOM`].
    held: AtomicU32,
    holds_back: AtomicBool,
    waker: Arc<dyn Wake>,
}

/// One shard's part of a [`Door`]. Dropping the last one closes the listener.
pub(crate) struct Entrance {
    pub(crate) door: Arc<Door>,
    pub(super) listener: Arc<TcpListener>,
    pub(super) shard: usize,
}

impl Door {
    /// A door for as many shards as there are wakers, and each shard's part of it. `control` wakes them all.
    pub(crate) fn open(
        listener: TcpListener,
        gate: Gate,
        control: Arc<Control>,
        wakers: impl IntoIterator<Item = Arc<dyn Wake>>,
    ) -> Vec<Entrance> {
        let row = |waker| Row { held: AtomicU32::new(0), holds_back: AtomicBool::new(false), waker };
        let shards: Box<[Row]> = wakers.into_iter().map(row).collect();
        let count = shards.len();
        let door = Arc::new(Self { control, gate: Mutex::new(gate), shards, holding: AtomicU32::new(0) });
        let listener = Arc::new(listener);
        (0..count).map(|shard| Entrance { door: door.clone(), listener: listener.clone(), shard }).collect()
    }

    /// A connection from `ip`. `None`: too many from there are open.
    pub(super) fn admit(&self, ip: IpAddr) -> Option<Permit> {
        self.gate.lock().admit(ip)
    }
}

impl Entrance {
    pub(super) fn is_closed(&self) -> bool {
        self.door.control.stopped()
    }

    /// Tells how many connections this shard has (`None`: no room for more), and wakes those that waited for it to catch
    /// up. Returns how many more it may wait for at once, of `window` at most: 0 if it has `ahead` more than another one.
    pub(super) fn share(&self, held: Option<u32>, ahead: u32, window: u32) -> u32 {
        let Door { shards, holding, .. } = &*self.door;
        let mine = held.unwrap_or(NO_ROOM);
        let own = &shards[self.shard];
        own.held.store(mine, Ordering::Relaxed);
        let emptiest = shards.iter().map(|row| row.held.load(Ordering::Relaxed)).min().unwrap_or(mine);
        let holds_back = mine > emptiest.saturating_add(ahead);
        if holds_back != own.holds_back.load(Ordering::Relaxed) {
            own.holds_back.store(holds_back, Ordering::SeqCst);
            if holds_back {
                holding.fetch_add(1, Ordering::SeqCst)
            } else {
                holding.fetch_sub(1, Ordering::SeqCst)
            };
        }
        if holding.load(Ordering::SeqCst) > 0 && !holds_back {
            for row in shards {
                // It looks again by itself, and is not told twice as it says that it waits no more.
                if row.holds_back.load(Ordering::SeqCst) && row.held.load(Ordering::Relaxed) <= mine {
                    row.waker.wake();
                }
            }
        }
        if holds_back { 0 } else { window }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_shard_with_clearly_more_waits_until_it_is_caught_up_with() {
        let bells = [(); 3].map(|()| Arc::new(Bell::default()));
        let wakers = bells.clone().map(|bell| bell as Arc<dyn Wake>);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let control = Arc::new(Control::new(wakers.to_vec()));
        let shards = Door::open(listener, Gate::new(0, Vec::new(), usize::MAX), control, wakers);
        let woken = || bells.each_ref().map(|bell| bell.0.swap(0, Ordering::Relaxed));
        // Who has a little more accepts on.
        assert_eq!(shards[0].share(Some(10), 10, 64), 64);
        assert_eq!(shards[0].share(Some(11), 10, 64), 0, "the others have none");
        assert_eq!((shards[1].share(Some(5), 10, 64), woken()), (64, [0; 3]));
        // The emptiest one never stops, and tells whom it has caught up with.
        assert_eq!((shards[2].share(Some(11), 10, 64), woken()), (64, [1, 0, 0]));
        assert_eq!((shards[0].share(Some(11), 10, 64), shards[2].share(Some(12), 10, 64), woken()), (64, 64, [0; 3]));
        // One without room is nobody to wait for, but leaves those who come to the others.
        assert_eq!((shards[1].share(None, 10, 64), shards[0].share(Some(22), 10, 64)), (0, 64));
        // Where nobody has room all accept, to say so.
        assert_eq!((shards[0].share(None, 10, 64), shards[2].share(None, 10, 64)), (0, 64));
        assert_eq!((shards[0].share(None, 10, 64), shards[1].share(None, 10, 64)), (64, 64));
    }
}
