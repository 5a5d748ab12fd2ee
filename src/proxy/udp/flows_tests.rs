//! The flow table against a naive model that keeps a list: random interleavings of everything that can happen, the
//! invariants checked after each step.

use super::*;

type Table = FlowTable<u16, u64>;

fn table() -> Table {
    FlowTable::new(RandomState::new())
}

#[test]
fn a_flow_is_found_until_it_ends() {
    let mut table = table();
    let id = table.open(0, 7, 70, 10).unwrap();
    assert_eq!(table.find(&7), Some(id));
    assert_eq!(FlowId::from_bits(id.to_bits()), id);
    assert_eq!((table.get(id), table.client(id)), (Some(&70), Some(7)));
    assert_eq!(table.end(id), Some(70));
    assert_eq!((table.find(&7), table.get(id)), (None, None));
    assert_eq!(table.end(id), None);
    let again = table.open(0, 8, 80, 10).unwrap();
    assert_ne!(again, id, "the slot is used again under another id");
    assert_eq!(table.answered(id, 1), None, "what is late for the old flow does nothing to the new one");
    assert_eq!(table.get(again), Some(&80));
    table.check_invariants();
}

#[test]
fn a_full_table_refuses_newcomers_and_keeps_the_others() {
    let mut table = table();
    let first = table.open(0, 1, 10, 2).unwrap();
    table.open(0, 2, 20, 2).unwrap();
    assert_eq!(table.open(1_000_000, 3, 30, 2), Err(30));
    assert_eq!(table.get(first), Some(&10), "the least recently used is not evicted");
    table.end(first);
    assert!(table.open(1_000_001, 3, 30, 2).is_ok());
}

#[test]
fn use_in_either_direction_puts_off_the_end() {
    let mut table = table();
    let a = table.open(0, 1, 10, 9).unwrap();
    let b = table.open(0, 2, 20, 9).unwrap();
    table.open(0, 3, 30, 9).unwrap();
    table.sent(a, 50, 0);
    table.answered(b, 60);
    assert_eq!(table.next_expiry_ms(100), Some(100));
    assert_eq!(table.expire(99, 100), None);
    assert_eq!(table.expire(100, 100), Some(30));
    assert_eq!(table.expire(149, 100), None);
    assert_eq!((table.expire(150, 100), table.expire(160, 100)), (Some(10), Some(20)));
    assert_eq!((table.expire(u64::MAX, 100), table.next_expiry_ms(100)), (None, None));
}

#[test]
fn a_flow_ends_with_its_last_awaited_answer() {
    let mut table = table();
    let id = table.open(0, 1, 10, 9).unwrap();
    table.sent(id, 0, 1);
    table.sent(id, 0, 1);
    assert_eq!((table.answered(id, 1), table.awaiting()), (None, 1));
    assert_eq!((table.answered(id, 1), table.awaiting()), (Some(10), 0));
    let endless = table.open(0, 1, 11, 9).unwrap();
    table.sent(endless, 2, 0);
    assert_eq!(table.answered(endless, 3), None, "nothing was said of how many answers there are");
    table.sent(endless, 4, u32::MAX);
    table.sent(endless, 4, u32::MAX);
    assert_eq!(table.answered(endless, 5), None);
    table.check_invariants();
}

#[test]
fn a_clock_that_steps_back_leaves_the_order() {
    let mut table = table();
    table.open(1000, 1, 10, 9).unwrap();
    table.open(10, 2, 20, 9).unwrap();
    table.check_invariants();
    assert_eq!(table.expire(1100, 100), Some(10));
    assert_eq!(table.expire(1100, 100), Some(20));
}

/// What the table should do, done plainly: flows in the order of last use.
#[derive(Default)]
struct Model {
    flows: Vec<Modelled>,
    clock_ms: u64,
}

#[derive(Clone)]
struct Modelled {
    client: u16,
    id: FlowId,
    value: u64,
    used_ms: u64,
    awaited: u32,
}

impl Model {
    fn at(&self, id: FlowId) -> Option<usize> {
        self.flows.iter().position(|flow| flow.id == id)
    }

    fn touch(&mut self, at: usize, now_ms: u64) {
        let mut flow = self.flows.remove(at);
        self.clock_ms = self.clock_ms.max(now_ms);
        let newest = self.flows.last().map_or(0, |newest| newest.used_ms);
        flow.used_ms = now_ms.max(newest).max(flow.used_ms);
        self.flows.push(flow);
    }

    fn remove(&mut self, id: FlowId) -> Option<u64> {
        Some(self.flows.remove(self.at(id)?).value)
    }
}

#[test]
fn random_interleavings_agree_with_the_model() {
    for seed in 1..=200 {
        simulate(seed, 500);
    }
}

fn simulate(seed: u64, steps: usize) {
    const CLIENTS: u64 = 12;
    const FLOWS_MAX: usize = 7;
    const IDLE_MS: u64 = 40;
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let (mut table, mut model) = (table(), Model::default());
    let mut ended: Vec<FlowId> = Vec::new();
    let mut now_ms = 0;
    for step in 0..steps as u64 {
        now_ms += below(12);
        // An id of now, or of a flow that is over.
        let known: Vec<FlowId> =
            model.flows.iter().map(|flow| flow.id).chain(ended.iter().copied()).collect();
        let id = (!known.is_empty()).then(|| known[below(known.len() as u64) as usize]);
        match (below(6), id) {
            (0 | 1, _) => open(&mut table, &mut model, now_ms, below(CLIENTS) as u16, step, FLOWS_MAX),
            (2, Some(id)) => {
                let answers = below(3) as u32;
                table.sent(id, now_ms, answers);
                if let Some(at) = model.at(id) {
                    model.flows[at].awaited += answers;
                    model.touch(at, now_ms);
                }
            }
            (3, Some(id)) => {
                let expected = model.at(id).and_then(|at| {
                    let before = model.flows[at].awaited;
                    model.flows[at].awaited = before.saturating_sub(1);
                    model.touch(at, now_ms);
                    (before == 1).then(|| model.remove(id)).flatten()
                });
                assert_eq!(table.answered(id, now_ms), expected);
            }
            (4, Some(id)) => assert_eq!(table.end(id), model.remove(id)),
            _ => loop {
                let due = model.flows.first().filter(|oldest| oldest.used_ms + IDLE_MS <= now_ms);
                let expected = due.map(|oldest| oldest.id).and_then(|id| model.remove(id));
                let expired = table.expire(now_ms, IDLE_MS);
                assert_eq!(expired, expected, "seed {seed}, step {step}");
                if expired.is_none() {
                    break;
                }
            },
        }
        if let Some(id) = id.filter(|&id| model.at(id).is_none() && !ended.contains(&id)) {
            ended.push(id);
        }
        table.check_invariants();
        agree(&table, &model);
    }
}

fn open(table: &mut Table, model: &mut Model, now_ms: u64, client: u16, value: u64, flows_max: usize) {
    let fits = model.flows.len() < flows_max && model.flows.iter().all(|flow| flow.client != client);
    match table.open(now_ms, client, value, flows_max) {
        Ok(id) => {
            assert!(fits, "no second flow of a client, none beyond the bound");
            model.flows.push(Modelled { client, id, value, used_ms: 0, awaited: 0 });
            model.touch(model.flows.len() - 1, now_ms);
        }
        Err(refused) => assert_eq!((fits, refused), (false, value)),
    }
}

fn agree(table: &Table, model: &Model) {
    assert_eq!(table.len(), model.flows.len());
    assert_eq!(table.awaiting(), model.flows.iter().filter(|flow| flow.awaited > 0).count());
    for flow in &model.flows {
        assert_eq!(table.find(&flow.client), Some(flow.id));
        assert_eq!(table.get(flow.id), Some(&flow.value));
    }
}
