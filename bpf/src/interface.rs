// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types of `include/intf.h`, generated, and their way from and to bytes.

#[allow(
    missing_docs,
    non_camel_case_types,
    dead_code,
    clippy::all,
    clippy::pedantic
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/intf.rs"));
}

pub(crate) use generated::*;

/// Types that are nothing but integers and arrays of them, without padding.
///
/// # Safety
///
/// Every bit pattern must be a valid value, and no byte of a value may be
/// uninitialised.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: structs of intf.h: integers and arrays of integers, padding written
// out as members.
unsafe impl Plain for oomd_event_header {}
// SAFETY: as above.
unsafe impl Plain for oomd_kill_event {}
// SAFETY: as above.
unsafe impl Plain for oomd_kernel_kill_event {}
// SAFETY: as above.
unsafe impl Plain for oomd_offline_event {}
// SAFETY: as above.
unsafe impl Plain for oomd_settings {}
// SAFETY: as above.
unsafe impl Plain for oomd_candidate {}
// SAFETY: as above.
unsafe impl Plain for oomd_ranking {}
// SAFETY: as above.
unsafe impl Plain for oomd_stock_run {}
// SAFETY: as above.
unsafe impl Plain for oomd_pressure_event {}
// SAFETY: as above.
unsafe impl Plain for oomd_pressure_said {}
// SAFETY: as above.
unsafe impl Plain for oomd_watch {}
// SAFETY: as above.
unsafe impl Plain for oomd_trigger {}

/// The value at the beginning of `bytes`, which may be longer and need not be
/// aligned. `None` if they are too short.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, `T: Plain` takes any, and the read does
    // not ask for alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of a value.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `T: Plain` has no uninitialised byte; the slice borrows `value`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of a value, for a kernel that writes into it.
pub(crate) fn bytes_of_mut<T: Plain>(value: &mut T) -> &mut [u8] {
    // SAFETY: as in `bytes_of()`, and any byte written makes a valid value.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(value).cast(), size_of::<T>()) }
}
