// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine that leaves everything to the kernel: policy programs attached to cgroups with `bpf_oom_ops`.
//!
//! Together with [`probe`](super::probe) and the BPF code's `kernel.h`, this is the only place that knows the shape of the
//! kernel's interface.

use super::{AttachError, Engine, Event, EventsError, Kill, KilledProcess};
use crate::fault::causes;
use crate::policy::{CgroupId, Policy};
use bpf_oomd_bpf::{EventsError as RingError, PolicyProgram, SharedMaps};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Attaches a registered struct_ops map to a cgroup, or to the system if `cgroup` is None. The attachment lasts as long as
/// the returned link is open somewhere.
///
/// libbpf has no function for this: it refuses cgroup options for struct_ops links.
///
/// # Errors
///
/// `EBUSY` if something is attached there already, `ENODEV` if the cgroup has no memory controller or is being removed,
/// `EBADF` if `cgroup` is no cgroup v2 directory, `EINVAL` if the map's type cannot be attached to cgroups.
pub fn struct_ops_link(map: BorrowedFd<'_>, cgroup: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    /// enum bpf_cmd in linux/bpf.h
    const BPF_LINK_CREATE: libc::c_long = 28;
    /// enum bpf_attach_type in linux/bpf.h
    const BPF_STRUCT_OPS: u32 = 44;

    /// `link_create` in union bpf_attr. `relative_fd` is the start of the `cgroup` member of its inner union.
    #[repr(C)]
    #[derive(Default)]
    struct LinkCreate {
        map_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        relative_fd: u32,
        padding: u32,
        expected_revision: u64,
    }
    let number =
        |fd: RawFd| u32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF));
    // 0 stands for "no cgroup", so a directory that happens to be descriptor 0 goes by another number: duplicates start at 3.
    let moved = match cgroup {
        Some(fd) if fd.as_raw_fd() == 0 => Some(fd.try_clone_to_owned()?),
        _ => None,
    };
    let cgroup = moved.as_ref().map(OwnedFd::as_fd).or(cgroup);
    let attr = LinkCreate {
        map_fd: number(map.as_raw_fd())?,
        attach_type: BPF_STRUCT_OPS,
        relative_fd: cgroup.map_or(Ok(0), |fd| number(fd.as_raw_fd()))?,
        ..LinkCreate::default()
    };
    // SAFETY: `attr` is initialised, padding included, laid out as the kernel expects it, and lives across the call, which
    // does not keep it; its size is passed along.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_CREATE,
            &raw const attr,
            size_of::<LinkCreate>(),
        )
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The engine.
pub struct KernelEngine {
    shared: SharedMaps,
    /// Loaded when first used, and kept: a policy that was wanted once is wanted again.
    programs: HashMap<String, PolicyProgram>,
    /// Links; closing one detaches.
    attachments: HashMap<CgroupId, OwnedFd>,
}

impl KernelEngine {
    /// An engine with nothing attached.
    pub fn new() -> Result<Self, RingError> {
        Ok(KernelEngine {
            shared: SharedMaps::new()?,
            programs: HashMap::new(),
            attachments: HashMap::new(),
        })
    }

    fn program(&mut self, name: &str) -> Result<&PolicyProgram, AttachError> {
        if !self.programs.contains_key(name) {
            let program =
                PolicyProgram::load(name, &self.shared).map_err(|error| AttachError::Load {
                    name: name.to_owned(),
                    reason: causes(&error),
                })?;
            self.programs.insert(name.to_owned(), program);
        }
        Ok(&self.programs[name])
    }
}

impl Engine for KernelEngine {
    fn programs(&self) -> &'static [&'static str] {
        bpf_oomd_bpf::policy_names()
    }

    fn attach(
        &mut self,
        id: CgroupId,
        cgroup: Option<BorrowedFd<'_>>,
        policy: &Policy,
    ) -> Result<(), AttachError> {
        let Policy::Bpf(name) = policy else {
            // The walk from a cgroup that ran out does not stop at one without an attachment.
            return Err(AttachError::Unsupported(
                "policy \"kernel\" has no effect below a slice with a policy program: \
                 the slice's program decides for everything in it",
            ));
        };
        let program = self.program(name)?;
        let link =
            struct_ops_link(program.struct_ops_map(), cgroup).map_err(|error| {
                match error.raw_os_error() {
                    Some(libc::ENODEV) => AttachError::NoMemoryController,
                    Some(libc::EBUSY) => AttachError::Busy,
                    _ => AttachError::Io {
                        what: "attaching",
                        source: error,
                    },
                }
            })?;
        self.attachments.insert(id, link);
        Ok(())
    }

    fn detach(&mut self, id: CgroupId) {
        self.attachments.remove(&id);
    }

    fn events_fd(&self) -> BorrowedFd<'_> {
        self.shared.epoll_fd()
    }

    fn events(&mut self, into: &mut Vec<Event>) -> Result<(), EventsError> {
        self.shared
            .drain(|event| into.push(event.into()))
            .map_err(|error| EventsError(causes(&error)))
    }

    fn lost_events(&self) -> Result<u64, EventsError> {
        self.shared
            .lost()
            .map_err(|error| EventsError(causes(&error)))
    }
}

impl From<bpf_oomd_bpf::Event> for Event {
    fn from(event: bpf_oomd_bpf::Event) -> Self {
        match event {
            bpf_oomd_bpf::Event::CgroupOffline { cgroup_id, .. } => {
                Event::CgroupGone(CgroupId(cgroup_id))
            }
            bpf_oomd_bpf::Event::Kill(record) => Event::Kill(Kill {
                time_ns: record.time_ns,
                domain: CgroupId(record.domain),
                attachment: CgroupId(record.attachment),
                victim: CgroupId(record.victim),
                program: record.policy,
                usage_before: record.usage_before,
                victim_bytes: record.victim_bytes,
                victim_score: record.victim_score,
                candidates: record.candidates,
                handler_us: record.handler_us,
                processes_total: record.processes_total,
                processes: record
                    .processes
                    .into_iter()
                    .map(|process| KilledProcess {
                        pid: process.pid,
                        comm: process.comm,
                        bytes: process.bytes,
                    })
                    .collect(),
            }),
        }
    }
}
