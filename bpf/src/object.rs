// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF objects compiled into this crate.

use libbpf_rs::{Map, MapCore as _, Object, ObjectBuilder, OpenObject};

use crate::libbpf_log::Capture;
use crate::struct_ops::LoadError;

/// An object's bytes.
pub(crate) type Bytes = &'static Aligned<[u8]>;

/// libelf reads headers in place and wants them aligned.
#[repr(C, align(16))]
pub(crate) struct Aligned<T: ?Sized>(T);

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

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

/// A map of a loaded object.
pub(crate) fn map<'obj>(object: &'obj Object, name: &str) -> Result<Map<'obj>, LoadError> {
    object
        .maps()
        .find(|map| map.name() == name)
        .ok_or(LoadError::Object("a map is missing"))
}
