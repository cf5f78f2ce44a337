// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF side of bpf-oomd: policy programs, compiled into this crate, and
//! what user space needs to load them and to understand what they say.
//!
//! | module | subject | touches the kernel |
//! |---|---|---|
//! | [`policy`] | policy programs: load, settings, ranking | yes |
//! | [`events`] | the ring buffer that all policies share | yes |
//! | [`record`] | what an event says | no |
//! | [`settings`] | what an attachment is told | no |
//! | [`candidate`] | what a ranking says | no |
//!
//! Attaching is the engine's business; this crate hands out the map to attach.

pub mod candidate;
pub mod events;
mod interface;
mod libbpf_log;
pub mod policy;
pub mod record;
pub mod settings;
mod struct_ops;

pub use candidate::{Candidate, Excluded, Ranking};
pub use events::{Events, EventsError};
pub use policy::{MapError, PolicyProgram, policy_names};
pub use record::{DecodeError, Event, KillRecord, KilledProcess};
pub use settings::{AttachmentSettings, Kill};
pub use struct_ops::LoadError;
