// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong, as it is said on the bus.

use crate::core::RequestError;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

const NO_SUCH_UNIT: &str = "org.bpfoomd1.Error.NoSuchUnit";

/// An error that a caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Error {
    name: &'static str,
    message: String,
}

impl Error {
    /// The caller may not do that.
    pub(super) fn access_denied(message: &str) -> Self {
        Self::standard("org.freedesktop.DBus.Error.AccessDenied", message)
    }

    /// The caller may do that after somebody has proved who they are, but said that nobody is to be asked.
    pub(super) fn interaction_needed(message: &str) -> Self {
        Self::standard(
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
            message,
        )
    }

    /// Nothing can be said, because the daemon is about to end.
    pub(super) fn stopping() -> Self {
        Self::standard("org.freedesktop.DBus.Error.Failed", "bpf-oomd is stopping")
    }

    /// The caller wants too much at a time.
    pub(super) fn limits_exceeded(message: &str) -> Self {
        Self::standard("org.freedesktop.DBus.Error.LimitsExceeded", message)
    }

    /// An argument is not what it should be.
    pub(super) fn invalid(message: &str) -> Self {
        Self::standard("org.freedesktop.DBus.Error.InvalidArgs", message)
    }

    /// There is no such interface.
    pub(super) fn unknown_interface(message: &str) -> Self {
        Self::standard("org.freedesktop.DBus.Error.UnknownInterface", message)
    }

    /// There is no such property.
    pub(super) fn unknown_property(message: &str) -> Self {
        Self::standard("org.freedesktop.DBus.Error.UnknownProperty", message)
    }

    /// Nobody may change that property.
    pub(super) fn read_only(message: &str) -> Self {
        Self::standard("org.freedesktop.DBus.Error.PropertyReadOnly", message)
    }

    /// systemd has not loaded a unit.
    pub(super) fn not_loaded(unit: &str) -> Self {
        let unit = unit.to_owned();
        RequestError::NotLoaded { unit }.into()
    }

    fn standard(name: &'static str, message: &str) -> Self {
        let message = message.to_owned();
        Error { name, message }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        let name = match &error {
            RequestError::InvalidUnitName(_) => "org.bpfoomd1.Error.InvalidUnitName",
            RequestError::NoSuchPolicy(_) => "org.bpfoomd1.Error.NoSuchPolicy",
            RequestError::NoSuchUnit { .. } | RequestError::NotLoaded { .. } => NO_SUCH_UNIT,
            RequestError::TurnedOff { .. } => "org.bpfoomd1.Error.TurnedOff",
            RequestError::Refused { .. } => "org.bpfoomd1.Error.Refused",
            RequestError::NotPossible { .. } => "org.bpfoomd1.Error.NotPossible",
            RequestError::NotKept { .. } => "org.bpfoomd1.Error.NotKept",
        };
        let message = error.to_string();
        Error { name, message }
    }
}

impl zbus::DBusError for Error {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name).build(&(&self.message,))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_static_str_unchecked(self.name)
    }

    fn description(&self) -> Option<&str> {
        Some(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ERRORS;
    use crate::config::check_unit;
    use crate::policy::Policy;
    use zbus::DBusError;

    fn all() -> Vec<RequestError> {
        let unit = "x.service".to_owned();
        vec![
            check_unit("x").unwrap_err().into(),
            Policy::parse("bpf:bigest-leaf", &["biggest-leaf"])
                .unwrap_err()
                .into(),
            RequestError::NoSuchUnit { unit: unit.clone() },
            RequestError::TurnedOff {
                unit: unit.clone(),
                place: "/etc/bpf-oomd/conf.d/50-a.toml:2:11".into(),
            },
            RequestError::Refused {
                unit,
                policy: Policy::Kernel,
                reason: "no".into(),
            },
            RequestError::NotKept {
                reason: "no".into(),
            },
            RequestError::NotPossible {
                unit: "x.service".into(),
                policy: Policy::Kernel,
                reason: "no".into(),
            },
        ]
    }

    #[test]
    fn every_error_has_a_valid_name_of_its_own_and_says_what_the_core_says() {
        let mut names = std::collections::BTreeSet::new();
        for error in all() {
            let message = error.to_string();
            let error = Error::from(error);
            assert!(ErrorName::try_from(error.name).is_ok(), "{}", error.name);
            assert!(error.name.starts_with(ERRORS), "{}", error.name);
            assert!(names.insert(error.name), "{}", error.name);
            assert_eq!(error.description(), Some(&*message));
        }
        for error in [
            Error::access_denied(""),
            Error::interaction_needed(""),
            Error::stopping(),
            Error::invalid(""),
            Error::unknown_interface(""),
            Error::unknown_property(""),
            Error::read_only(""),
        ] {
            assert!(ErrorName::try_from(error.name).is_ok(), "{}", error.name);
        }
    }

    #[test]
    fn a_mistyped_policy_gets_a_suggestion() {
        let error = Error::from(all().remove(1));
        assert_eq!(error.name, "org.bpfoomd1.Error.NoSuchPolicy");
        assert!(
            error
                .message
                .ends_with("did you mean \"bpf:biggest-leaf\"?")
        );
    }
}
