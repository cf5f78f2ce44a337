// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of a loaded object has to stay open for another process to go on with
//! it, and by what it is known that both mean the same.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::object::Bytes;

/// Everything of one object that another process needs, by name.
pub type Parts<'a> = Vec<(&'static str, BorrowedFd<'a>)>;

/// The same as another process hands it over.
pub type Adopted = HashMap<String, OwnedFd>;

/// What kept parts cannot be taken for.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Something was not kept.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something is not what its name says.
    #[error("{0} is something else than its name says")]
    Other(&'static str),
    /// A system call or libbpf failed.
    #[error("{what}")]
    Libbpf {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: libbpf_rs::Error,
    },
}

impl AdoptError {
    pub(crate) fn libbpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Libbpf { what, source }
    }
}

/// Take one part.
pub(crate) fn take(parts: &mut Adopted, name: &'static str) -> Result<OwnedFd, AdoptError> {
    parts.remove(name).ok_or(AdoptError::Missing(name))
}

/// The layout of everything that programs and user space tell each other.
const INTERFACE: &[u8] = include_bytes!("../include/intf.h");

/// Tells one version of the interface from another.
pub(crate) fn of_interface() -> u64 {
    hash([INTERFACE])
}

/// Tells one version of an object, and of the interface, from another.
pub(crate) fn of_object(object: Bytes) -> u64 {
    hash([object.bytes(), INTERFACE])
}

/// FNV-1a with 64 bits (draft-eastlake-fnv). Nobody has an interest in making
/// two objects look the same: who can hand over descriptors is root already.
fn hash<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    inputs
        .into_iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{KERNEL_KILLS, POLICIES, PRESSURE};

    #[test]
    fn the_hash_is_the_one_that_its_authors_describe() {
        assert_eq!(hash([b"".as_slice()]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash([b"a".as_slice()]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash([b"foobar".as_slice()]), 0x8594_4171_f739_67e8);
        assert_eq!(
            hash([b"foo".as_slice(), b"bar"]),
            hash([b"foobar".as_slice()])
        );
    }

    #[test]
    fn every_object_is_told_from_every_other() {
        let mut all: Vec<u64> = POLICIES.iter().map(|(_, bytes)| of_object(bytes)).collect();
        all.extend([of_object(PRESSURE), of_object(KERNEL_KILLS), of_interface()]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
