//! The rings of a shard: one, or as many as the tables need that its connections live in.
//!
//! With one ring the shard sleeps in it. With several it sleeps on a bell that all of them ring, and looks at each
//! afterwards; while it is awake they do not ring. A tick enters all of them, whatever the bell says.
//!
//! Invariants:
//! - `used` counts the places of a ring that hold a file, from the completion of the accept to that of the close, and
//!   `accepts` the accepts under way in it: together never more than `places`, so no accept finds the table full.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use roost_uring::{Bell, Completion, Ring, files};

use super::place::Place;
use super::token::Token;

/// Entries that fit into a ring before they are submitted, and completions before the kernel has to keep them elsewhere.
const SIZES: (u32, u32) = (512, 8192);
/// The same for the second ring and those after it: many of them share the work, and all count as locked memory.
const MORE_SIZES: (u32, u32) = (256, 4096);
/// How often all rings are entered, if there are several.
const TICK: Duration = Duration::from_secs(1);

/// The rings, and how full they are.
pub(super) struct Rings {
    rings: Vec<Row>,
    /// Numbers of rings with entries that may wait, each once.
    dirty: Vec<u16>,
    /// Once there are several.
    bell: Option<Bell>,
    tick_at: Instant,
    /// Places that all tables may have together.
    places_max: u32,
    /// The same of one.
    places_per_ring_max: u32,
    places: u32,
    used: u32,
    accepts: u32,
    /// The ring that gets new connections.
    filling: u16,
    /// Where completions are looked for next.
    pop_at: usize,
}

struct Row {
    ring: Ring<Token>,
    dirty: bool,
    places: u32,
    used: u32,
    accepts: u32,
}

impl Row {
    const fn spare(&self) -> u32 {
        self.places - self.used - self.accepts
    }
}

impl Rings {
    /// One ring; more are made when they are needed, for up to `places_max` places, `places_per_ring_max` in each.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub(super) fn new(places_max: u32, places_per_ring_max: u32) -> io::Result<Self> {
        let mut rings = Self {
            rings: Vec::new(),
            dirty: Vec::new(),
            bell: None,
            tick_at: Instant::now() + TICK,
            places_max,
            places_per_ring_max,
            places: 0,
            used: 0,
            accepts: 0,
            filling: 0,
            pop_at: 0,
        };
        rings.open(SIZES)?;
        Ok(rings)
    }

    /// Another ring, if there may be one. False: there may not.
    ///
    /// # Errors
    /// As [`Ring::new`].
    fn open(&mut self, (entries, completions): (u32, u32)) -> io::Result<bool> {
        let wanted = (self.places_max - self.places.min(self.places_max)).min(self.places_per_ring_max);
        if wanted == 0 || self.rings.len() >= Place::RINGS_MAX {
            return Ok(false);
        }
        let places = files::places(wanted);
        let ring = Ring::new(entries, completions)?;
        ring.register_files(places)?;
        // Nothing that is asked of it needs one, but for SHUTDOWN where there is no other way.
        let _ = ring.limit_workers(1);
        if let Some(first) = self.rings.first_mut() {
            if self.bell.is_none() {
                let bell = Bell::new()?;
                first.ring.register_bell(&bell)?;
                first.ring.mute(true);
                self.bell = Some(bell);
            }
            if let Some(bell) = &self.bell {
                ring.register_bell(bell)?;
            }
        }
        self.push(ring, places);
        Ok(true)
    }

    fn push(&mut self, mut ring: Ring<Token>, places: u32) {
        ring.mute(self.bell.is_some());
        self.rings.push(Row { ring, dirty: false, places, used: 0, accepts: 0 });
        self.places += places;
    }

    /// The ring with that number, to put an entry in.
    pub(super) fn get(&mut self, number: u16) -> &mut Ring<Token> {
        let row = &mut self.rings[usize::from(number)];
        if !row.dirty {
            row.dirty = true;
            self.dirty.push(number);
        }
        &mut row.ring
    }

    pub(super) fn len(&self) -> usize {
        self.rings.len()
    }

    pub(super) fn overflows(&self) -> u64 {
        self.rings.iter().map(|row| row.ring.overflows()).sum()
    }

    /// Places that hold a file.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// Places that are free and that no accept will take.
    pub(super) const fn spare(&self) -> u32 {
        self.places - self.used - self.accepts
    }

    /// Whether more than `reserve` places are free, or a new ring brings some.
    ///
    /// # Errors
    /// There may be another ring, and the system refused it.
    pub(super) fn has_room(&mut self, reserve: u32) -> io::Result<bool> {
        Ok(self.spare() > reserve || self.open(MORE_SIZES)?)
    }

    /// Whether at most `few` places are free, and no further ring may bring some.
    pub(super) fn is_short(&self, few: u32) -> bool {
        self.spare() <= few && (self.places >= self.places_max || self.rings.len() >= Place::RINGS_MAX)
    }

    /// A ring with a free place; `None`: there is none.
    fn roomy(&mut self) -> Option<u16> {
        if self.rings[usize::from(self.filling)].spare() == 0 {
            let (number, row) = (0_u16..).zip(&self.rings).max_by_key(|(_, row)| row.spare())?;
            if row.spare() == 0 {
                return None;
            }
            self.filling = number;
        }
        Some(self.filling)
    }

    /// Sets a free place aside for an accept, and tells the ring for it. `None`: there is none.
    pub(super) fn begin_accept(&mut self) -> Option<u16> {
        let number = self.roomy()?;
        self.rings[usize::from(number)].accepts += 1;
        self.accepts += 1;
        Some(number)
    }

    /// An accept in ring `number` has ended with `result`. Returns where the connection is.
    pub(super) fn end_accept(&mut self, number: u16, result: i32) -> Option<Place> {
        let row = &mut self.rings[usize::from(number)];
        row.accepts -= 1;
        self.accepts -= 1;
        let slot = u32::try_from(result).ok()?;
        row.used += 1;
        self.used += 1;
        Some(Place::new(number, slot))
    }

    /// Puts a file into a free place. What waits in its ring is submitted.
    ///
    /// # Errors
    /// `StorageFull`: no place is free. Else as [`Ring::adopt`].
    pub(super) fn adopt(&mut self, fd: BorrowedFd<'_>) -> io::Result<Place> {
        let number = if self.has_room(0)? { self.roomy() } else { None };
        let number = number.ok_or(io::ErrorKind::StorageFull)?;
        let slot = self.get(number).adopt(fd)?;
        self.rings[usize::from(number)].used += 1;
        self.used += 1;
        Ok(Place::new(number, slot))
    }

    /// A place of ring `number` was closed.
    pub(super) fn closed(&mut self, number: u16) {
        self.rings[usize::from(number)].used -= 1;
        self.used -= 1;
    }

    /// Hands everything to the kernel. What it completes at once is there afterwards.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while let Some(number) = self.dirty.pop() {
            let row = &mut self.rings[usize::from(number)];
            row.dirty = false;
            row.ring.submit()?;
        }
        Ok(())
    }

    /// The next completion, and the ring it is of.
    pub(super) fn pop(&mut self) -> Option<(u16, Completion<Token>)> {
        for _ in 0..self.rings.len() {
            if let Some(completion) = self.rings[self.pop_at].ring.pop() {
                return Some((self.pop_at as u16, completion));
            }
            self.pop_at = (self.pop_at + 1) % self.rings.len();
        }
        None
    }

    pub(super) fn has_completions(&self) -> bool {
        self.rings.iter().any(|row| row.ring.has_completions())
    }

    /// Hands everything to the kernel and sleeps until there is a completion or `timeout` is over; `None` waits for
    /// ever. Does not sleep if a wake-up came since the last sleep, or a completion is there already.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let Some(bell) = self.bell.take() else {
            self.dirty.clear();
            let row = &mut self.rings[0];
            row.dirty = false;
            let there = row.ring.has_completions();
            return row.ring.wait(if there { Some(Duration::ZERO) } else { timeout });
        };
        let result = self.submit().and_then(|()| self.sleep(&bell, timeout));
        self.bell = Some(bell);
        result
    }

    fn sleep(&mut self, bell: &Bell, timeout: Option<Duration>) -> io::Result<()> {
        let began = Instant::now();
        // From here on whatever completes rings; what completed before is found by looking.
        let mut heard = self.look(false)?;
        let mut now = began;
        loop {
            let left = timeout.map(|timeout| (began + timeout).saturating_duration_since(now));
            let until_tick = self.tick_at.saturating_duration_since(now);
            let sleep = if heard { Duration::ZERO } else { left.map_or(until_tick, |left| left.min(until_tick)) };
            bell.wait(Some(sleep))?;
            heard |= self.look(false)?;
            now = Instant::now();
            if now >= self.tick_at {
                self.tick_at = now + TICK;
                for row in &mut self.rings {
                    row.ring.wait(Some(Duration::ZERO))?;
                }
                heard |= self.has_completions();
            }
            // It may have rung for what was seen before.
            if heard || timeout.is_some_and(|timeout| now >= began + timeout) {
                break;
            }
        }
        self.look(true)?;
        Ok(())
    }

    /// Takes out what has completed in any ring, and sets whether they ring from now on. Returns whether there is
    /// something, or a wake-up came since the last look.
    fn look(&mut self, mute: bool) -> io::Result<bool> {
        let mut heard = false;
        for row in &mut self.rings {
            row.ring.mute(mute);
            heard |= row.ring.look()?;
            heard |= row.ring.has_completions();
        }
        Ok(heard)
    }

    /// Rings the bell for nothing, and sees to it that no tick helps.
    #[cfg(test)]
    pub(super) fn disturb(&mut self) {
        self.tick_at = Instant::now() + Duration::from_secs(3600);
        self.bell.as_ref().expect("several rings").ring().expect("it rings");
    }

    #[cfg(test)]
    pub(super) fn replace(&mut self, ring: Ring<Token>, places: u32) {
        (self.rings, self.places, self.dirty) = (Vec::new(), 0, Vec::new());
        self.push(ring, places);
    }
}
