//! Owns how many requests a service has at once, and who waits for a place: a bounded line in which tenants take turns. Exact over all
//! cores. Without anybody waiting, a place is taken and given back by one compare-and-swap; the line is behind a lock. Has no clock,
//! and wakes nobody: it says who is to be woken.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError};

use super::rate_limit::Key;
use crate::sync::{AtomicU8, AtomicU64, Mutex, MutexGuard};

/// What a service has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// At once, from 1.
    pub requests_max: u32,
    /// Of one tenant, from 1. `u32::MAX`: as many as there is room for.
    pub each_max: u32,
    pub waiting_max: u32,
}

impl Room {
    fn counts_each(&self) -> bool {
        self.each_max < self.requests_max
    }
}

/// The places of one service, shared by all cores.
#[derive(Debug, Default)]
pub struct Places {
    /// How many are taken, above 32 bits of how many wait. Who changes the second holds the line.
    word: AtomicU64,
    line: Mutex<Line>,
    /// Nobody can make himself another tenant.
    seed: RandomState,
    pub refused_total: AtomicU64,
}

const ONE_TAKEN: u64 = 1 << 32;

#[derive(Debug, Default)]
struct Line {
    /// Those who wait, or whose requests are counted.
    tenants: HashMap<u64, Tenant>,
    /// Those who wait and may have one more, in the order of their turns.
    turns: VecDeque<u64>,
    /// Those who wait, by how many: who has the most is found at once, also among very many.
    lengths: BTreeSet<(u32, u64)>,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Places that it has, where those are counted.
    taken: u32,
    /// With some among them who have left.
    waiting: VecDeque<Arc<Waiter>>,
    /// Without those.
    waiting_count: u32,
    /// It stands among the turns.
    has_turn: bool,
}

/// Somebody in line.
#[derive(Debug)]
pub struct Waiter {
    state: AtomicU8,
    tenant: u64,
    is_counted: bool,
    /// Where whoever wakes it finds it.
    pub core: usize,
    pub slot: u32,
}

const WAITS: u8 = 0;
const ADMITTED: u8 = 1;
const PUSHED_OUT: u8 = 2;
const LEFT: u8 = 3;

/// How somebody in line fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Waits,
    /// The place is his.
    Admitted,
    /// The line was full, and of his tenant more waited than of any other.
    PushedOut,
}

impl Waiter {
    pub fn standing(&self) -> Standing {
        match self.state.load(Acquire) {
            ADMITTED => Standing::Admitted,
            PUSHED_OUT => Standing::PushedOut,
            _ => Standing::Waits,
        }
    }

    /// The one that it is admitted to.
    pub fn place(&self) -> Place {
        Place { tenant: self.tenant, is_counted: self.is_counted }
    }
}

/// A place that is taken. Give it back by `Places::leave`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Place {
    tenant: u64,
    /// Whether it counts among its tenant's.
    is_counted: bool,
}

/// What becomes of who asks for a place.
#[derive(Debug)]
pub enum Entered {
    Now(Place),
    Waits(Arc<Waiter>),
    Refused(Refused),
}

/// Those whose waiting is over, to be woken.
pub type Woken = Vec<Arc<Waiter>>;

/// Admitted in one go: each may be a letter to another core. Who comes or leaves next goes on with it.
const ADMITTED_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The service has as many as it may, and as many wait.
    Full,
    /// The tenant has as many places as it may, and there is no room to wait.
    TenantFull,
}

impl Places {
    /// Of a tenant.
    pub fn key(&self) -> Key {
        Key::new(&self.seed)
    }

    /// Takes a place, or one in line. `core` and `slot` say where who waits is to be found.
    pub fn enter(
        &self,
        room: &Room,
        tenant: u64,
        core: usize,
        slot: impl FnOnce() -> u32,
    ) -> (Entered, Woken) {
        let is_counted = room.counts_each();
        if !is_counted && self.try_take(room) {
            return (Entered::Now(Place { tenant, is_counted }), Woken::new());
        }
        let mut line = self.line();
        // A reload may have made room for who waits.
        let mut woken = self.admit(&mut line, room);
        let own = line.tenants.get(&tenant).map_or(0, |known| known.taken);
        let is_tenant_full = is_counted && own >= room.each_max;
        loop {
            // Of who waits while there is room, the tenant has had his part.
            let word = self.word.load(Acquire);
            let (may_enter, may_wait) =
                (!is_tenant_full && taken(word) < room.requests_max, waiting(word) < room.waiting_max);
            let next = if may_enter { word + ONE_TAKEN } else { word + 1 };
            if !may_enter && !may_wait {
                break;
            }
            if self.word.compare_exchange(word, next, AcqRel, Acquire).is_err() {
                // Somebody was faster, in or out.
                continue;
            }
            if may_enter {
                let place = Place { tenant, is_counted };
                line.note_taken(place);
                return (Entered::Now(place), woken);
            }
            return (Entered::Waits(line.push(tenant, is_counted, core, slot())), woken);
        }
        self.refused_total.fetch_add(1, Relaxed);
        let entered = match line.push_out(tenant) {
            Some(pushed_out) => {
                woken.push(pushed_out);
                Entered::Waits(line.push(tenant, is_counted, core, slot()))
            }
            None if is_tenant_full => Entered::Refused(Refused::TenantFull),
            None => Entered::Refused(Refused::Full),
        };
        (entered, woken)
    }

    /// Gives a place back; returns who has one now, and is to be woken.
    pub fn leave(&self, room: &Room, place: Place) -> Woken {
        if !place.is_counted && self.change(|word| (waiting(word) == 0).then(|| word - ONE_TAKEN)) {
            return Woken::new();
        }
        let mut line = self.line();
        self.word.fetch_sub(ONE_TAKEN, AcqRel);
        line.note_left(place);
        self.admit(&mut line, room)
    }

    /// Lets in of the line whom there is room for.
    fn admit(&self, line: &mut Line, room: &Room) -> Woken {
        let mut admitted = Woken::new();
        loop {
            let word = self.word.load(Acquire);
            // While somebody waits, only who holds the line changes the word.
            if waiting(word) == 0 || taken(word) >= room.requests_max || admitted.len() == ADMITTED_MAX {
                return admitted;
            }
            let Some(waiter) = line.next(room) else { return admitted };
            self.word.fetch_add(ONE_TAKEN - 1, AcqRel);
            line.note_taken(waiter.place());
            admitted.push(waiter);
        }
    }

    /// Leaves the line. The place of who has been admitted meanwhile is to be given back.
    pub fn give_up(&self, waiter: &Waiter) -> Option<Place> {
        let mut line = self.line();
        match waiter.standing() {
            Standing::Admitted => Some(waiter.place()),
            Standing::PushedOut => None,
            Standing::Waits => {
                waiter.state.store(LEFT, Relaxed);
                let before = self.word.fetch_sub(1, AcqRel);
                line.forget(waiter.tenant, waiting(before) - 1);
                None
            }
        }
    }

    /// How many have a place, and how many wait for one.
    pub fn counts(&self) -> (u32, u32) {
        let word = self.word.load(Relaxed);
        (taken(word), waiting(word))
    }

    fn try_take(&self, room: &Room) -> bool {
        self.change(|word| (waiting(word) == 0 && taken(word) < room.requests_max).then(|| word + ONE_TAKEN))
    }

    fn change(&self, by: impl Fn(u64) -> Option<u64>) -> bool {
        self.word.fetch_update(AcqRel, Acquire, by).is_ok()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it is held.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn taken(word: u64) -> u32 {
    (word / ONE_TAKEN) as u32
}

fn waiting(word: u64) -> u32 {
    word as u32
}

impl Line {
    fn push(&mut self, tenant: u64, is_counted: bool, core: usize, slot: u32) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter { state: AtomicU8::new(WAITS), tenant, is_counted, core, slot });
        let of = self.tenants.entry(tenant).or_default();
        of.waiting.push_back(waiter.clone());
        of.waiting_count += 1;
        let count = of.waiting_count;
        self.note_length(tenant, count - 1, count);
        self.give_turn(tenant);
        waiter
    }

    fn give_turn(&mut self, tenant: u64) {
        if let Some(of) = self.tenants.get_mut(&tenant)
            && of.waiting_count > 0
            && !std::mem::replace(&mut of.has_turn, true)
        {
            self.turns.push_back(tenant);
        }
    }

    fn note_length(&mut self, tenant: u64, before: u32, now: u32) {
        self.lengths.remove(&(before, tenant));
        if now > 0 {
            self.lengths.insert((now, tenant));
        }
    }

    /// Who is next: the first of the tenant whose turn it is, and who may have one more.
    fn next(&mut self, room: &Room) -> Option<Arc<Waiter>> {
        while let Some(turn) = self.turns.pop_front() {
            let Some(tenant) = self.tenants.get_mut(&turn) else { continue };
            tenant.has_turn = false;
            if room.counts_each() && tenant.taken >= room.each_max {
                // It has its next turn when it gives a place back.
                continue;
            }
            let before = tenant.waiting_count;
            let Some(waiter) = tenant.take(VecDeque::pop_front, ADMITTED) else {
                self.tidy(turn);
                continue;
            };
            self.note_length(turn, before, before - 1);
            self.give_turn(turn);
            self.tidy(turn);
            return Some(waiter);
        }
        None
    }

    /// Makes room for one of `newcomer`: the last of the tenant of whom most wait has to go, unless that would be the newcomer.
    fn push_out(&mut self, newcomer: u64) -> Option<Arc<Waiter>> {
        let own = self.tenants.get(&newcomer).map_or(0, |known| known.waiting_count);
        let &(most, longest) = self.lengths.last()?;
        if most <= own + 1 {
            return None;
        }
        let waiter = self.tenants.get_mut(&longest)?.take(VecDeque::pop_back, PUSHED_OUT)?;
        self.note_length(longest, most, most - 1);
        Some(waiter)
    }

    /// One who waited has left; so many still wait.
    fn forget(&mut self, tenant: u64, waiting: u32) {
        let Some(of) = self.tenants.get_mut(&tenant) else { return };
        of.waiting_count -= 1;
        let count = of.waiting_count;
        if of.waiting.len() > most_kept(count) {
            of.waiting.retain(|waiter| waiter.state.load(Relaxed) == WAITS);
        }
        self.note_length(tenant, count + 1, count);
        self.tidy(tenant);
        if self.turns.len() > most_kept(waiting) {
            let turns = std::mem::take(&mut self.turns);
            self.turns = turns.into_iter().filter(|turn| self.keeps_turn(*turn)).collect();
        }
    }

    /// Whether the tenant has somebody waiting; if not, it loses its turn.
    fn keeps_turn(&mut self, tenant: u64) -> bool {
        let Some(of) = self.tenants.get_mut(&tenant) else { return false };
        of.has_turn = of.waiting_count > 0;
        let has_turn = of.has_turn;
        self.tidy(tenant);
        has_turn
    }

    fn note_taken(&mut self, place: Place) {
        if place.is_counted {
            self.tenants.entry(place.tenant).or_default().taken += 1;
        }
    }

    fn note_left(&mut self, place: Place) {
        if place.is_counted
            && let Some(tenant) = self.tenants.get_mut(&place.tenant)
        {
            tenant.taken -= 1;
            self.give_turn(place.tenant);
            self.tidy(place.tenant);
        }
    }

    /// Of whom nothing is known any more nothing is kept.
    fn tidy(&mut self, tenant: u64) {
        let is_gone = |of: &Tenant| of.taken == 0 && of.waiting_count == 0 && !of.has_turn;
        if self.tenants.get(&tenant).is_some_and(is_gone) {
            self.tenants.remove(&tenant);
        }
    }
}

impl Tenant {
    /// The first or the last of those who still wait.
    fn take(
        &mut self,
        next: impl Fn(&mut VecDeque<Arc<Waiter>>) -> Option<Arc<Waiter>>,
        becomes: u8,
    ) -> Option<Arc<Waiter>> {
        while let Some(waiter) = next(&mut self.waiting) {
            if waiter.state.load(Relaxed) == WAITS {
                waiter.state.store(becomes, Release);
                self.waiting_count -= 1;
                return Some(waiter);
            }
        }
        None
    }
}

/// Of so many, with those who have left among them: these are not many more than the others.
fn most_kept(count: u32) -> usize {
    2 * count as usize + 8
}

#[cfg(test)]
#[path = "concurrency_tests.rs"]
mod tests;
