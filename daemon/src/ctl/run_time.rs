// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl set-policy`, `reset-policy` and `reload`: what the daemon is asked to do.

use super::agent::Agent;
use super::daemon::{Daemon, run};
use super::{Outcome, Output, json};
use crate::systemd::value::{ValueError, parse_time};
use serde::Serialize;
use std::time::Duration;

/// What has been done.
#[derive(Debug, Default, Serialize)]
struct Done<'a> {
    /// For which unit.
    unit: Option<&'a str>,
    /// Which policy it has now, by what was set.
    policy: Option<&'a str>,
    /// For how long.
    for_usec: Option<u64>,
}

/// Gives a unit a policy.
pub(super) fn set_policy(
    output: &Output,
    unit: &str,
    policy: &str,
    length: Option<Duration>,
    ask: bool,
) -> Outcome {
    // What does not fit is as good as for ever.
    let micros = length.and_then(|length| u64::try_from(length.as_micros()).ok());
    let done = Done {
        unit: Some(unit),
        policy: Some(policy),
        for_usec: micros,
    };
    let body = (unit, policy, micros.unwrap_or(0));
    change(output, "SetPolicy", &body, &done, ask)
}

/// Takes away the policy that a unit was given.
pub(super) fn reset_policy(output: &Output, unit: &str, ask: bool) -> Outcome {
    let done = Done {
        unit: Some(unit),
        ..Done::default()
    };
    change(output, "ResetPolicy", &(unit,), &done, ask)
}

/// Lets the daemon read everything again.
pub(super) fn reload(output: &Output, ask: bool) -> Outcome {
    change(output, "Reload", &(), &Done::default(), ask)
}

/// Lets the daemon do something. With `ask`, a person may be asked for a password.
fn change<B>(output: &Output, method: &str, body: &B, done: &Done<'_>, ask: bool) -> Outcome
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    // There as long as it may be needed.
    let _agent = ask.then(Agent::start);
    run(async {
        let daemon = Daemon::connect().await?;
        daemon.change(method, body, ask).await
    })??;
    if output.json {
        json::write(done)?;
    }
    Ok(true)
}

/// Reads the time of `--for`. None for `infinity`.
pub(super) fn length(text: &str) -> Result<Length, ValueError> {
    match parse_time(text)? {
        // The bus's way of saying "until reset", and not what anybody means by it.
        Some(Duration::ZERO) => Err(ValueError::Time),
        length => Ok(Length(length)),
    }
}

/// A time, or for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length(pub(super) Option<Duration>);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::ctl) fn sample() -> impl Serialize {
        Done::default()
    }

    #[test]
    fn times_are_systemds_and_nothing_is_no_time() {
        assert_eq!(
            length("1min 30s"),
            Ok(Length(Some(Duration::from_secs(90))))
        );
        assert_eq!(length("2"), Ok(Length(Some(Duration::from_secs(2)))));
        assert_eq!(length("infinity"), Ok(Length(None)));
        for text in ["0", "0s", "", "soon"] {
            assert_eq!(length(text), Err(ValueError::Time), "{text}");
        }
    }
}
