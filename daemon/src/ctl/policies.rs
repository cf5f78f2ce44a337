// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl policies`: which policies there are, what each does, and what it can be told.

use super::daemon::{Daemon, run};
use super::look::{Look, Style, harmless};
use super::number::count;
use super::record::Policy;
use super::{Outcome, Output, json};
use std::fmt::Write;

/// Shows all of them.
pub(super) fn policies(output: &Output) -> Outcome {
    let policies = run(async { Daemon::connect().await?.policies().await })??;
    if output.json {
        json::write(&policies)?;
    } else {
        output.text(&text(&policies, &output.look))?;
    }
    Ok(true)
}

fn text(policies: &[Policy], look: &Look) -> String {
    let one = |policy: &Policy| {
        let name = look.paint(Style::Strong, &policy.name).into_owned();
        let attached = count(policy.attachments.into(), "attachment", "attachments");
        let mut text = format!("{name} ({attached})\n  {}\n", harmless(&policy.description));
        for parameter in &policy.parameters {
            let value = look.paint(Style::Strong, &parameter.value);
            let default = match parameter.value == parameter.default {
                true => "the default".to_owned(),
                false => format!("default {}", parameter.default),
            };
            let (name, kind) = (&parameter.name, &parameter.kind);
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name} = {value} ({kind}; {default})");
        }
        text
    };
    let all: Vec<String> = policies.iter().map(one).collect();
    all.join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ctl::record::Parameter;

    pub(in crate::ctl) fn policy(name: &str, parameters: Vec<Parameter>) -> Policy {
        Policy {
            name: name.into(),
            description: "Kills somebody.".into(),
            parameters,
            attachments: 1,
        }
    }

    pub(in crate::ctl) fn parameter(value: &str) -> Parameter {
        Parameter {
            name: "min-size".into(),
            kind: "bytes".into(),
            value: value.into(),
            default: "0".into(),
        }
    }

    #[test]
    fn a_policy_is_told_with_its_parameters() {
        let all = [
            policy("bpf:a", vec![parameter("64M"), parameter("0")]),
            policy("kernel", Vec::new()),
        ];
        assert_eq!(
            text(&all, &Look::default()),
            "bpf:a (1 attachment)\n  \
               Kills somebody.\n  \
               min-size = 64M (bytes; default 0)\n  \
               min-size = 0 (bytes; the default)\n\
             \n\
             kernel (1 attachment)\n  \
               Kills somebody.\n"
        );
    }
}
