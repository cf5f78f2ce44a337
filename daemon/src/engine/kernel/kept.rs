// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an earlier daemon left, sorted by what it is.

use super::link::{LinkInfo, link_info};
use super::names::{Loaded, Name, Part};
use crate::policy::CgroupId;
use crate::systemd::fd_store::{FdStore, Inherited};
use bpf_oomd_bpf::{Adopted, Parts};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::os::fd::OwnedFd;
use tracing::warn;

/// What was left, and is not taken yet.
pub(super) struct Kept {
    /// Links of policies that are still attached.
    pub(super) attachments: Vec<(CgroupId, OwnedFd, LinkInfo)>,
    /// Links of the pressure program.
    pub(super) pressure_links: Vec<(Part, OwnedFd)>,
    parts: HashMap<(Loaded, u64), Adopted>,
    /// What is of another version, or nothing that is known. It stays where it is.
    foreign: BTreeSet<String>,
}

impl Kept {
    pub(super) fn sort(inherited: Inherited, store: &FdStore) -> Self {
        let mut kept = Kept {
            attachments: Vec::new(),
            pressure_links: Vec::new(),
            parts: HashMap::new(),
            foreign: BTreeSet::new(),
        };
        for (name, fd) in inherited {
            match Name::parse(&name) {
                Some(Name::Attachment(id)) => match link_info(&fd) {
                    Some(LinkInfo { map: None, .. }) => store.remove(&name),
                    Some(info) if info.cgroup == id => kept.attachments.push((id, fd, info)),
                    _ => drop(kept.foreign.insert(name)),
                },
                Some(Name::Part(part)) if part.of == Loaded::PressureLink => match link_info(&fd) {
                    Some(LinkInfo { map: None, .. }) => store.remove(&name),
                    Some(_) => kept.pressure_links.push((part, fd)),
                    None => drop(kept.foreign.insert(name)),
                },
                Some(Name::Part(Part { of, version, part })) => {
                    let parts = kept.parts.entry((of, version)).or_default();
                    parts.insert(part, fd);
                }
                None => drop(kept.foreign.insert(name)),
            }
        }
        kept
    }

    /// What was kept of one version of something, if that can be gone on with; else it is kept no longer.
    pub(super) fn adopt<T, E: Display>(
        &mut self,
        of: Loaded,
        version: u64,
        store: &FdStore,
        adopt: impl FnOnce(Adopted) -> Result<T, E>,
    ) -> Option<T> {
        let parts = self.parts.remove(&(of.clone(), version))?;
        let names: Vec<String> = parts.keys().cloned().collect();
        match adopt(parts) {
            Ok(adopted) => Some(adopted),
            Err(error) => {
                warn!(
                    "What an earlier daemon left cannot be gone on with, and is replaced: {error}"
                );
                remove(&of, version, names, store);
                None
            }
        }
    }

    /// Everything that is of some kind, with its version.
    pub(super) fn all(&self, of: impl Fn(&Loaded) -> bool) -> Vec<(&Loaded, u64, &Adopted)> {
        self.parts
            .iter()
            .filter(|((found, _), _)| of(found))
            .map(|((found, version), parts)| (found, *version, parts))
            .collect()
    }

    /// Keeps no longer what nobody took. Returns what is not known and stays.
    pub(super) fn end(self, store: &FdStore) -> BTreeSet<String> {
        for ((of, version), parts) in self.parts {
            remove(&of, version, parts.into_keys(), store);
        }
        self.foreign
    }
}

/// Keeps everything of one version of something.
pub(super) fn keep(of: &Loaded, version: u64, parts: Parts<'_>, store: &FdStore) {
    for (part, fd) in parts {
        let name = Part {
            of: of.clone(),
            version,
            part: part.to_owned(),
        };
        store.keep(&name.to_string(), fd);
    }
}

fn remove(of: &Loaded, version: u64, parts: impl IntoIterator<Item = String>, store: &FdStore) {
    for part in parts {
        let name = Part {
            of: of.clone(),
            version,
            part,
        };
        store.remove(&name.to_string());
    }
}
