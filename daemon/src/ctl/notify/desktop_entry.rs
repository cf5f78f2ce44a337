// SPDX-License-Identifier: MIT OR Apache-2.0
//! Desktop files, as far as they say what an application is called and what it looks like.
//!
//! <https://specifications.freedesktop.org/desktop-entry-spec/>

use crate::systemd::files::Files;
use std::path::PathBuf;

/// What is said about an application.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, in the user's language if there is one.
    pub(super) name: String,
    /// Name or path of its icon.
    pub(super) icon: Option<String>,
}

/// Where desktop files are, and in which language they are read.
#[derive(Debug)]
pub(super) struct Entries {
    directories: Vec<PathBuf>,
    /// What may be in brackets after a key, the best first.
    locales: Vec<String>,
}

impl Entries {
    /// As the environment says: the XDG Base Directory Specification, and locale(7).
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = said("XDG_DATA_HOME").or_else(|| Some(said("HOME")? + "/.local/share"));
        let others = said("XDG_DATA_DIRS").unwrap_or_else(|| "/usr/local/share:/usr/share".into());
        let all = home.into_iter().chain(others.split(':').map(str::to_owned));
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(said);
        Entries {
            directories: all
                .map(PathBuf::from)
                // Relative ones are to be ignored.
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.join("applications"))
                .collect(),
            locales: locale.map_or_else(Vec::new, |locale| locales(&locale)),
        }
    }

    /// The entry of an application.
    pub(super) fn find(&self, id: &str) -> Option<Entry> {
        // No id of an application, but a way to somewhere else.
        if id.contains('/') || id.starts_with('.') {
            return None;
        }
        let files = Files::below("/");
        let directories = self.directories.iter();
        directories
            .flat_map(|directory| names(id).map(|name| directory.join(name)))
            .find_map(|path| {
                let text = files.read(&path).ok()?;
                self.parse(&String::from_utf8_lossy(&text))
            })
    }

    fn parse(&self, text: &str) -> Option<Entry> {
        let mut group = "";
        let mut name: Option<(usize, String)> = None;
        let mut icon = None;
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix('[') {
                group = rest.strip_suffix(']').unwrap_or_default();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            if group != "Desktop Entry" {
                continue;
            }
            let (key, value) = (key.trim_end(), unescaped(value.trim_start()));
            match key.strip_prefix("Name") {
                Some(locale) => {
                    if let Some(rank) = self.rank(locale)
                        && name.as_ref().is_none_or(|(best, _)| rank < *best)
                    {
                        name = Some((rank, value));
                    }
                }
                None if key == "Icon" => icon = Some(value).filter(|icon| !icon.is_empty()),
                None => {}
            }
        }
        let (_, name) = name.filter(|(_, name)| !name.is_empty())?;
        Some(Entry { name, icon })
    }

    /// How well what follows a key fits: 0 is best. None if it is in another language, or another key.
    fn rank(&self, locale: &str) -> Option<usize> {
        if locale.is_empty() {
            return Some(self.locales.len());
        }
        let locale = locale.strip_prefix('[')?.strip_suffix(']')?;
        self.locales.iter().position(|known| known == locale)
    }
}

/// Where the file of an id may be: `a-b` is a-b.desktop, or b.desktop in the directory a.
fn names(id: &str) -> impl Iterator<Item = String> {
    let dashes = id.bytes().filter(|byte| *byte == b'-').count();
    (0..=dashes.min(4)).map(move |count| id.replacen('-', "/", count) + ".desktop")
}

/// What fits a locale `LANG_COUNTRY.ENCODING@MODIFIER`, in the order of the specification.
fn locales(locale: &str) -> Vec<String> {
    let (rest, modifier) = match locale.split_once('@') {
        Some((rest, modifier)) => (rest, Some(modifier)),
        None => (locale, None),
    };
    let rest = rest.split('.').next().unwrap_or_default();
    let (language, country) = match rest.split_once('_') {
        Some((language, country)) => (language, Some(country)),
        None => (rest, None),
    };
    let mut all = Vec::new();
    if let (Some(country), Some(modifier)) = (country, modifier) {
        all.push(format!("{language}_{country}@{modifier}"));
    }
    if let Some(country) = country {
        all.push(format!("{language}_{country}"));
    }
    if let Some(modifier) = modifier {
        all.push(format!("{language}@{modifier}"));
    }
    all.push(language.to_owned());
    all
}

/// A value without its escapes.
fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('s') => text.push(' '),
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::fs;

    fn entries(variables: &[(&str, &str)]) -> Entries {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        Entries::of(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn the_best_language_is_chosen_wherever_it_stands() {
        const FILE: &str = "# x\n[Desktop Entry]\nType=Application\nName[de_AT]=Schreiber\nName=Writer\n\
            Name[de] = Schreibprogramm\nNames=no\nIcon=writer\n\n[Desktop Action new]\nName=New\nIcon=new\n";
        for (locale, expected) in [
            ("de_AT.UTF-8", "Schreiber"),
            ("de_DE.UTF-8@euro", "Schreibprogramm"),
            ("de", "Schreibprogramm"),
            ("fr_FR.UTF-8", "Writer"),
            ("C", "Writer"),
        ] {
            let entry = entries(&[("LANG", locale)]).parse(FILE).unwrap();
            assert_eq!(
                (&*entry.name, entry.icon.as_deref()),
                (expected, Some("writer"))
            );
        }
        assert_eq!(entries(&[]).parse(FILE).unwrap().name, "Writer");
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let entries = entries(&[]);
        for text in [
            "",
            "Name=x",
            "[Desktop Entry]\nName=\n",
            "[Desktop Entry\nName=x",
        ] {
            assert_eq!(entries.parse(text), None, "{text}");
        }
        let entry = entries
            .parse("[Desktop Entry]\nName=a\\sb\\\\c\\\nIcon=")
            .unwrap();
        assert_eq!((&*entry.name, entry.icon), ("a b\\c\\", None));
    }

    #[test]
    fn the_users_own_file_comes_before_the_systems_and_directories_are_part_of_an_id() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, name: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("[Desktop Entry]\nName={name}\n")).unwrap();
        };
        put("home/.local/share/applications/x.desktop", "Mine");
        put("share/applications/x.desktop", "The system's");
        put("share/applications/kde/konsole-x.desktop", "Konsole");
        put("share/secret.desktop", "Not an application");
        let at = |path: &str| root.path().join(path).display().to_string();
        let entries = entries(&[
            ("HOME", &at("home")),
            (
                "XDG_DATA_DIRS",
                &format!("relative:{}:{}", at("none"), at("share")),
            ),
        ]);
        let name = |id: &str| entries.find(id).map(|entry| entry.name);
        assert_eq!(name("x").as_deref(), Some("Mine"));
        assert_eq!(name("kde-konsole-x").as_deref(), Some("Konsole"));
        assert_eq!(name("y"), None);
        for way in ["../secret", "..-secret", "kde/konsole-x", "."] {
            assert_eq!(name(way), None, "{way}");
        }
    }
}
