// SPDX-License-Identifier: MIT OR Apache-2.0
//! Links of struct_ops: made, looked at, ended, and kept for the next daemon.

use super::struct_ops_link;
use crate::policy::CgroupId;
use crate::systemd::fd_store::FdStore;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use tracing::debug;

/// enum bpf_cmd in linux/bpf.h
const BPF_LINK_DETACH: libc::c_long = 34;

/// A link that the next daemon gets if this one ends. Dropping it leaves it to that.
#[derive(Debug)]
pub(super) struct KeptLink {
    fd: OwnedFd,
    name: String,
}

/// What a link says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The struct_ops map; None if it was detached.
    pub(super) map: Option<u32>,
    pub(super) cgroup: CgroupId,
}

impl KeptLink {
    /// Attaches a registered map, see [`struct_ops_link()`].
    pub(super) fn attach(
        store: &FdStore,
        name: impl ToString,
        map: BorrowedFd<'_>,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let fd = struct_ops_link(map, cgroup)?;
        let name = name.to_string();
        store.keep(&name, fd.as_fd());
        Ok(KeptLink { fd, name })
    }

    /// One that an earlier daemon made.
    pub(super) fn found(name: impl ToString, fd: OwnedFd) -> Self {
        KeptLink {
            fd,
            name: name.to_string(),
        }
    }

    /// Detaches.
    pub(super) fn end(self, store: &FdStore) {
        // The service manager has a descriptor too and closes it when it comes to it; the next attachment cannot wait for that.
        if let Err(error) = detach(&self.fd) {
            debug!("{} goes when it is closed: {error}", self.name);
        }
        store.remove(&self.name);
    }
}

/// What a descriptor says about itself, if it is one of a struct_ops link.
pub(super) fn link_info(fd: &OwnedFd) -> Option<LinkInfo> {
    // BPF_OBJ_GET_INFO_BY_FD says the same, but not of what: maps and programs answer as well, in the same bytes.
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    LinkInfo::parse(&text)
}

impl LinkInfo {
    /// From the lines `KEY:\tVALUE` of fdinfo.
    fn parse(fdinfo: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut lines = fdinfo.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(found, value)| (found == key).then_some(value.trim()))
        };
        if value("link_type")? != "struct_ops" {
            return None;
        }
        let number = |key| value(key).map(str::parse::<u64>).transpose().ok();
        Some(LinkInfo {
            map: number("map_id")?.and_then(|id| u32::try_from(id).ok()),
            cgroup: number("cgroup_id")?.map_or(CgroupId::SYSTEM, CgroupId),
        })
    }
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    /// `link_detach` in union bpf_attr.
    #[repr(C)]
    struct LinkDetach {
        link_fd: u32,
    }
    let link_fd = u32::try_from(link.as_raw_fd()).map_err(io::Error::other)?;
    let attr = LinkDetach { link_fd };
    // SAFETY: `attr` is laid out as the kernel expects it and lives across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_DETACH,
            &raw const attr,
            size_of::<LinkDetach>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_what_is_attached_where() {
        let text = "pos:\t0\nflags:\t02000002\nlink_type:\tstruct_ops\nlink_id:\t7\nmap_id:\t12\ncgroup_id:\t345\n";
        let expected = LinkInfo {
            map: Some(12),
            cgroup: CgroupId(345),
        };
        assert_eq!(LinkInfo::parse(text), Some(expected));
    }

    #[test]
    fn one_that_was_detached_has_no_map_and_the_systems_no_cgroup() {
        let text = "link_type:\tstruct_ops\nlink_id:\t7\n";
        let expected = LinkInfo {
            map: None,
            cgroup: CgroupId::SYSTEM,
        };
        assert_eq!(LinkInfo::parse(text), Some(expected));
    }

    #[test]
    fn what_is_no_such_link_is_not_taken_for_one() {
        for text in [
            "",
            "pos:\t0\nmap_type:\t26\nmap_id:\t12\n",
            "link_type:\ttracing\nlink_id:\t7\n",
            "link_type:\tstruct_ops\ncgroup_id:\tmany\n",
        ] {
            assert_eq!(LinkInfo::parse(text), None, "{text}");
        }
    }
}
