// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading an object with a struct_ops map and registering that map, attached
//! to nothing.
//!
//! libbpf has one call that registers a struct_ops map and attaches it to the
//! whole system. A policy is attached to cgroups, one link each, by a system
//! call of the engine's; so registering is done here. It is giving the map its
//! value: the kernel's struct, with program fds in place of function pointers
//! (`bpf_struct_ops_map_update_elem()` in kernel/bpf/bpf_struct_ops.c). libbpf
//! makes that value while loading but keeps it to itself.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use libbpf_rs::btf::types::{DataSec, MemberAttr, Struct, Var};
use libbpf_rs::btf::{Btf, BtfKind, HasSize as _, ReferencesType as _};
use libbpf_rs::{
    AsRawLibbpf as _, Map, MapCore as _, MapFlags, MapHandle, MapType, Object, OpenMap, OpenObject,
};

use crate::libbpf_log::Capture;

/// Where libbpf looks for struct_ops maps that are attached through links.
const SECTION: &str = ".struct_ops.link";

/// Why a BPF object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No policy of that name is compiled in.
    #[error("there is no policy program {0:?}")]
    UnknownPolicy(String),
    /// A system call or libbpf failed.
    #[error("{what}")]
    Libbpf {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: libbpf_rs::Error,
    },
    /// The kernel or libbpf refused the object.
    #[error("the kernel does not take {what}; the last it said:\n{log}")]
    Refused {
        /// Which object.
        what: String,
        /// Why it failed.
        #[source]
        source: libbpf_rs::Error,
        /// The last lines of the verifier's and libbpf's log.
        log: String,
    },
    /// The object is not what this module expects: a defect of the build.
    #[error("malformed BPF object: {0}")]
    Object(&'static str),
    /// The kernel keeps from this process what the program has to know.
    #[error("the kernel does not tell {0}")]
    Untold(&'static str),
    /// The kernel's BTF lacks a type or describes it otherwise than expected.
    #[error("this kernel has no usable type {0}")]
    KernelType(String),
}

impl LoadError {
    pub(crate) fn libbpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Libbpf { what, source }
    }
}

/// A struct_ops map as the object wrote it, with programs by name.
pub(crate) struct Definition {
    map: OsString,
    /// The struct's name, the same in the object and in the kernel.
    type_name: String,
    members: Vec<(String, Value)>,
}

enum Value {
    Program(OsString),
    Bytes(Vec<u8>),
}

/// Load an object that has been opened and prepared.
pub(crate) fn load(what: &str, open: OpenObject, said: &Capture) -> Result<Object, LoadError> {
    open.load().map_err(|source| LoadError::Refused {
        what: what.to_owned(),
        source,
        log: said.tail(),
    })
}

impl Definition {
    /// The one struct_ops map of an object that is not loaded yet.
    pub(crate) fn of(open: &OpenObject) -> Result<Self, LoadError> {
        let mut all = Self::all(open)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(LoadError::Object("not just one struct_ops map")),
        }
    }

    /// The struct_ops maps of an object that is not loaded yet. (After the
    /// load libbpf gives the kernel's size for the object's value.)
    pub(crate) fn all(open: &OpenObject) -> Result<Vec<Self>, LoadError> {
        open.maps()
            .filter(|map| map.map_type() == MapType::StructOps)
            .map(|map| Self::of_map(open, &map))
            .collect()
    }

    /// Whether it is the map of that name.
    pub(crate) fn is(&self, map: &str) -> bool {
        self.map == map
    }

    fn of_map(open: &OpenObject, map: &OpenMap<'_>) -> Result<Self, LoadError> {
        let value = map
            .initial_value()
            .ok_or(LoadError::Object("struct_ops map without a value"))?;

        let btf = object_types(open)?;
        let ty = variable_type(&btf, map.name().as_encoded_bytes())
            .ok_or(LoadError::Object("struct_ops map without a type"))?;

        let mut members = Vec::new();
        for member in ty.iter() {
            let (Some(name), MemberAttr::Normal { offset }) = (member.name, member.attr) else {
                return Err(LoadError::Object(
                    "struct_ops member without name or offset",
                ));
            };
            let start = offset as usize / 8;
            let kind = btf
                .type_by_id::<libbpf_rs::btf::BtfType<'_>>(member.ty)
                .map(|ty| ty.skip_mods_and_typedefs().kind());
            let value = if kind == Some(BtfKind::Ptr) {
                // libbpf puts its program object's address where the object
                // names a function.
                let address = value
                    .get(start..)
                    .and_then(|rest| rest.first_chunk())
                    .map(|bytes| usize::from_ne_bytes(*bytes))
                    .ok_or(LoadError::Object("struct_ops value is too short"))?;
                if address == 0 {
                    continue;
                }
                let program = open
                    .progs()
                    .find(|program| program.as_libbpf_object().as_ptr().addr() == address)
                    .ok_or(LoadError::Object("struct_ops member is no program"))?;
                Value::Program(program.name().to_owned())
            } else {
                // SAFETY: the BTF is valid; an unknown id gives an error.
                let size = unsafe {
                    libbpf_sys::btf__resolve_size(btf.as_libbpf_object().as_ptr(), member.ty.into())
                };
                let bytes = usize::try_from(size)
                    .ok()
                    .and_then(|size| value.get(start..start.checked_add(size)?))
                    .ok_or(LoadError::Object("struct_ops value is too short"))?;
                Value::Bytes(bytes.to_vec())
            };
            members.push((name.to_string_lossy().into_owned(), value));
        }
        Ok(Self {
            map: map.name().to_owned(),
            type_name: ty
                .name()
                .map(|name| name.to_string_lossy().into_owned())
                .ok_or(LoadError::Object("struct_ops type without a name"))?,
            members,
        })
    }

    /// Register the map of the object, loaded by now. The descriptor keeps map
    /// and programs alive.
    pub(crate) fn register(&self, object: &Object) -> Result<OwnedFd, LoadError> {
        self.register_with(&kernel_types()?, object)
    }

    /// The same for all of an object's maps, in their order.
    pub(crate) fn register_all(all: &[Self], object: &Object) -> Result<Vec<OwnedFd>, LoadError> {
        let kernel = kernel_types()?;
        all.iter()
            .map(|definition| definition.register_with(&kernel, object))
            .collect()
    }

    fn register_with(&self, kernel: &Btf<'_>, object: &Object) -> Result<OwnedFd, LoadError> {
        let map = object
            .maps()
            .find(|map| map.name() == self.map)
            .ok_or(LoadError::Object("the struct_ops map is gone"))?;
        let value = self.kernel_value(kernel, object)?;
        map.update(&0_u32.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(LoadError::libbpf("registering the struct_ops map"))?;
        duplicate(map.as_fd())
    }

    fn kernel_value(&self, kernel: &Btf<'_>, object: &Object) -> Result<Vec<u8>, LoadError> {
        let outer_name = format!("bpf_struct_ops_{}", self.type_name);
        let missing = |name: &str| LoadError::KernelType(name.to_owned());
        let outer = kernel
            .type_by_name::<Struct<'_>>(&outer_name)
            .ok_or_else(|| missing(&outer_name))?;
        let inner = kernel
            .type_by_name::<Struct<'_>>(&self.type_name)
            .ok_or_else(|| missing(&self.type_name))?;
        let data = member_offset(&outer, "data").ok_or_else(|| missing(&outer_name))?;

        let mut kernel_value = vec![0; outer.size()];
        for (name, value) in &self.members {
            // libbpf has loaded the object, so a member that the kernel lacks
            // is one that it may lack.
            let Some(offset) = member_offset(&inner, name) else {
                continue;
            };
            let bytes = match value {
                Value::Bytes(bytes) => bytes.clone(),
                Value::Program(program) => u64::from(program_fd(object, program)?)
                    .to_ne_bytes()
                    .to_vec(),
            };
            kernel_value
                .get_mut(data + offset..)
                .and_then(|rest| rest.get_mut(..bytes.len()))
                .ok_or_else(|| missing(&self.type_name))?
                .copy_from_slice(&bytes);
        }
        Ok(kernel_value)
    }
}

/// The types of the running kernel. Reading them takes a while.
fn kernel_types() -> Result<Btf<'static>, LoadError> {
    Btf::from_vmlinux().map_err(LoadError::libbpf("reading the kernel's types"))
}

/// The types that an object describes.
pub(crate) fn object_types(open: &OpenObject) -> Result<Btf<'_>, LoadError> {
    // SAFETY: `open` keeps the object alive for longer than the BTF, which
    // borrows it, and nothing else changes it meanwhile.
    let object = unsafe { open.as_libbpf_object().as_ref() };
    Btf::from_bpf_object(object)
        .map_err(LoadError::libbpf("reading the BPF object's types"))?
        .ok_or(LoadError::Object("no BTF"))
}

/// A handle that outlives the object's own.
pub(crate) fn handle(map: &Map<'_>) -> Result<MapHandle, LoadError> {
    MapHandle::try_from(map).map_err(LoadError::libbpf("duplicating a map's file descriptor"))
}

/// A descriptor that outlives the object's own.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, LoadError> {
    fd.try_clone_to_owned()
        .map_err(|error| LoadError::libbpf("duplicating a file descriptor")(error.into()))
}

fn program_fd(object: &Object, name: &OsString) -> Result<u32, LoadError> {
    object
        .progs()
        .find(|program| program.name() == name)
        .and_then(|program| u32::try_from(program.as_fd().as_raw_fd()).ok())
        .ok_or(LoadError::Object("a struct_ops program was not loaded"))
}

/// The struct type of a variable in the struct_ops section.
fn variable_type<'btf>(btf: &'btf Btf<'_>, variable: &[u8]) -> Option<Struct<'btf>> {
    let section = btf.type_by_name::<DataSec<'_>>(SECTION)?;
    section
        .iter()
        .filter_map(|entry| btf.type_by_id::<Var<'_>>(entry.ty))
        .find(|var| {
            var.name()
                .is_some_and(|name| name.as_encoded_bytes() == variable)
        })
        .and_then(|var| Struct::try_from(var.referenced_type().skip_mods_and_typedefs()).ok())
}

/// In bytes.
fn member_offset(ty: &Struct<'_>, name: &str) -> Option<usize> {
    ty.iter()
        .find(|member| member.name.is_some_and(|found| found == name))
        .and_then(|member| match member.attr {
            MemberAttr::Normal { offset } => Some(offset as usize / 8),
            MemberAttr::BitField { .. } => None,
        })
}

#[cfg(test)]
impl Definition {
    /// A member that is a C string.
    pub(crate) fn text(&self, member: &str) -> Option<String> {
        self.members.iter().find_map(|(name, value)| match value {
            Value::Bytes(bytes) if name == member => {
                let end = bytes.iter().position(|&byte| byte == 0)?;
                String::from_utf8(bytes[..end].to_vec()).ok()
            }
            _ => None,
        })
    }

    /// A member that is a program, by the program's name.
    pub(crate) fn program(&self, member: &str) -> Option<&std::ffi::OsStr> {
        self.members.iter().find_map(|(name, value)| match value {
            Value::Program(program) if name == member => Some(program.as_os_str()),
            _ => None,
        })
    }
}
