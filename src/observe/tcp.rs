//! Owns what one worker counts of TCP listeners: connections, bytes both ways, and how connections failed, by
//! listener and service. Bytes count as they move, so that a connection that lasts for days is seen.

use std::cell::RefCell;

use crate::config::snapshot::StableId;
use crate::error::Kind;
use crate::observe::report::SeriesId;

#[derive(Debug, Default)]
pub struct TcpTable {
    series: RefCell<Vec<TcpReport>>,
}

/// The place of a listener's and service's counters in one core's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSeries(u16);

#[derive(Debug, Clone)]
pub struct TcpReport {
    pub listener: Box<str>,
    pub service: SeriesId,
    pub counts: TcpCounts,
}

#[derive(Debug, Clone, Copy)]
pub struct TcpCounts {
    pub connections: u64,
    /// From clients.
    pub received_bytes: u64,
    /// To clients.
    pub sent_bytes: u64,
    /// By `Kind as usize`.
    pub errors: [u64; Kind::ALL.len()],
}

impl TcpTable {
    /// Counts a connection; the others want to know where.
    pub fn opened(&self, listener: &str, service: Option<StableId>) -> TcpSeries {
        let mut series = self.series.borrow_mut();
        let service = service.map_or(SeriesId::None, SeriesId::Known);
        let found = series.iter().position(|known| known.service == service && *known.listener == *listener);
        let index = found.unwrap_or_else(|| {
            match series.len() {
                len if len + 1 < SERIES_MAX => series.push(TcpReport::new(listener, service)),
                len if len + 1 == SERIES_MAX => series.push(TcpReport::new(OTHER_LISTENER, SeriesId::Other)),
                _ => {}
            }
            series.len() - 1
        });
        series[index].counts.connections += 1;
        TcpSeries(index as u16)
    }

    pub fn received(&self, series: TcpSeries, bytes: u64) {
        self.series.borrow_mut()[usize::from(series.0)].counts.received_bytes += bytes;
    }

    pub fn sent(&self, series: TcpSeries, bytes: u64) {
        self.series.borrow_mut()[usize::from(series.0)].counts.sent_bytes += bytes;
    }

    pub fn failed(&self, series: TcpSeries, kind: Kind) {
        self.series.borrow_mut()[usize::from(series.0)].counts.errors[kind as usize] += 1;
    }

    pub fn report(&self) -> Vec<TcpReport> {
        self.series.borrow().clone()
    }
}

impl TcpReport {
    fn new(listener: &str, service: SeriesId) -> TcpReport {
        TcpReport { listener: listener.into(), service, counts: TcpCounts::default() }
    }
}

impl Default for TcpCounts {
    fn default() -> Self {
        TcpCounts { connections: 0, received_bytes: 0, sent_bytes: 0, errors: [0; Kind::ALL.len()] }
    }
}

impl TcpCounts {
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        for (total, errors) in self.errors.iter_mut().zip(other.errors) {
            *total += errors;
        }
    }
}

/// Pairs of listener and service per core; further ones share the last.
pub const SERIES_MAX: usize = 1024;
const OTHER_LISTENER: &str = "_other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_own_place_up_to_a_bound() {
        let table = TcpTable::default();
        let first = table.opened("db", Some(StableId(1)));
        assert_eq!(table.opened("db", Some(StableId(1))), first);
        let second = table.opened("db", Some(StableId(2)));
        assert_ne!(first, second);
        table.received(first, 3);
        table.sent(first, 4);
        table.failed(second, Kind::ConnectFailed);
        let report = table.report();
        assert_eq!((report[0].counts.connections, report[1].counts.connections), (2, 1));
        assert_eq!((report[0].counts.received_bytes, report[0].counts.sent_bytes), (3, 4));
        assert_eq!(report[1].counts.errors[Kind::ConnectFailed as usize], 1);
        for id in 0..2 * SERIES_MAX as u32 {
            table.opened("many", Some(StableId(id)));
        }
        let report = table.report();
        assert_eq!(report.len(), SERIES_MAX);
        assert_eq!(report[SERIES_MAX - 1].service, SeriesId::Other);
        let connections: u64 = report.iter().map(|series| series.counts.connections).sum();
        assert_eq!(connections, 3 + 2 * SERIES_MAX as u64);
    }
}
