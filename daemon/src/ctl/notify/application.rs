// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person calls the application of a unit.
//!
//! How desktops name the units of applications: <https://systemd.io/DESKTOP_ENVIRONMENTS>.

use super::desktop_entry::Entries;
use crate::ctl::look::harmless;
use crate::ctl::record::Kill;

/// Longer names are cut: whoever makes a unit names it.
const LONGEST: usize = 80;

/// Where nothing better is known.
const ICON: &str = "dialog-warning";

/// An application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Application {
    /// Its name.
    pub(super) name: String,
    /// Name or path of its icon.
    pub(super) icon: String,
}

/// The applications that are installed.
#[derive(Debug)]
pub(super) struct Applications(Entries);

impl Applications {
    /// Those that this process's environment says.
    pub(super) fn of_this_session() -> Self {
        Applications(Entries::of(|name| std::env::var(name).ok()))
    }

    /// The application that was killed, as well as it can be told.
    pub(super) fn of(&self, kill: &Kill) -> Application {
        let unit = kill.user_unit.as_ref().or(kill.unit.as_ref());
        let id = unit.and_then(|unit| id(unit));
        let entry = id.as_ref().and_then(|id| self.0.find(id));
        let (name, icon) = match entry {
            Some(entry) => (entry.name, entry.icon),
            None => (id.unwrap_or_else(|| plain_name(unit, kill)), None),
        };
        let name = harmless(&name).chars().take(LONGEST).collect();
        let icon = icon.unwrap_or_else(|| ICON.to_owned());
        Application { name, icon }
    }
}

/// The application's id, if the unit is one of an application: `app[-LAUNCHER]-ID-RANDOM.scope`, `app[-LAUNCHER]-ID[@RANDOM].service`,
/// `app[-LAUNCHER]-ID.slice`, or what the bus started, `dbus-:CONNECTION-NAME@NUMBER.service`. Dashes of an id are escaped.
fn id(unit: &str) -> Option<String> {
    let (stem, kind) = unit.rsplit_once('.')?;
    let (stem, instance) = match stem.split_once('@') {
        Some((stem, instance)) => (stem, Some(instance)),
        None => (stem, None),
    };
    let mut parts: Vec<&str> = stem.split('-').collect();
    match (parts.remove(0), kind) {
        ("app", "scope") => {
            // Some leave out what is random.
            if parts.len() > 1 {
                parts.pop();
            }
        }
        // Before templates were used for that.
        ("app", "service") if instance.is_none() && parts.len() > 1 => {
            let last = parts.last()?;
            if parts.len() > 2 || last.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                parts.pop();
            }
        }
        ("app", "service" | "slice") => {}
        ("dbus", "service") if parts.len() > 1 => {}
        _ => return None,
    }
    let id = unescaped(parts.last()?);
    (!id.is_empty()).then_some(id)
}

/// `\x2d` is a dash: systemd.unit(5), "String Escaping for Inclusion in Unit Names".
fn unescaped(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let digits = rest.get(at + 2..at + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[at + 4..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of what is no desktop's application.
fn plain_name(unit: Option<&String>, kill: &Kill) -> String {
    let processes = kill.processes.iter().flatten();
    let largest = processes.max_by_key(|process| process.bytes);
    let stem = unit.and_then(|unit| unit.rsplit_once('.'));
    let session = stem.and_then(|(stem, kind)| match kind {
        "scope" => stem.strip_prefix("session-"),
        _ => None,
    });
    match (stem, session, largest) {
        (_, Some(session), _) => format!("Session {session}"),
        // systemd-run and others that have no name for it.
        (Some((stem, _)), _, Some(process)) if stem.starts_with("run-") => process.name.clone(),
        (Some((stem, _)), ..) => unescaped(stem),
        (None, _, Some(process)) => process.name.clone(),
        (None, _, None) => "An application".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::record::Process;
    use std::fs;

    #[test]
    fn ids_are_found_in_the_names_of_units() {
        for (unit, expected) in [
            ("app-org.gnome.Terminal-1234.scope", "org.gnome.Terminal"),
            ("app-gnome-firefox-1234.scope", "firefox"),
            (r"app-gnome-gnome\x2dterminal-77.scope", "gnome-terminal"),
            ("app-org.kde.konsole@af09.service", "org.kde.konsole"),
            ("app-KDE-org.kde.kate@1.service", "org.kde.kate"),
            ("app-org.kde.kate.service", "org.kde.kate"),
            ("app-glib-org.x.Y-1234.service", "org.x.Y"),
            ("app-org.x.Y-1234.service", "org.x.Y"),
            ("app-gnome-org.x.Y.service", "org.x.Y"),
            (r"app-steam\x2dnative@autostart.service", "steam-native"),
            ("app-org.gnome.Terminal.slice", "org.gnome.Terminal"),
            ("app-x.scope", "x"),
            ("dbus-:1.2-org.gnome.Boxes@0.service", "org.gnome.Boxes"),
        ] {
            assert_eq!(id(unit).as_deref(), Some(expected), "{unit}");
        }
        for unit in [
            "emacs.service",
            "app.slice",
            "app-.slice",
            "application-x.scope",
            "session-3.scope",
            "run-u3.service",
            "dbus.service",
            "",
        ] {
            assert_eq!(id(unit), None, "{unit}");
        }
    }

    #[test]
    fn escapes_are_read_and_what_is_none_is_left() {
        assert_eq!(unescaped(r"a\x2db\x5c\xc3\xa4"), "a-b\\ä");
        assert_eq!(unescaped(r"\x2"), r"\x2");
        assert_eq!(unescaped(r"\xä"), r"\xä");
        assert_eq!(unescaped(r"\x\x2d"), r"\x-");
    }

    fn killed(user_unit: Option<&str>, unit: &str) -> Kill {
        let process = |bytes, name: &str| Process {
            pid: 1,
            bytes,
            name: name.into(),
        };
        Kill {
            unit: Some(unit.into()),
            user_unit: user_unit.map(str::to_owned),
            processes: Some(vec![process(1, "sh"), process(9, "cc1plus")]),
            ..Kill::default()
        }
    }

    #[test]
    fn an_application_has_the_name_and_the_icon_of_its_desktop_file() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("applications")).unwrap();
        let file = data.path().join("applications/org.example.Editor.desktop");
        fs::write(file, "[Desktop Entry]\nName=Text Editor\nIcon=editor\n").unwrap();
        let directory = data.path().display().to_string();
        let entries = Entries::of(|name| match name {
            "XDG_DATA_HOME" => Some(directory.clone()),
            _ => None,
        });
        let applications = Applications(entries);
        let named = |user_unit, unit| applications.of(&killed(user_unit, unit));
        assert_eq!(
            named(Some("app-org.example.Editor-12.scope"), "user@1.service"),
            Application {
                name: "Text Editor".into(),
                icon: "editor".into()
            }
        );
        for (user_unit, name) in [
            ("app-org.example.Other-12.scope", "org.example.Other"),
            (r"app-..\x2f..\x2fetc\x2fx-12.scope", "../../etc/x"),
            ("emacs.service", "emacs"),
            (r"my\x2dshell.service", "my-shell"),
            ("run-r4711.scope", "cc1plus"),
        ] {
            let told = named(Some(user_unit), "user@1.service");
            assert_eq!((&*told.name, &*told.icon), (name, ICON));
        }
        assert_eq!(named(None, "session-3.scope").name, "Session 3");
        let long = format!("{}\x07.service", "x".repeat(200));
        let told = named(Some(&long), "user@1.service");
        assert_eq!(told.name.len(), LONGEST);
    }
}
