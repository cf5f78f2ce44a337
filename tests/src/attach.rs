// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registering a struct_ops map and making links of it.
//!
//! libbpf does both in one call and knows system-wide links only, so both halves are done here by hand.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::AsRawLibbpf;
use libbpf_rs::btf::types::{MemberAttr, Struct, Var};
use libbpf_rs::btf::{Btf, BtfKind, HasSize, ReferencesType};

use crate::cgroup::Cgroup;
use crate::program::Program;

/// A struct_ops link; closing it detaches.
pub struct Link(OwnedFd);

/// Registers struct_ops map `name` and attaches it to `cgroup`.
#[track_caller]
pub fn attach(program: &Program, name: &str, cgroup: &Cgroup) -> Link {
    match try_attach(program, name, Some(cgroup)) {
        Ok(link) => link,
        Err(error) => panic!("attach {name} to {}: {error}", cgroup.path().display()),
    }
}

/// Registers struct_ops map `name` and attaches it to the system.
#[track_caller]
pub fn attach_to_system(program: &Program, name: &str) -> Link {
    match try_attach(program, name, None) {
        Ok(link) => link,
        Err(error) => panic!("attach {name} to the system: {error}"),
    }
}

/// Registers struct_ops map `name` and attaches it to `cgroup`, or to the system with `None`.
pub fn try_attach(program: &Program, name: &str, cgroup: Option<&Cgroup>) -> io::Result<Link> {
    register(program, name)?;
    let directory = cgroup.map(Cgroup::open);
    link(program, name, directory.as_ref().map(AsFd::as_fd))
}

/// Makes a link of a struct_ops map that was registered, to the cgroup with that directory or to the system.
pub fn link(program: &Program, name: &str, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Link> {
    let map = program.map(name);
    bpf_oomd::engine::kernel::struct_ops_link(map.as_fd(), cgroup).map(Link)
}

/// Gives the kernel the value of struct_ops map `name`, as it is written in the BPF program. A second time changes nothing.
pub fn register(program: &Program, name: &str) -> io::Result<()> {
    let map = program.map(name);
    let value = kernel_value(program, name);
    let key = 0u32;
    // SAFETY: the map is open; key and value have the sizes that a struct_ops map of this kernel type has.
    let result = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_fd().as_raw_fd(),
            (&raw const key).cast(),
            value.as_ptr().cast(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        // A registered value cannot be changed any more, nor does it have to be.
        error if error == -libc::EBUSY => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// The map's value in the kernel's layout: program fds where the kernel has function pointers, everything else as the object has it.
///
/// libbpf composes the same when it loads an object, but keeps it to itself.
fn kernel_value(program: &Program, name: &str) -> Vec<u8> {
    let object = program
        .object()
        .btf()
        .expect("the object's BTF")
        .expect("the object's BTF");
    let ours = object
        .type_by_name::<Var<'_>>(name)
        .and_then(|variable| Struct::try_from(variable.referenced_type()).ok())
        .unwrap_or_else(|| panic!("{name} is no struct_ops map"));
    let type_name = ours.name().expect("a struct with a name").to_string_lossy();
    let layout = kernel_layout(&type_name);

    // libbpf keeps the object's own value, with a pointer to the bpf_program in every function pointer's place.
    let map = program.map(name);
    let mut size = 0;
    // SAFETY: the map belongs to a loaded object.
    let start =
        unsafe { libbpf_sys::bpf_map__initial_value(map.as_libbpf_object().as_ptr(), &mut size) };
    // SAFETY: the value of a struct_ops map is as large as its type in the object, and lives as long as that.
    let own = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), ours.size()) };

    let mut value = vec![0; layout.size];
    for member in ours.iter() {
        let member_name = member.name.expect("a member with a name").to_string_lossy();
        let MemberAttr::Normal { offset: bits } = member.attr else {
            panic!("{type_name}.{member_name} is a bit field");
        };
        let from = bits as usize / 8;
        let to = *layout
            .members
            .get(&*member_name)
            .unwrap_or_else(|| panic!("this kernel's {type_name} has no {member_name}"));
        let member_type = object
            .type_by_id::<libbpf_rs::btf::BtfType<'_>>(member.ty)
            .expect("a member's type")
            .skip_mods_and_typedefs();
        let length = size_of_member(&member_type);
        if member_type.kind() == BtfKind::Ptr {
            let pointer = &own[from..from + length];
            let pointer = usize::from_ne_bytes(pointer.try_into().expect("a pointer"));
            if pointer != 0 {
                let program = std::ptr::with_exposed_provenance(pointer);
                // SAFETY: libbpf put the program's address there, and it lives as long as the object.
                let fd = unsafe { libbpf_sys::bpf_program__fd(program) };
                let fd = u64::try_from(fd).expect("a program that was loaded");
                value[to..to + length].copy_from_slice(&fd.to_ne_bytes());
            }
        } else {
            value[to..to + length].copy_from_slice(&own[from..from + length]);
        }
    }
    value
}

/// Where the kernel has what in a struct_ops map's value.
struct Layout {
    size: usize,
    members: HashMap<String, usize>,
}

/// Looks a struct_ops type up in the kernel's BTF, once: that takes a while.
fn kernel_layout(type_name: &str) -> Arc<Layout> {
    static KNOWN: Mutex<BTreeMap<String, Arc<Layout>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(layout) = known.get(type_name) {
        return Arc::clone(layout);
    }
    let kernel = Btf::from_vmlinux().expect("the kernel's BTF");
    let structure = |name: &str| {
        kernel
            .type_by_name::<Struct<'_>>(name)
            .unwrap_or_else(|| panic!("this kernel has no struct {name}"))
    };
    let wrapper = structure(&format!("bpf_struct_ops_{type_name}"));
    let data = offset(&wrapper, "data").expect("the value's data");
    let operations = structure(type_name);
    let names = operations.iter().filter_map(|member| member.name);
    let members = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter_map(|name| offset(&operations, &name).map(|offset| (name, data + offset)))
        .collect();
    let layout = Arc::new(Layout {
        size: wrapper.size(),
        members,
    });
    known.insert(type_name.to_owned(), Arc::clone(&layout));
    layout
}

fn offset(structure: &Struct<'_>, name: &str) -> Option<usize> {
    structure
        .iter()
        .find(|member| member.name.is_some_and(|its_name| its_name == name))
        .and_then(|member| match member.attr {
            MemberAttr::Normal { offset } => Some(offset as usize / 8),
            MemberAttr::BitField { .. } => None,
        })
}

/// Takes what struct_ops types are made of: function pointers and arrays of characters.
fn size_of_member(member: &libbpf_rs::btf::BtfType<'_>) -> usize {
    match member.kind() {
        BtfKind::Ptr => size_of::<usize>(),
        BtfKind::Array => libbpf_rs::btf::types::Array::try_from(*member)
            .expect("an array")
            .capacity(),
        kind => panic!("a struct_ops member of kind {kind:?}"),
    }
}

impl Link {
    /// Takes a link that came from elsewhere.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The id of the cgroup it was attached to as `BPF_OBJ_GET_INFO_BY_FD` says it, 0 for the system.
    pub fn cgroup_id(&self) -> u64 {
        // `struct bpf_link_info` (include/uapi/linux/bpf.h): type, id and prog_id, then at 16 the arm for struct_ops,
        // { u32 map_id; u32 :32; u64 cgroup_id; }. libbpf's copy does not know the last one.
        let mut info = [0u64; 16];
        let mut length = u32::try_from(size_of_val(&info)).expect("a small struct");
        // SAFETY: `info` is `length` bytes long and larger than any bpf_link_info.
        let result = unsafe {
            libbpf_sys::bpf_obj_get_info_by_fd(
                self.0.as_raw_fd(),
                info.as_mut_ptr().cast::<c_void>(),
                &mut length,
            )
        };
        assert_eq!(result, 0, "BPF_OBJ_GET_INFO_BY_FD of a link");
        info[3]
    }

    /// A line `KEY:\tVALUE` of the link's `/proc/self/fdinfo` file.
    pub fn fdinfo(&self, key: &str) -> Option<String> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim().to_owned())
    }

    /// Detaches without closing (`BPF_LINK_DETACH`).
    pub fn detach(&self) -> io::Result<()> {
        // SAFETY: a system call on an open file descriptor.
        match unsafe { libbpf_sys::bpf_link_detach(self.0.as_raw_fd()) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// Pins the link to a path in a bpffs.
    pub fn pin(&self, path: &str) -> io::Result<()> {
        let path = std::ffi::CString::new(path)?;
        // SAFETY: an open file descriptor and a string with NUL.
        match unsafe { libbpf_sys::bpf_obj_pin(self.0.as_raw_fd(), path.as_ptr()) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// Opens a pinned link.
    pub fn open_pinned(path: &str) -> io::Result<Self> {
        let path = std::ffi::CString::new(path)?;
        // SAFETY: a string with NUL.
        let fd = unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: a new file descriptor that nobody else knows.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// `struct bpf_attr`'s arm for `BPF_LINK_CREATE`, as far as struct_ops links use it. Tests fill in what no correct program would.
#[repr(C)]
#[derive(Default)]
pub struct LinkCreate {
    /// Fd of the struct_ops map.
    pub map_fd: u32,
    /// Not used by struct_ops links of this interface.
    pub target_fd: u32,
    /// `BPF_STRUCT_OPS`.
    pub attach_type: u32,
    /// Flags; there are none.
    pub flags: u32,
    /// A cgroup's directory, 0 for the system.
    pub relative_fd: u32,
    /// Padding.
    pub reserved: u32,
    /// Not used.
    pub expected_revision: u64,
}

impl LinkCreate {
    /// The attribute for a link of struct_ops map `name` to the system.
    pub fn of(program: &Program, name: &str) -> Self {
        Self {
            map_fd: fd_number(program.map(name).as_fd()),
            attach_type: libbpf_sys::BPF_STRUCT_OPS,
            ..Self::default()
        }
    }

    /// Calls the system.
    pub fn call(&self) -> io::Result<Link> {
        // SAFETY: the attribute is as large as said and outlives the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                libbpf_sys::BPF_LINK_CREATE,
                std::ptr::from_ref(self),
                size_of::<Self>(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).expect("a file descriptor");
        // SAFETY: a new file descriptor that nobody else knows.
        Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// A file descriptor as system call attributes carry it.
pub fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("an open file descriptor")
}
