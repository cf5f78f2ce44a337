// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ManagedOOMPreference=`, as systemd passes it on: an extended attribute of the unit's cgroup (systemd.resource-control(5)).
//!
//! Here it is read for those who ask why a unit is treated as it is, and so that the configuration does not overrule a unit's own
//! files. Policy programs read the attributes of all cgroups themselves, at the moment of an OOM.

use crate::cgroup::Tree;
use crate::policy::{Assignment, Key, Layer, Preference, Provenance, Value};

const OMIT: &str = "user.oomd_omit";
const AVOID: &str = "user.oomd_avoid";

/// What the attributes of the cgroup at `path` say. Those of a cgroup that was given to somebody else than root are not the unit
/// file's word: its owner can write them.
pub fn read(tree: &Tree, path: &str) -> Layer {
    if tree.owner(path) != Some(0) {
        return Layer::default();
    }
    let is_set = |name| {
        tree.attribute(path, name)
            .is_some_and(|value| is_true(&value))
    };
    // As in systemd-oomd, the stronger one wins.
    let preference = if is_set(OMIT) {
        Preference::Omit
    } else if is_set(AVOID) {
        Preference::Avoid
    } else {
        return Layer::default();
    };
    let at = Provenance {
        file: tree.directory(path),
        line: 0,
        column: 0,
    };
    let value = Some(Value::Preference(preference));
    [(Key::Preference, Assignment { value, at })]
        .into_iter()
        .collect()
}

/// What systemd takes for true (`getxattr_at_bool()` in src/basic/xattr-util.c, which refuses a NUL, and `parse_boolean()` in
/// src/basic/parse-util.c). Policy programs do the same.
fn is_true(value: &[u8]) -> bool {
    ["1", "yes", "y", "true", "t", "on"]
        .into_iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_is_what_systemd_takes_for_it() {
        for value in ["1", "yes", "Y", "TRUE", "t", "on", "oN"] {
            assert!(is_true(value.as_bytes()), "{value:?}");
        }
        for value in ["", "0", "no", "11", "of", "yess", "1\n", "1\0"] {
            assert!(!is_true(value.as_bytes()), "{value:?}");
        }
    }
}
