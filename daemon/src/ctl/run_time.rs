// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomctl set-policy`, `reset-policy` and `reload`: what the daemon is asked to do.

use super::Outcome;
use super::daemon::{Daemon, NoAnswer};
use crate::systemd::value::{ValueError, parse_time};
use std::time::Duration;

/// Gives a unit a policy.
pub(super) fn set_policy(unit: &str, policy: &str, length: Option<Duration>) -> Outcome {
    let micros = length.map_or(0, |length| {
        // What does not fit is as good as for ever.
        u64::try_from(length.as_micros()).unwrap_or(0)
    });
    change("SetPolicy", &(unit, policy, micros))
}

/// Takes away the policy that a unit was given.
pub(super) fn reset_policy(unit: &str) -> Outcome {
    change("ResetPolicy", &(unit,))
}

/// Lets the daemon read everything again.
pub(super) fn reload() -> Outcome {
    change("Reload", &())
}

fn change<B>(method: &str, body: &B) -> Outcome
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let daemon = Daemon::connect().await?;
        daemon.change(method, body).await
    });
    match result {
        Ok(()) => Ok(true),
        Err(NoAnswer::Refused { message, .. }) => {
            eprintln!("{message}");
            Ok(false)
        }
        Err(NoAnswer::NotThere) => Err("bpf-oomd does not run".into()),
        Err(NoAnswer::Trouble(error)) => Err(error.into()),
    }
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
mod tests {
    use super::*;

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
