// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose a victim was.

use crate::ctl::record::Kill;

/// Whether what was killed is a unit of the user's own service manager, or one of the user's login sessions.
///
/// A user's other units, system services with `User=`, are no applications: whoever runs them reads the journal.
pub(super) fn is_of(kill: &Kill, uid: u32) -> bool {
    let Some(unit) = &kill.unit else {
        return false;
    };
    if kill.user_unit.is_some() {
        return *unit == format!("user@{uid}.service");
    }
    // Names of sessions do not say whose they are; the slice that logind puts them into does.
    let is_session = unit.starts_with("session-") && unit.ends_with(".scope");
    let below = format!("/user-{uid}.slice/{unit}");
    is_session
        && kill.cgroup.as_ref().is_some_and(|path| {
            let mut found = path.match_indices(&below);
            found.any(|(at, _)| matches!(path.as_bytes().get(at + below.len()), None | Some(b'/')))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::unit_name::of_cgroup;

    fn killed(path: &str) -> Kill {
        let units = of_cgroup(path);
        Kill {
            unit: Some(units.unit),
            user_unit: units.user_unit,
            cgroup: Some(path.into()),
            ..Kill::default()
        }
    }

    #[test]
    fn units_of_the_users_manager_and_sessions_are_the_users() {
        for path in [
            "/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope",
            "/user.slice/user-1000.slice/user@1000.service/a.service/sub",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/session-3.scope/sub",
        ] {
            assert!(is_of(&killed(path), 1000), "{path}");
            assert!(!is_of(&killed(path), 100), "{path}");
            assert!(!is_of(&killed(path), 0), "{path}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for path in [
            "/system.slice/a.service",
            "/system.slice/session-3.scope",
            "/user.slice/user-1000.slice/user@1000.service",
            "/user.slice/user-1000.slice/user-runtime-dir@1000.service",
            "/user.slice/user-1001.slice/user@1001.service/user-1000.slice/session-1.scope",
        ] {
            assert!(!is_of(&killed(path), 1000), "{path}");
        }
        let mut unknown = killed("/user.slice/user-1000.slice/session-3.scope");
        unknown.cgroup = None;
        assert!(!is_of(&unknown, 1000));
        assert!(!is_of(&Kill::default(), 0));
    }
}
