// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters that a policy declares (`include/parameter.bpf.h`): variables in
//! a data section of their own, with their kind as the type.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use libbpf_rs::btf::types::{DataSec, Typedef, Var};
use libbpf_rs::btf::{BtfKind, BtfType, ReferencesType as _};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType, Object, OpenObject};

use crate::map::{MapError, Shape};
use crate::parts::{self, AdoptError, Adopted};
use crate::struct_ops::{self, LoadError};

/// The section, and so the map.
const SECTION: &str = ".data.params";

/// What the map is called when it is handed to another process.
const PART: &str = "parameters";

/// A parameter of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name as the administrator writes it, with dashes.
    pub name: String,
    /// What its value means.
    pub kind: ParameterKind,
    /// Its value if nobody says otherwise.
    pub default: u64,
}

/// What a parameter's value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A number of bytes.
    Bytes,
    /// A number of microseconds.
    Usec,
    /// A number.
    Number,
    /// 0 or 1.
    Bool,
}

/// A parameter and where in the section it is, in bytes.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) parameter: Parameter,
    offset: usize,
}

/// The parameters of an object that is not loaded yet.
pub(crate) fn declared(open: &OpenObject) -> Result<Vec<Placed>, LoadError> {
    let Some(map) = open.maps().find(|map| map.name() == SECTION) else {
        return Ok(Vec::new());
    };
    let values = map
        .initial_value()
        .ok_or(LoadError::Object("parameters without values"))?;
    let btf = struct_ops::object_types(open)?;
    let section = btf
        .type_by_name::<DataSec<'_>>(SECTION)
        .ok_or(LoadError::Object("parameters without types"))?;
    let mut placed = Vec::new();
    for entry in section.iter() {
        let variable = btf
            .type_by_id::<Var<'_>>(entry.ty)
            .ok_or(LoadError::Object("a parameter that is no variable"))?;
        let name = variable
            .name()
            .and_then(|name| name.to_str())
            .ok_or(LoadError::Object("a parameter without a name"))?;
        let kind =
            kind(variable.referenced_type()).ok_or(LoadError::Object("a parameter of no kind"))?;
        let offset = entry.offset as usize;
        let default = values
            .get(offset..)
            .and_then(|rest| rest.first_chunk())
            .ok_or(LoadError::Object("a parameter outside its section"))?;
        placed.push(Placed {
            parameter: Parameter {
                name: name.replace('_', "-"),
                kind,
                default: u64::from_ne_bytes(*default),
            },
            offset,
        });
    }
    placed.sort_by(|a, b| a.parameter.name.cmp(&b.parameter.name));
    Ok(placed)
}

/// Of the type `volatile oomd_parameter_KIND`.
fn kind(ty: BtfType<'_>) -> Option<ParameterKind> {
    let ty = match ty.kind() {
        BtfKind::Volatile => ty.next_type()?,
        _ => ty,
    };
    let name = Typedef::try_from(ty).ok()?.name()?;
    match name.to_str()? {
        "oomd_parameter_bytes" => Some(ParameterKind::Bytes),
        "oomd_parameter_usec" => Some(ParameterKind::Usec),
        "oomd_parameter_number" => Some(ParameterKind::Number),
        "oomd_parameter_bool" => Some(ParameterKind::Bool),
        _ => None,
    }
}

/// The parameters of a loaded program.
#[derive(Debug)]
pub(crate) struct Parameters {
    placed: Vec<Placed>,
    /// The section; `None` if the policy has no parameters.
    map: Option<MapHandle>,
    /// It is written as a whole, so by one at a time.
    writing: Mutex<()>,
}

impl Parameters {
    pub(crate) fn new(placed: Vec<Placed>, object: &Object) -> Result<Self, LoadError> {
        let map = object.maps().find(|map| map.name() == SECTION);
        Ok(Self {
            placed,
            map: map.map(|map| struct_ops::handle(&map)).transpose()?,
            writing: Mutex::default(),
        })
    }

    /// Those of a program that another process loaded from the same object,
    /// with the values that they have there.
    pub(crate) fn adopt(open: &OpenObject, kept: &mut Adopted) -> Result<Self, AdoptError> {
        let section = open.maps().find(|map| map.name() == SECTION);
        let size = section.and_then(|map| map.initial_value().map(<[u8]>::len));
        let shape = |value| Shape {
            ty: MapType::Array,
            name: PART,
            key: size_of::<u32>(),
            value,
            entries: 1,
            flags: 0,
        };
        let map = size.map(|size| shape(size).adopt(parts::take(kept, PART)?));
        Ok(Self {
            placed: declared(open).map_err(|_| AdoptError::Other(PART))?,
            map: map.transpose()?,
            writing: Mutex::default(),
        })
    }

    pub(crate) fn part(&self) -> Option<(&'static str, BorrowedFd<'_>)> {
        self.map.as_ref().map(|map| (PART, map.as_fd()))
    }

    pub(crate) fn set(&self, name: &str, value: u64) -> Result<(), MapError> {
        let missing = || MapError::NoSuchParameter(name.to_owned());
        let placed = self
            .placed
            .iter()
            .find(|placed| placed.parameter.name == name)
            .ok_or_else(missing)?;
        let map = self.map.as_ref().ok_or_else(missing)?;
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let key = 0_u32.to_ne_bytes();
        let mut section = map
            .lookup(&key, MapFlags::ANY)
            .map_err(MapError::libbpf("reading a policy's parameters"))?
            .ok_or_else(missing)?;
        section
            .get_mut(placed.offset..)
            .and_then(|rest| rest.first_chunk_mut())
            .map(|bytes| *bytes = value.to_ne_bytes())
            .ok_or_else(missing)?;
        map.update(&key, &section, MapFlags::ANY)
            .map_err(MapError::libbpf("writing a policy's parameters"))
    }
}
