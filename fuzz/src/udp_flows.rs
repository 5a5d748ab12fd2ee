//! Checks of the table of UDP flows: whatever is done to it, in whatever order and with whatever ids, it never
//! contradicts itself, holds no more flows than it may, and finds for a client the flow that was opened last.

use std::collections::HashMap;

use tidegate::proxy::udp::flows::{FlowId, FlowTable};

const FLOWS_MAX: usize = 5;
const IDLE_MS: u64 = 30;

/// Four bytes a step: what, whom, with which number, and how much later.
pub fn udp_flows(data: &[u8]) {
    let mut table: FlowTable<u8, usize> = FlowTable::new(Default::default());
    let mut clients: HashMap<u8, usize> = HashMap::new();
    let mut ids: Vec<FlowId> = Vec::new();
    let mut now_ms = 0;
    for (step, bytes) in data.chunks_exact(4).enumerate() {
        let [what, whom, number, later] = *bytes else { continue };
        now_ms += u64::from(later % 16);
        let id = ids.get(usize::from(whom) % ids.len().max(1)).copied();
        let ended = match (what % 6, id) {
            (0 | 1, _) => {
                let client = whom % 8;
                let fits = table.len() < FLOWS_MAX && !clients.contains_key(&client);
                let opened = table.open(now_ms, client, step, FLOWS_MAX);
                assert_eq!(opened.is_ok(), fits);
                if let Ok(id) = opened {
                    ids.push(id);
                    clients.insert(client, step);
                }
                None
            }
            (2, Some(id)) => {
                table.sent(id, now_ms, u32::from(number % 3));
                None
            }
            (3, Some(id)) => table.answered(id, now_ms),
            (4, Some(id)) => table.end(FlowId::from_bits(id.to_bits())),
            _ => table.expire(now_ms, IDLE_MS),
        };
        if let Some(value) = ended {
            clients.retain(|_, known| *known != value);
        }
        table.check_invariants();
        assert_eq!(table.len(), clients.len(), "a flow ends once, and only where it is told");
        for (client, value) in &clients {
            let found = table.find(client).and_then(|id| table.get(id));
            assert_eq!(found, Some(value));
        }
    }
}
