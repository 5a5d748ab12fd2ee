//! Owns the allocator's dealings with the system: memory that was freed goes back soon, so that a burst of
//! connections does not weigh on the machine for ever. Allocates nothing and counts nothing.

use std::ffi::c_long;

use rustix::thread::disable_transparent_huge_pages;

/// mimalloc's `mi_option_purge_delay`, ms, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Never by itself: 35 years. The allocator adds it to the time, so not the largest number that there is.
const PURGE_DELAY_MS: c_long = 1 << 40;
/// A page that has just become empty is kept for up to this many looks (mimalloc's MI_RETIRE_CYCLES).
const LOOKS: usize = 17;

/// Called first thing by the binary.
pub fn prepare() {
    // Huge pages would round what thousands of small connections use, and keep, up to 2 MiB a piece: 13 MiB at start
    // instead of 6, and hardly a page of a burst's memory is ever wholly free. A kernel without them has nothing to
    // turn off.
    let _ = disable_transparent_huge_pages(true);
    // Else whichever thread frees a page a second after another one did unmaps everything that was freed since, by
    // any thread: a worker was seen to spend 56 ms on a retired configuration. `purge` does it where nobody waits.
    // SAFETY: takes no pointer; an option is an atomic of the allocator's own.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Leaves what this thread has freed to `purge`. Takes some ten microseconds: for quiet moments.
pub fn collect() {
    for _ in 0..LOOKS {
        look(false);
    }
}

/// Gives the system back what any thread has freed: as long as that takes.
pub fn purge() {
    look(true);
}

fn look(force: bool) {
    // SAFETY: `mi_collect` takes no pointer and may be called at any time on any thread; it touches only memory of this
    // thread's heap that nobody has allocated and, if forced, what has become no thread's.
    unsafe { libmimalloc_sys::mi_collect(force) }
}
