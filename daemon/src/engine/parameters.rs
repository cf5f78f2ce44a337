// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said of the parameters of policy programs, also of those that are not loaded yet.

use bpf_oomd_bpf::policy_parameters;
use std::collections::{BTreeMap, HashMap};

/// By program, what is said of its parameters by name.
#[derive(Debug, Default)]
pub(super) struct Parameters(HashMap<String, BTreeMap<String, u64>>);

impl Parameters {
    /// Takes what is said in place of what was said before. Returns whether that is something else.
    pub(super) fn say(&mut self, program: &str, said: &BTreeMap<String, u64>) -> bool {
        if self.0.get(program) == Some(said) {
            return false;
        }
        self.0.insert(program.to_owned(), said.clone());
        true
    }

    /// Gives each parameter of a program that is loaded what is said, or its default. If nothing was said yet, it has its defaults
    /// already.
    pub(super) fn give<E>(
        &self,
        program: &str,
        set: impl Fn(&str, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(said) = self.0.get(program) else {
            return Ok(());
        };
        for parameter in policy_parameters(program) {
            let value = said.get(&parameter.name).copied();
            set(&parameter.name, value.unwrap_or(parameter.default))?;
        }
        Ok(())
    }
}
