//! Owns what one worker counts of its UDP listeners: flows, datagrams and bytes each way, and why a datagram was
//! dropped or a flow ended. Plain cells, as all of `observe::metrics`; rendered by `observe::prometheus`.

use std::cell::RefCell;
use std::rc::Rc;

use super::metrics::LISTENERS_MAX;

/// Why a datagram went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// A new client, but the listener has `flows_max` flows.
    FlowsFull,
    /// The service has no endpoint that takes flows.
    NoEndpoint,
    /// No descriptor or local port was left for a new flow.
    NoSocket,
    /// Endpoint after endpoint refused it by ICMP.
    Unreachable,
    /// It did not fit the buffer, or is longer than its way allows.
    TooLarge,
    /// The kernel had no room to send it.
    Busy,
    /// A new client while the listener closes.
    Closing,
    /// Any other error of the system.
    Other,
}

/// Why a flow is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowEnd {
    /// All answers came that `responses` says.
    Answered,
    Idle,
    /// The endpoint refused a datagram by ICMP, or its socket failed.
    Unreachable,
    /// A reload took the endpoint away.
    Moved,
    /// The listener closed.
    Closed,
}

impl Dropped {
    pub const ALL: [(Dropped, &'static str); 8] = [
        (Dropped::FlowsFull, "flows_full"),
        (Dropped::NoEndpoint, "no_endpoint"),
        (Dropped::NoSocket, "no_socket"),
        (Dropped::Unreachable, "unreachable"),
        (Dropped::TooLarge, "too_large"),
        (Dropped::Busy, "busy"),
        (Dropped::Closing, "closing"),
        (Dropped::Other, "other"),
    ];
}

impl FlowEnd {
    pub const ALL: [(FlowEnd, &'static str); 5] = [
        (FlowEnd::Answered, "answered"),
        (FlowEnd::Idle, "idle"),
        (FlowEnd::Unreachable, "unreachable"),
        (FlowEnd::Moved, "moved"),
        (FlowEnd::Closed, "closed"),
    ];
}

/// One listener's counters on one core, or the sum of all cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpCounts {
    pub flows_opened: u64,
    /// By `FlowEnd as usize`.
    pub flows_ended: [u64; FlowEnd::ALL.len()],
    /// By `Dropped as usize`, both directions together.
    pub dropped: [u64; Dropped::ALL.len()],
    pub to_endpoints: Traffic,
    pub to_clients: Traffic,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub datagrams: u64,
    pub bytes: u64,
}

impl UdpCounts {
    pub fn flows_active(&self) -> u64 {
        self.flows_opened.saturating_sub(self.flows_ended.iter().sum())
    }

    pub fn add(&mut self, other: &Self) {
        self.flows_opened += other.flows_opened;
        self.to_endpoints.add(other.to_endpoints);
        self.to_clients.add(other.to_clients);
        let ends = self.flows_ended.iter_mut().zip(other.flows_ended);
        let dropped = self.dropped.iter_mut().zip(other.dropped);
        ends.chain(dropped).for_each(|(sum, count)| *sum += count);
    }
}

impl Traffic {
    pub fn count(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
    }

    fn add(&mut self, other: Traffic) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
    }
}

/// One listener's counters where it counts.
#[derive(Debug, Default)]
pub struct UdpCounters(RefCell<UdpCounts>);

impl UdpCounters {
    pub fn flow_opened(&self) {
        self.change(|counts| counts.flows_opened += 1);
    }

    pub fn flow_ended(&self, end: FlowEnd) {
        self.change(|counts| counts.flows_ended[end as usize] += 1);
    }

    pub fn dropped(&self, why: Dropped) {
        self.change(|counts| counts.dropped[why as usize] += 1);
    }

    pub fn to_endpoint(&self, bytes: usize) {
        self.change(|counts| counts.to_endpoints.count(bytes));
    }

    pub fn to_client(&self, bytes: usize) {
        self.change(|counts| counts.to_clients.count(bytes));
    }

    fn change(&self, change: impl FnOnce(&mut UdpCounts)) {
        change(&mut self.0.borrow_mut());
    }
}

/// The UDP listeners of one core by name, for as long as the core lives.
#[derive(Debug, Default)]
pub struct UdpListeners(RefCell<Vec<(Box<str>, Rc<UdpCounters>)>>);

impl UdpListeners {
    /// The same for the same name, so that a listener that comes back goes on counting. Beyond `LISTENERS_MAX`
    /// names the last one's are shared.
    pub fn of(&self, name: &str) -> Rc<UdpCounters> {
        let mut listeners = self.0.borrow_mut();
        let found = listeners.iter().position(|(known, _)| **known == *name);
        let index = found.unwrap_or_else(|| {
            if listeners.len() < LISTENERS_MAX {
                listeners.push((name.into(), Rc::default()));
            }
            listeners.len() - 1
        });
        listeners[index].1.clone()
    }

    pub fn report(&self) -> Vec<(Box<str>, UdpCounts)> {
        self.0.borrow().iter().map(|(name, counters)| (name.clone(), *counters.0.borrow())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_word() {
        for (index, (why, _)) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
        }
        for (index, (end, _)) in FlowEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
        }
    }

    #[test]
    fn a_listener_that_comes_back_goes_on_counting() {
        let listeners = UdpListeners::default();
        listeners.of("dns").flow_opened();
        listeners.of("rtp").to_client(7);
        listeners.of("dns").flow_ended(FlowEnd::Idle);
        let report = listeners.report();
        assert_eq!(report.len(), 2);
        assert_eq!((report[0].1.flows_opened, report[0].1.flows_active()), (1, 0));
        let mut sum = report[0].1;
        sum.add(&report[1].1);
        assert_eq!(sum.to_clients, Traffic { datagrams: 1, bytes: 7 });
    }
}
