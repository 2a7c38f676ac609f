//! Counts what a thread allocates, so that a target can say how much an input may cost.
#![allow(
    unsafe_code,
    reason = "a global allocator is unsafe code; it hands every call on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Most bytes that a thread may hold. What asks for more fails, before the machine runs out of memory.
const MOST_OF_A_THREAD: usize = 4 << 30;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    /// Counts `bytes` as held; returns whether they may be.
    fn take(bytes: usize) -> bool {
        let held = HELD.get().saturating_add(bytes);
        // Count refused requests too, because the target asked for the memory.
        PEAK.set(PEAK.get().max(held));
        if held > MOST_OF_A_THREAD {
            return false;
        }
        HELD.set(held);
        true
    }

    /// Memory may be freed by another thread than the one that asked for it.
    fn give_back(bytes: usize) {
        HELD.set(HELD.get().saturating_sub(bytes));
    }
}

// SAFETY: every call is handed on to the system's allocator with the same arguments, or refused with a null pointer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::take(layout.size()) {
            // SAFETY: the caller's promises are those that the system's allocator asks for.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::take(layout.size()) {
            // SAFETY: as above.
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::give_back(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !Self::take(size) {
            return std::ptr::null_mut();
        }
        Self::give_back(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work` and returns how many bytes it held at most, in this thread, beyond those that were held before.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get().saturating_sub(before))
}

/// Runs `work` and returns how many bytes its result holds, if `work` frees everything else.
pub fn held_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    let result = work();
    (result, HELD.get().saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_at_once_is_counted() {
        let (_, peak) = peak_of(|| {
            drop(Vec::<u8>::with_capacity(3_000_000));
            let grown: Vec<u8> = Vec::with_capacity(1_000_000);
            grown.capacity()
        });
        assert!((3_000_000..3_100_000).contains(&peak), "{peak}");
    }

    #[test]
    fn a_thread_that_asks_for_too_much_is_refused_and_blamed() {
        let (refused, peak) = peak_of(|| Vec::<u8>::new().try_reserve_exact(MOST_OF_A_THREAD + 1));
        assert!(refused.is_err() && peak > MOST_OF_A_THREAD, "{peak}");
    }
}
