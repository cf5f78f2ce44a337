// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF side of bpf-oomd: policy programs, compiled into this crate, and
//! what user space needs to load them and to understand what they say.
//!
//! | module | subject | touches the kernel |
//! |---|---|---|
//! | [`policy`] | policy programs: load, ranking | yes |
//! | [`stock`] | their ranking on kernels without bpf_oom_ops | yes |
//! | [`triggers`] | the program that declares an OOM when a cgroup stalls | yes |
//! | [`kernel_kills`] | the programs that record kills by the kernel's own killer | yes |
//! | [`shared`] | the maps that all programs share | yes |
//! | [`events`] | of these, the ring buffer | yes |
//! | [`record`] | what an event says | no |
//! | [`settings`] | what is said about a cgroup | no |
//! | [`pressure`] | when a cgroup's stall is an OOM | no |
//! | [`candidate`] | what a ranking says | no |
//! | [`parameter`] | what a policy can be told by name | setting one |
//! | [`parts`] | what another process needs to go on with what is loaded | no |
//!
//! Attaching to cgroups is the engine's business; this crate hands out the map to
//! attach.

pub mod candidate;
pub mod events;
mod interface;
pub mod kernel_kills;
mod libbpf_log;
mod map;
mod mapped;
mod object;
pub mod parameter;
pub mod parts;
pub mod policy;
pub mod pressure;
pub mod record;
pub mod settings;
pub mod shared;
pub mod stock;
mod struct_ops;
pub mod triggers;

pub use candidate::{Candidate, Excluded, Ranking};
pub use events::EventsError;
pub use kernel_kills::KernelKills;
pub use map::MapError;
pub use parameter::{Parameter, ParameterKind};
pub use parts::{AdoptError, Adopted, Parts};
pub use policy::{PolicyProgram, policy_names, policy_parameters};
pub use pressure::{CgroupPressure, Outcome, Pressure, Stall, Trigger, Watch};
pub use record::{
    DecodeError, Event, KernelKillRecord, KillRecord, KilledProcess, PressureRecord, Reason,
};
pub use settings::{CgroupSettings, Kill, PolicyMark, Preference};
pub use shared::SharedMaps;
pub use stock::StockPolicy;
pub use struct_ops::LoadError;
pub use triggers::PressureProgram;
