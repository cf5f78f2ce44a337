// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory a test has, counted allocation by allocation, so that the number is the same each time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// What this thread has allocated, less what it has freed. Tests run in a thread each.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Bytes that this thread has allocated and not freed.
pub(super) fn bytes() -> i64 {
    BYTES.get()
}

fn count(bytes: usize, sign: i64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    // A thread that is about to end counts no more.
    let _ = BYTES.try_with(|all| all.set(all.get() + sign * bytes));
}

struct Counting;

// SAFETY: everything is done by the system's allocator. Counting allocates nothing: the counter is a constant at first, and has no
// destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
