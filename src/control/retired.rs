//! Owns the snapshots that were published before, until nobody else has them: whoever lets go of one elsewhere never
//! lets go of the last reference, and so never pays for freeing it. Frees nothing itself.

use std::sync::Arc;

use crate::config::snapshot::Snapshot;

/// Never more than there are workers and requests under way, since each of those has one snapshot at most. What a
/// request has would be in memory without this list, too; long streams and tunnels let go of theirs.
#[derive(Debug)]
pub struct Retired<T = Snapshot>(Vec<Arc<T>>);

impl<T> Retired<T> {
    /// `snapshot` is not published any more: nobody gets a new reference who has none.
    pub fn add(&mut self, snapshot: Arc<T>) {
        self.0.push(snapshot);
    }

    /// Those that only this list has. A count of one stays one: there is nobody to clone from.
    pub fn take_unused(&mut self) -> Vec<Arc<T>> {
        self.0.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Retired(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_stays_until_it_is_let_go_of() {
        let mut retired = Retired::default();
        let (first, second) = (Arc::new(1), Arc::new(2));
        let (held, also_held) = (first.clone(), second.clone());
        retired.add(first);
        retired.add(second);
        assert!(retired.take_unused().is_empty());
        drop(also_held);
        assert_eq!(retired.take_unused(), [Arc::new(2)]);
        assert_eq!(retired.len(), 1);
        drop(held);
        assert_eq!(retired.take_unused(), [Arc::new(1)]);
        assert_eq!(retired.len(), 0);
    }
}
