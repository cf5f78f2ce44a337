// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a path leads inside a root directory, and which names it was looked up by on the way.
//!
//! The kernel would follow links itself (`openat2()` with `RESOLVE_IN_ROOT`), but does not tell what it passed. A change of
//! any of these names may change where the path leads, so a watch has to know them.

use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// How many links are followed: as many as the kernel does (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The path inside the root without links.
    pub(super) path: PathBuf,
    /// Whether something is there.
    pub(super) exists: bool,
}

/// Follows an absolute path. `look_up` is called with a directory and a name in it before that name is looked up, so that
/// whoever watches the directory from then on sees every later change.
///
/// # Errors
///
/// If links go round, or something on the way is no directory or cannot be looked into. That the path leads to nothing is no
/// error.
pub(super) fn follow(
    root: &Path,
    path: &Path,
    look_up: &mut dyn FnMut(&Path, &OsStr),
) -> io::Result<End> {
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    let mut exists = true;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        if exists {
            look_up(&here, &name);
        }
        here.push(&name);
        // Nothing is below what does not exist. The rest of the path says only where it would be.
        if !exists {
            continue;
        }
        let real = below(root, &here);
        match fs::symlink_metadata(&real) {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = fs::read_link(&real)?;
                here.pop();
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            Ok(metadata) if !metadata.is_dir() && !ahead.is_empty() => {
                return Err(Errno::NOTDIR.into());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => exists = false,
            Err(error) => return Err(error),
        }
    }
    Ok(End { path: here, exists })
}

/// A path inside the root as the rest of the system knows it.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The names in a path, `..` among them.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/d")).unwrap();
        fs::create_dir_all(root.path().join("opt/v1")).unwrap();
        fs::write(root.path().join("opt/v1/x"), "").unwrap();
        root
    }

    fn end(root: &tempfile::TempDir, path: &str) -> io::Result<(String, bool)> {
        let end = follow(root.path(), Path::new(path), &mut |_, _| {})?;
        Ok((end.path.to_str().unwrap().to_owned(), end.exists))
    }

    #[test]
    fn absolute_and_relative_links_stay_inside_the_root() {
        let root = tree();
        symlink("/opt/v1", root.path().join("opt/now")).unwrap();
        symlink("/opt/now/x", root.path().join("etc/d/absolute")).unwrap();
        symlink(
            "../../../../../opt/now/x",
            root.path().join("etc/d/relative"),
        )
        .unwrap();
        for path in ["/etc/d/absolute", "/etc/d/relative", "/../opt/./v1/x"] {
            assert_eq!(end(&root, path).unwrap(), ("/opt/v1/x".into(), true));
        }
    }

    #[test]
    fn what_does_not_exist_has_a_place_all_the_same() {
        let root = tree();
        symlink("../../dev/null", root.path().join("etc/d/x")).unwrap();
        assert_eq!(end(&root, "/etc/d/x").unwrap(), ("/dev/null".into(), false));
        assert_eq!(
            end(&root, "/etc/no/../b/c").unwrap(),
            ("/etc/b/c".into(), false)
        );
    }

    #[test]
    fn links_that_go_round_and_files_in_the_way_are_errors() {
        let root = tree();
        symlink("loop", root.path().join("etc/loop")).unwrap();
        let error = end(&root, "/etc/loop").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        let error = end(&root, "/opt/v1/x/y").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
    }

    #[test]
    fn every_name_on_the_way_is_told_up_to_the_first_that_is_missing() {
        let root = tree();
        symlink("/opt/v1", root.path().join("etc/now")).unwrap();
        let mut names = Vec::new();
        follow(root.path(), Path::new("/etc/now/y/z"), &mut |dir, name| {
            names.push(dir.join(name));
        })
        .unwrap();
        let names: Vec<&str> = names.iter().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["/etc", "/etc/now", "/opt", "/opt/v1", "/opt/v1/y"]);
    }
}
