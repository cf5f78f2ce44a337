// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is attached where, as the kernel itself tells it; nobody's word is taken for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use crate::cgroup::id_of;
use crate::systemctl::{PATIENCE, cgroup_of, show};
use crate::wait::eventually_within;

/// `bpf_get_next_id` and `bpf_get_fd_by_id` functions of libbpf for one kind of object.
type NextId = unsafe extern "C" fn(u32, *mut u32) -> libc::c_int;
type FdById = unsafe extern "C" fn(u32) -> libc::c_int;

/// The ids of the cgroups that a struct_ops link is on, 0 for the system.
pub fn attachments() -> BTreeSet<u64> {
    links().into_values().collect()
}

/// The struct_ops links that are attached: the id of each, and of the cgroup that it is on. A link that is made anew has another id. One
/// that was detached says where it was as long as somebody holds it, and systemd may be slow to let go of it.
pub fn links() -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    each(
        libbpf_sys::bpf_link_get_next_id,
        libbpf_sys::bpf_link_get_fd_by_id,
        |link| {
            // `struct bpf_link_info` (include/uapi/linux/bpf.h): u32 type, u32 id, and of the struct_ops arm at 16 u32 map_id, 0 when it
            // was detached, and at 24 u64 cgroup_id.
            let mut info = [0u64; 32];
            info_of(&link, &mut info);
            let kind = u32::try_from(info[0] & 0xffff_ffff).expect("a u32");
            let is_attached = info[2] & 0xffff_ffff != 0;
            if kind == libbpf_sys::BPF_LINK_TYPE_STRUCT_OPS && is_attached {
                let id = u32::try_from(info[0] >> 32).expect("a u32");
                found.insert(id, info[3]);
            }
        },
    );
    found
}

/// The cgroup ids for which a policy program has settings, over all policies that are loaded.
pub fn settings() -> BTreeSet<u64> {
    keys_of(c"oomd_settings")
}

/// The ids of the cgroups that are watched for pressure, 0 for the system.
pub fn watched() -> BTreeSet<u64> {
    keys_of(c"oomd_watches")
}

/// The keys of all maps of that name.
fn keys_of(name: &CStr) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    each(
        libbpf_sys::bpf_map_get_next_id,
        libbpf_sys::bpf_map_get_fd_by_id,
        |map| {
            // `struct bpf_map_info`: six u32, then char name[16].
            let mut info = [0u64; 32];
            info_of(&map, &mut info);
            let bytes: Vec<u8> = info[3..5].iter().flat_map(|n| n.to_ne_bytes()).collect();
            if CStr::from_bytes_until_nul(&bytes).expect("a name with an end") == name {
                found.extend(keys(&map));
            }
        },
    );
    found
}

fn keys(map: &OwnedFd) -> BTreeSet<u64> {
    let mut keys = BTreeSet::new();
    let mut last: Option<u64> = None;
    let mut next = 0u64;
    loop {
        let after = last.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: keys are 64 bits wide; NULL asks for the first one.
        let end = unsafe {
            libbpf_sys::bpf_map_get_next_key(
                map.as_raw_fd(),
                after.cast::<c_void>(),
                (&raw mut next).cast(),
            )
        };
        if end != 0 {
            return keys;
        }
        keys.insert(next);
        last = Some(next);
    }
}

fn each(next_id: NextId, fd_by_id: FdById, mut look: impl FnMut(OwnedFd)) {
    let mut id = 0;
    // SAFETY: a start id and a valid place for the result.
    while unsafe { next_id(id, &mut id) } == 0 {
        // SAFETY: takes a number.
        let fd = unsafe { fd_by_id(id) };
        // It may have gone meanwhile.
        if fd >= 0 {
            // SAFETY: a new file descriptor that nobody else knows.
            look(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

fn info_of(object: &OwnedFd, info: &mut [u64; 32]) {
    let mut length = u32::try_from(size_of_val(info)).expect("a small array");
    // SAFETY: `info` is `length` bytes long; the kernel writes no more than that.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(
            object.as_raw_fd(),
            info.as_mut_ptr().cast::<c_void>(),
            &mut length,
        )
    };
    assert_eq!(result, 0, "BPF_OBJ_GET_INFO_BY_FD");
}

/// Whether something is attached to the cgroup with this directory.
pub fn is_attached(cgroup: &Path) -> bool {
    attachments().contains(&id_of(cgroup))
}

/// Waits until a running unit's cgroup has an attachment, and returns the cgroup's id.
#[track_caller]
pub fn wait_attached(unit: &str) -> u64 {
    let id = id_of(&cgroup_of(unit));
    eventually_within(PATIENCE, || {
        let said = || {
            format!(
                "nothing is attached to {unit}; bpf-oomd says {:?}",
                show(crate::daemon::UNIT, "StatusText")
            )
        };
        attachments().contains(&id).then_some(id).ok_or_else(said)
    })
}

/// Waits until nothing is attached to the cgroup with that id.
#[track_caller]
pub fn wait_detached(id: u64) {
    eventually_within(PATIENCE, || {
        if attachments().contains(&id) {
            Err(format!("something is still attached to cgroup {id}"))
        } else {
            Ok(())
        }
    });
}
