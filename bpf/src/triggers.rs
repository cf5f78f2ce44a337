// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program that declares an OOM when a cgroup stalls (`pressure.bpf.c`).

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};

use crate::interface::{OOMD_TRIGGERS_MAX, bytes_of, oomd_trigger, read};
use crate::libbpf_log::Capture;
use crate::map::{MapError, Shape};
use crate::object::{self, PRESSURE};
use crate::parts::{self, AdoptError, Adopted, Parts};
use crate::pressure::Trigger;
use crate::shared::SharedMaps;
use crate::struct_ops::{self, Definition, LoadError};

/// Names in `pressure.bpf.c`.
const BIRTHS: &str = "births";
const TRIGGERS: &str = "oomd_triggers";
const TRIGGERS_LEN: &str = "oomd_triggers_len";
const OTHERS: [&str; 8] = [
    "triggers_0",
    "triggers_1",
    "triggers_2",
    "triggers_3",
    "triggers_4",
    "triggers_5",
    "triggers_6",
    "triggers_7",
];

const TRIGGERS_SHAPE: Shape = array(TRIGGERS, size_of::<oomd_trigger>(), OOMD_TRIGGERS_MAX);
const TRIGGERS_LEN_SHAPE: Shape = array(TRIGGERS_LEN, size_of::<u32>(), 1);

const fn array(name: &'static str, value: usize, entries: u32) -> Shape {
    Shape {
        ty: MapType::Array,
        name,
        key: size_of::<u32>(),
        value,
        entries,
        flags: 0,
    }
}

/// Triggers that one attachment can create.
pub const TRIGGERS_MAX: usize = OOMD_TRIGGERS_MAX as usize;

/// The program, loaded, verified and registered several times, attached to
/// nothing.
///
/// Triggers are created while one of its struct_ops maps is being attached (to
/// the system: cgroups are the triggers' matter), and go when it is detached.
/// Attaching goes like this: [`prepare()`](Self::prepare), then make the link,
/// then look at the [`results()`](Self::results).
pub struct PressureProgram {
    births: OwnedFd,
    others: Vec<OwnedFd>,
    triggers: MapHandle,
    triggers_len: MapHandle,
}

impl PressureProgram {
    /// Load the program, using the maps in `shared`.
    ///
    /// # Errors
    ///
    /// If the kernel does not take the program: because it lacks the
    /// interface, or because its verifier refuses. The error then carries the
    /// end of the verifier's log.
    pub fn load(shared: &SharedMaps) -> Result<Self, LoadError> {
        let said = Capture::start();
        let mut open = object::open(PRESSURE, "pressure", &said)?;
        shared.share_with(&mut open)?;
        let definitions = Definition::all(&open)?;
        let object = struct_ops::load("the pressure program", open, &said)?;
        let maps = Definition::register_all(&definitions, &object)?;
        let mut maps: Vec<_> = definitions.iter().zip(maps).collect();
        let mut take = |name: &str| {
            let at = maps.iter().position(|(definition, _)| definition.is(name));
            at.map(|at| maps.swap_remove(at).1)
                .ok_or(LoadError::Object("a struct_ops map is missing"))
        };
        Ok(Self {
            births: take(BIRTHS)?,
            others: OTHERS.into_iter().map(take).collect::<Result<_, _>>()?,
            triggers: struct_ops::handle(&object::map(&object, TRIGGERS)?)?,
            triggers_len: struct_ops::handle(&object::map(&object, TRIGGERS_LEN)?)?,
        })
    }

    /// Tells programs that do the same from others.
    #[must_use]
    pub fn fingerprint() -> u64 {
        parts::of_object(PRESSURE)
    }

    /// Go on with the program that another process loaded, with the same
    /// fingerprint.
    ///
    /// # Errors
    ///
    /// If something was not kept, or is something else.
    pub fn adopt(mut kept: Adopted) -> Result<Self, AdoptError> {
        let mut others = Vec::new();
        for name in OTHERS {
            others.push(parts::take(&mut kept, name)?);
        }
        Ok(Self {
            births: parts::take(&mut kept, BIRTHS)?,
            others,
            triggers: TRIGGERS_SHAPE.adopt(parts::take(&mut kept, TRIGGERS)?)?,
            triggers_len: TRIGGERS_LEN_SHAPE.adopt(parts::take(&mut kept, TRIGGERS_LEN)?)?,
        })
    }

    /// What another process needs to go on with it.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        let mut parts = vec![
            (BIRTHS, self.births.as_fd()),
            (TRIGGERS, self.triggers.as_fd()),
            (TRIGGERS_LEN, self.triggers_len.as_fd()),
        ];
        parts.extend(OTHERS.into_iter().zip(self.others()));
        parts
    }

    /// The struct_ops map that, once attached, also gives new cgroups the
    /// trigger that is said for them.
    #[must_use]
    pub fn births(&self) -> BorrowedFd<'_> {
        self.births.as_fd()
    }

    /// The struct_ops maps that do not. Each can be attached once at a time.
    pub fn others(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.others.iter().map(|map| map.as_fd())
    }

    /// What a struct_ops map is called among the [parts](Self::parts()): one of
    /// the [others](Self::others()) by its number, or that for births.
    #[must_use]
    pub fn name(number: Option<usize>) -> &'static str {
        number
            .and_then(|number| OTHERS.get(number).copied())
            .unwrap_or(BIRTHS)
    }

    /// Which one is called so.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<Option<usize>> {
        if name == BIRTHS {
            return Some(None);
        }
        OTHERS.iter().position(|other| *other == name).map(Some)
    }

    /// Say which triggers the next attachment is to create, by cgroup id, 0
    /// for the system; [`TRIGGERS_MAX`] at most, the rest is left out.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to change the map.
    pub fn prepare(&self, wanted: &[(u64, Trigger)]) -> Result<(), MapError> {
        let len = wanted.len().min(TRIGGERS_MAX);
        for (index, (cgroup_id, trigger)) in wanted.iter().take(len).enumerate() {
            self.triggers
                .update(
                    &(index as u32).to_ne_bytes(),
                    bytes_of(&trigger.encode(*cgroup_id)),
                    MapFlags::ANY,
                )
                .map_err(MapError::libbpf("writing down a trigger"))?;
        }
        self.triggers_len
            .update(
                &0_u32.to_ne_bytes(),
                &(len as u32).to_ne_bytes(),
                MapFlags::ANY,
            )
            .map_err(MapError::libbpf("writing down how many triggers there are"))
    }

    /// What came of the first `len` triggers that were prepared, in the same
    /// order: an errno for those that the kernel did not create.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the map lookup.
    pub fn results(&self, len: usize) -> Result<Vec<Option<i32>>, MapError> {
        (0..len.min(TRIGGERS_MAX) as u32)
            .map(|index| {
                let value = self
                    .triggers
                    .lookup(&index.to_ne_bytes(), MapFlags::ANY)
                    .map_err(MapError::libbpf("reading what came of a trigger"))?;
                Ok(value
                    .and_then(|bytes| read::<oomd_trigger>(&bytes))
                    .map(|trigger| -trigger.result)
                    .filter(|&errno| errno != 0))
            })
            .collect()
    }
}

impl fmt::Debug for PressureProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureProgram")
            .field("births", &self.births)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_programs_are_where_they_should_be() {
        let said = Capture::start();
        let open = object::open(PRESSURE, "pressure", &said).unwrap();
        let definitions = Definition::all(&open).unwrap();
        assert_eq!(definitions.len(), 1 + OTHERS.len());
        for name in OTHERS.iter().chain([&BIRTHS]) {
            assert!(definitions.iter().any(|one| one.is(name)), "{name}");
        }
        for definition in definitions {
            for member in ["init", "handle_psi_event", "handle_cgroup_offline"] {
                assert_eq!(definition.program(member).unwrap(), member);
            }
            let births = definition.program("handle_cgroup_online").is_some();
            assert_eq!(births, definition.is(BIRTHS));
        }
    }
}
