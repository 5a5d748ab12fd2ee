//! Owns the flows of one UDP listener on one worker: who they belong to, in which order they were last used, how
//! many answers each still awaits, and how many there may be. Sans-io: time and the hasher's keys are passed in,
//! and what a flow carries is the caller's (`T`). Opens no sockets and picks no endpoints.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// ```text
///            open                    sent / answered: to the end of the queue
///  (no flow) ────▶ open, awaits 0 ──────────────────────────────────────────┐
///      ▲                 ▲ └────────────────────────────────────────────────┘
///      └─────────────────┴── end · expire (idle too long) · answered (none awaited any more)
/// ```
///
/// All flows of a listener share one idle timeout, so the order of last use is the order of expiry: a doubly
/// linked list through the slots makes each step O(1).
#[derive(Debug)]
pub struct FlowTable<K, T, S = RandomState> {
    by_client: HashMap<K, u32, S>,
    slots: Vec<Slot<K, T>>,
    /// Free slots, the last freed first.
    free: Vec<u32>,
    /// Least recently used.
    oldest: u32,
    newest: u32,
    /// Flows that await an answer.
    awaiting: usize,
}

#[derive(Debug)]
struct Slot<K, T> {
    /// One more with every flow that ends here, so that the id of an ended flow finds nothing.
    generation: u32,
    older: u32,
    newer: u32,
    flow: Option<Flow<K, T>>,
}

#[derive(Debug)]
struct Flow<K, T> {
    client: K,
    used_ms: u64,
    awaited: u32,
    value: T,
}

/// Names one flow for as long as it is open, and nothing afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowId {
    slot: u32,
    generation: u32,
}

impl FlowId {
    /// As one number, to name the flow elsewhere. No flow is `u64::MAX`.
    pub fn to_bits(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.generation)
    }

    pub fn from_bits(bits: u64) -> FlowId {
        FlowId { slot: (bits >> 32) as u32, generation: bits as u32 }
    }
}

/// No slot: the end of the list.
const NONE: u32 = u32::MAX;

impl<K: Hash + Eq + Copy, T, S: BuildHasher> FlowTable<K, T, S> {
    /// `hasher` must be keyed at random where clients choose their addresses.
    pub fn new(hasher: S) -> Self {
        FlowTable {
            by_client: HashMap::with_hasher(hasher),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            awaiting: 0,
        }
    }

    pub fn find(&self, client: &K) -> Option<FlowId> {
        let slot = *self.by_client.get(client)?;
        Some(FlowId { slot, generation: self.slots[slot as usize].generation })
    }

    pub fn get(&self, id: FlowId) -> Option<&T> {
        Some(&self.flow(id)?.value)
    }

    pub fn client(&self, id: FlowId) -> Option<K> {
        Some(self.flow(id)?.client)
    }

    /// A new flow of a client that has none. Gives the value back if there are `flows_max` already: a full table
    /// refuses newcomers and never ends a flow that is in use.
    pub fn open(&mut self, now_ms: u64, client: K, value: T, flows_max: usize) -> Result<FlowId, T> {
        if self.len() >= flows_max || self.by_client.contains_key(&client) {
            return Err(value);
        }
        let flow = Some(Flow { client, used_ms: now_ms, awaited: 0, value });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize].flow = flow;
                slot
            }
            None => {
                self.slots.push(Slot { generation: 0, older: NONE, newer: NONE, flow });
                (self.slots.len() - 1) as u32
            }
        };
        self.by_client.insert(client, slot);
        self.append(slot, now_ms);
        Ok(FlowId { slot, generation: self.slots[slot as usize].generation })
    }

    /// A datagram of the client went to the endpoint; `answers` are now awaited besides those before.
    pub fn sent(&mut self, id: FlowId, now_ms: u64, answers: u32) {
        let Some(flow) = self.flow_mut(id) else { return };
        let before = flow.awaited;
        flow.awaited = before.saturating_add(answers);
        let after = flow.awaited;
        self.count_awaiting(before, after);
        self.touch(id.slot, now_ms);
    }

    /// A datagram of the endpoint went to the client. The value comes back if that was the last one awaited: the
    /// flow is over.
    pub fn answered(&mut self, id: FlowId, now_ms: u64) -> Option<T> {
        let flow = self.flow_mut(id)?;
        let before = flow.awaited;
        flow.awaited = before.saturating_sub(1);
        let after = flow.awaited;
        self.count_awaiting(before, after);
        if before == 1 {
            return self.end(id);
        }
        self.touch(id.slot, now_ms);
        None
    }

    pub fn end(&mut self, id: FlowId) -> Option<T> {
        self.flow(id)?;
        self.unlink(id.slot);
        let slot = &mut self.slots[id.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let flow = slot.flow.take()?;
        self.free.push(id.slot);
        self.by_client.remove(&flow.client);
        self.count_awaiting(flow.awaited, 0);
        Some(flow.value)
    }

    /// Ends the flow that has been silent longest, if that is `idle_ms` or more. Call until `None`.
    pub fn expire(&mut self, now_ms: u64, idle_ms: u64) -> Option<T> {
        if self.next_expiry_ms(idle_ms)? > now_ms {
            return None;
        }
        self.end_oldest()
    }

    /// When the next flow is due, unless it is used before.
    pub fn next_expiry_ms(&self, idle_ms: u64) -> Option<u64> {
        let oldest = self.slots.get(self.oldest as usize)?;
        Some(oldest.flow.as_ref()?.used_ms.saturating_add(idle_ms))
    }

    /// Ends the flow that has been silent longest.
    pub fn end_oldest(&mut self) -> Option<T> {
        let generation = self.slots.get(self.oldest as usize)?.generation;
        self.end(FlowId { slot: self.oldest, generation })
    }

    pub fn len(&self) -> usize {
        self.by_client.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// How many flows await an answer.
    pub fn awaiting(&self) -> usize {
        self.awaiting
    }

    /// Panics if the table contradicts itself. For tests and the fuzzer; linear.
    pub fn check_invariants(&self) {
        let (mut at, mut before, mut seen, mut awaiting) = (self.oldest, NONE, 0, 0);
        let mut used_before = 0;
        while at != NONE {
            let slot = &self.slots[at as usize];
            let flow = slot.flow.as_ref().expect("a linked slot holds a flow");
            assert_eq!(slot.older, before, "the list reads the same in both directions");
            assert!(flow.used_ms >= used_before, "the list is in the order of last use");
            assert_eq!(self.by_client.get(&flow.client), Some(&at), "its client finds it");
            awaiting += usize::from(flow.awaited > 0);
            used_before = flow.used_ms;
            seen += 1;
            assert!(seen <= self.slots.len(), "the list has no circle");
            (before, at) = (at, slot.newer);
        }
        assert_eq!(self.newest, before, "the list ends at the newest");
        assert_eq!(seen, self.by_client.len(), "every client's flow is in the list");
        assert_eq!(seen + self.free.len(), self.slots.len(), "a slot is linked or free");
        assert!(self.free.iter().all(|&free| self.slots[free as usize].flow.is_none()));
        assert_eq!(self.awaiting, awaiting);
    }

    fn flow(&self, id: FlowId) -> Option<&Flow<K, T>> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.flow.as_ref().filter(|_| slot.generation == id.generation)
    }

    fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow<K, T>> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        slot.flow.as_mut().filter(|_| slot.generation == id.generation)
    }

    fn count_awaiting(&mut self, before: u32, after: u32) {
        self.awaiting = self.awaiting + usize::from(after > 0) - usize::from(before > 0);
    }

    fn touch(&mut self, slot: u32, now_ms: u64) {
        if self.newest != slot {
            self.unlink(slot);
            self.append(slot, now_ms);
        } else if let Some(flow) = &mut self.slots[slot as usize].flow {
            flow.used_ms = flow.used_ms.max(now_ms);
        }
    }

    /// Puts an unlinked slot at the end. A clock that seems to step back stands still: the order is the truth.
    fn append(&mut self, slot: u32, now_ms: u64) {
        let newest = self.slots.get(self.newest as usize).and_then(|newest| newest.flow.as_ref());
        let used_ms = newest.map_or(now_ms, |newest| newest.used_ms.max(now_ms));
        let newest = std::mem::replace(&mut self.newest, slot);
        match self.slots.get_mut(newest as usize) {
            Some(newest) => newest.newer = slot,
            None => self.oldest = slot,
        }
        let slot = &mut self.slots[slot as usize];
        (slot.older, slot.newer) = (newest, NONE);
        if let Some(flow) = &mut slot.flow {
            flow.used_ms = used_ms;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { older, newer, .. } = self.slots[slot as usize];
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
