// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF objects compiled into this crate.

use libbpf_rs::{Map, MapCore as _, MapType, Object, ObjectBuilder, OpenObject};

use crate::libbpf_log::Capture;
use crate::struct_ops::LoadError;

/// An object's bytes.
pub(crate) type Bytes = &'static Aligned<[u8]>;

/// libelf reads headers in place and wants them aligned.
#[repr(C, align(16))]
pub(crate) struct Aligned<T: ?Sized>(T);

impl Aligned<[u8]> {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The name and the object of a policy.
pub(crate) fn policy(name: &str) -> Result<(&'static str, Bytes), LoadError> {
    POLICIES
        .iter()
        .find(|(known, _)| *known == name)
        .copied()
        .ok_or_else(|| LoadError::UnknownPolicy(name.to_owned()))
}

/// Open an object without loading it.
pub(crate) fn open(bytes: Bytes, name: &str, said: &Capture) -> Result<OpenObject, LoadError> {
    ObjectBuilder::default()
        .name(name)
        .and_then(|builder| builder.open_memory(&bytes.0))
        .map_err(|source| LoadError::Refused {
            what: name.to_owned(),
            source,
            log: said.tail(),
        })
}

/// Let only these programs of an object be loaded, and leave out the maps that
/// are for others.
pub(crate) fn load_only(
    open: &mut OpenObject,
    programs: impl Fn(&str) -> bool,
    maps: impl Fn(&str, MapType) -> bool,
) -> Result<(), LoadError> {
    for mut program in open.progs_mut() {
        let wanted = program.name().to_str().is_some_and(&programs);
        program.set_autoload(wanted);
    }
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if !maps(&name, map.map_type()) {
            map.set_autocreate(false)
                .map_err(LoadError::libbpf("leaving out a map"))?;
        }
    }
    Ok(())
}

/// A map of a loaded object.
pub(crate) fn map<'obj>(object: &'obj Object, name: &str) -> Result<Map<'obj>, LoadError> {
    object
        .maps()
        .find(|map| map.name() == name)
        .ok_or(LoadError::Object("a map is missing"))
}
