// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where objects are.

use super::MANAGER_PATH;
use crate::policy::Policy;
use std::fmt::Write;
use zbus::OwnedObjectPath;

/// Below which the objects of units are.
pub(super) const UNITS: &str = "/org/bpfoomd1/unit";
/// Below which those of policies are.
pub(super) const POLICIES: &str = "/org/bpfoomd1/policy";

/// A name as a part of an object path, as systemd makes it for its own objects (sd_bus_path_encode(3)): what is neither a letter nor a
/// digit, and a digit at the beginning, as two hexadecimal digits after a `_`.
pub(super) fn label(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut label = String::with_capacity(name.len() + 8);
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || index > 0 && byte.is_ascii_digit() {
            label.push(char::from(byte));
        } else {
            let _ = write!(label, "_{byte:02x}");
        }
    }
    label
}

/// Where the object of a unit is.
pub(super) fn of_unit(unit: &str) -> OwnedObjectPath {
    path(UNITS, &label(unit))
}

/// Where the object of a policy is.
pub(super) fn of_policy(policy: &Policy) -> OwnedObjectPath {
    path(POLICIES, &label(&policy.to_string()))
}

fn path(above: &str, label: &str) -> OwnedObjectPath {
    let path = OwnedObjectPath::try_from(format!("{above}/{label}"));
    // A label is valid whatever the name is.
    path.unwrap_or_else(|_| zbus::ObjectPath::from_static_str_unchecked(MANAGER_PATH).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::unit_name::{OBJECT_PREFIX, of_object_path};
    use proptest::prelude::*;

    #[test]
    fn names_are_written_as_systemd_does_it() {
        for (name, label) in [
            ("-.slice", "_2d_2eslice"),
            ("getty@tty1.service", "getty_40tty1_2eservice"),
            ("2fa.service", "_32fa_2eservice"),
            ("a_b.scope", "a_5fb_2escope"),
            ("dev-x\\x2dy.swap", "dev_2dx_5cx2dy_2eswap"),
            ("ü.mount", "_c3_bc_2emount"),
            ("", "_"),
        ] {
            assert_eq!(super::label(name), label);
        }
        let path = of_policy(&Policy::Bpf("biggest-leaf".into()));
        assert_eq!(path.as_str(), "/org/bpfoomd1/policy/bpf_3abiggest_2dleaf");
    }

    proptest! {
        #[test]
        fn every_name_has_a_path_of_its_own(name in "(.|\n){1,40}") {
            let path = of_unit(&name);
            prop_assert!(path.as_str().starts_with(UNITS));
            let label = label(&name);
            prop_assert_eq!(of_object_path(&format!("{OBJECT_PREFIX}{label}")), Some(name));
        }
    }
}
