// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cgroup tree: from paths to ids and back.

use crate::policy::CgroupId;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where systemd mounts the tree.
pub const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// Why the tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something else is there: cgroup v1, or nothing.
    #[error("{} is not a cgroup v2 tree", path.display())]
    NotCgroup2 {
        /// Where it should be.
        path: PathBuf,
    },
}

/// The cgroup v2 tree. Paths are as systemd says them in `ControlGroup`: from the root of the tree, which is `/`.
#[derive(Debug)]
pub struct Tree {
    mount_point: PathBuf,
    root: OwnedFd,
}

impl Tree {
    /// Opens the tree that is mounted at `mount_point`.
    pub fn open(mount_point: &Path) -> Result<Self, TreeError> {
        /// linux/magic.h
        const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
        let failed = |error: rustix::io::Errno| TreeError::Open {
            path: mount_point.to_owned(),
            source: error.into(),
        };
        let root = rustix::fs::open(mount_point, directory(), Mode::empty()).map_err(failed)?;
        let found = rustix::fs::fstatfs(&root).map_err(failed)?;
        if u64::try_from(found.f_type) != Ok(CGROUP2_SUPER_MAGIC) {
            return Err(TreeError::NotCgroup2 {
                path: mount_point.to_owned(),
            });
        }
        Ok(Tree {
            mount_point: mount_point.to_owned(),
            root,
        })
    }

    /// Any directory in place of a tree: what is asked for ids and paths does not see a difference.
    #[cfg(test)]
    pub(crate) fn stand_in(directory: &Path) -> Self {
        Tree {
            mount_point: directory.to_owned(),
            root: rustix::fs::open(directory, self::directory(), Mode::empty()).unwrap(),
        }
    }

    /// The id of the cgroup that is at `path` now, if there is one.
    pub fn id(&self, path: &str) -> Option<CgroupId> {
        let found = rustix::fs::statat(&self.root, relative(path), AtFlags::empty()).ok()?;
        Some(CgroupId(found.st_ino))
    }

    /// Opens the cgroup that is at `path` now.
    pub fn open_cgroup(&self, path: &str) -> io::Result<(OwnedFd, CgroupId)> {
        let fd = rustix::fs::openat(&self.root, relative(path), directory(), Mode::empty())?;
        let id = CgroupId(rustix::fs::fstat(&fd)?.st_ino);
        Ok((fd, id))
    }

    /// Whether the cgroup above gives the one at `path` the memory controller, as far as can be told: then it has it as long as it lives.
    pub fn is_given_memory_controller(&self, path: &str) -> bool {
        let above = match path.rsplit_once('/') {
            // There is nothing above the root.
            None | Some((_, "")) => return false,
            Some((above, _)) => above,
        };
        let file = Path::new(relative(above)).join("cgroup.subtree_control");
        let read = || -> io::Result<String> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&self.root, file, flags, Mode::empty())?;
            io::read_to_string(std::fs::File::from(fd))
        };
        read().is_ok_and(|given| given.split_whitespace().any(|name| name == "memory"))
    }

    /// Who the cgroup at `path` belongs to, as a user id.
    pub fn owner(&self, path: &str) -> Option<u32> {
        let found = rustix::fs::statat(&self.root, relative(path), AtFlags::empty()).ok()?;
        Some(found.st_uid)
    }

    /// An extended attribute of the cgroup at `path`. None if it has none of that name, or one that is unusually long.
    pub fn attribute(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        const LONGEST: usize = 256;
        let mut value = vec![0; LONGEST];
        let length = rustix::fs::getxattr(self.directory(path), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    /// The directory of the cgroup at `path`.
    pub fn directory(&self, path: &str) -> PathBuf {
        self.mount_point.join(relative(path))
    }

    /// The path of a cgroup, as long as it exists; see [`Tree::path_of`].
    pub fn path(&self, id: CgroupId) -> Option<String> {
        self.path_of(self.open_by_id(id).ok()?.as_fd())
    }

    /// Where an open cgroup is, as well as that can be told, because its owner may call it anything: a name that is no text has marks in it,
    /// and of what is longer than a path may be there is the beginning, with `/…` after it. None if it is gone.
    pub fn path_of(&self, cgroup: BorrowedFd<'_>) -> Option<String> {
        let mut above: Option<OwnedFd> = None;
        loop {
            let here = above.as_ref().map_or(cgroup, AsFd::as_fd);
            // The fd's magic link says where it is now; there is no system call that tells a path.
            match std::fs::read_link(format!("/proc/self/fd/{}", here.as_raw_fd())) {
                Ok(link) => {
                    let below = link.strip_prefix(&self.mount_point).ok()?;
                    let below = below.to_string_lossy();
                    // A removed cgroup is not found by its id, but it may go away between the two calls.
                    if below.ends_with(" (deleted)") {
                        return None;
                    }
                    let rest = if above.is_some() { "/…" } else { "" };
                    return Some(format!("/{below}{rest}"));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                    above = Some(parent(here).ok()?);
                }
                Err(_) => return None,
            }
        }
    }

    /// Shows an open cgroup and all above it but the root, upwards, each with its id.
    ///
    /// # Errors
    ///
    /// Of what cannot be opened.
    pub fn upwards(
        &self,
        cgroup: BorrowedFd<'_>,
        mut show: impl FnMut(CgroupId, BorrowedFd<'_>),
    ) -> io::Result<()> {
        let id_of = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|found| CgroupId(found.st_ino));
        let root = id_of(self.root.as_fd())?;
        let mut here = cgroup.try_clone_to_owned()?;
        loop {
            let id = id_of(here.as_fd())?;
            if id == root {
                return Ok(());
            }
            show(id, here.as_fd());
            here = parent(here.as_fd())?;
        }
    }

    /// Opens a cgroup by its id. kernfs takes the id as a file handle (`FILEID_KERNFS` in linux/exportfs.h).
    pub fn open_by_id(&self, id: CgroupId) -> io::Result<OwnedFd> {
        const FILEID_KERNFS: libc::c_int = 0xfe;
        const ID_SIZE: usize = size_of::<u64>();

        #[repr(C)]
        struct KernfsHandle {
            handle_bytes: libc::c_uint,
            handle_type: libc::c_int,
            id: [u8; ID_SIZE],
        }
        let mut handle = KernfsHandle {
            handle_bytes: ID_SIZE as libc::c_uint,
            handle_type: FILEID_KERNFS,
            id: id.0.to_ne_bytes(),
        };
        // SAFETY: `handle` is laid out as struct file_handle with `handle_bytes` bytes of handle behind its head, lives
        // across the call, and is not kept by the kernel. The root fd is open as long as self.
        let fd = unsafe {
            libc::open_by_handle_at(
                self.root.as_fd().as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call just returned this descriptor, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The cgroup that an open one is in.
fn parent(cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        cgroup,
        "..",
        directory(),
        Mode::empty(),
    )?)
}

/// Whether an error says that there is no such cgroup (any more), and nothing else.
pub fn says_gone(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    matches!(number, Some(libc::ENOENT | libc::ENODEV | libc::ESTALE))
}

/// How many cgroups are above the one at `path`.
pub fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        below => below,
    }
}

/// Paths of cgroups that were seen, also for some time after they are gone: when a kill is reported, systemd may
/// have removed the victim's cgroup already.
#[derive(Debug, Default)]
pub struct Index {
    here: HashMap<CgroupId, String>,
    gone: VecDeque<(CgroupId, String)>,
}

impl Index {
    /// How many cgroups that are gone are remembered.
    const REMEMBERED: usize = 1024;

    /// A cgroup is there.
    pub fn insert(&mut self, id: CgroupId, path: &str) {
        self.here.insert(id, path.to_owned());
    }

    /// A cgroup is gone.
    pub fn remove(&mut self, id: CgroupId) {
        if let Some(path) = self.here.remove(&id) {
            self.gone.push_back((id, path));
            if self.gone.len() > Self::REMEMBERED {
                self.gone.pop_front();
            }
        }
    }

    /// The path of a cgroup that is there, or that went away not long ago.
    pub fn path(&self, id: CgroupId) -> Option<&str> {
        let gone = || self.gone.iter().rev().find(|(gone, _)| *gone == id);
        self.here
            .get(&id)
            .or_else(|| gone().map(|(_, path)| path))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_that_is_no_cgroup_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Tree::open(dir.path()).unwrap_err();
        assert!(matches!(error, TreeError::NotCgroup2 { .. }), "{error}");
        let error = Tree::open(&dir.path().join("missing")).unwrap_err();
        assert!(matches!(error, TreeError::Open { .. }), "{error}");
    }

    #[test]
    fn the_cgroup_above_says_who_has_the_memory_controller() {
        let dir = tempfile::tempdir().unwrap();
        let given = |below: &str, controllers: &str| {
            let file = dir.path().join(below).join("cgroup.subtree_control");
            std::fs::write(file, controllers).unwrap();
        };
        std::fs::create_dir_all(dir.path().join("a.slice/x.service")).unwrap();
        given("", "cpu memory pids\n");
        given("a.slice", "cpu memory_more\n");
        let tree = Tree::stand_in(dir.path());
        assert!(tree.is_given_memory_controller("/a.slice"));
        assert!(!tree.is_given_memory_controller("/a.slice/x.service"));
        assert!(!tree.is_given_memory_controller("/a.slice/x.service/below"));
        assert!(!tree.is_given_memory_controller("/"));
    }

    #[test]
    fn depth_counts_what_is_above() {
        assert_eq!(depth("/"), 0);
        assert_eq!(depth("/a.slice"), 1);
        assert_eq!(depth("/a.slice/a-b.slice/x.service"), 3);
    }

    #[test]
    fn cgroups_that_are_gone_are_remembered_for_a_while() {
        let mut index = Index::default();
        for id in 1..=2000 {
            index.insert(CgroupId(id), &format!("/{id}"));
        }
        for id in 1..=1500 {
            index.remove(CgroupId(id));
        }
        assert_eq!(index.path(CgroupId(2000)), Some("/2000"));
        assert_eq!(index.path(CgroupId(1500)), Some("/1500"));
        assert_eq!(index.path(CgroupId(477)), Some("/477"));
        assert_eq!(index.path(CgroupId(476)), None);
        assert_eq!(index.gone.len(), Index::REMEMBERED);
    }

    #[test]
    fn removing_what_is_not_there_is_nothing() {
        let mut index = Index::default();
        index.remove(CgroupId(1));
        assert_eq!(index.path(CgroupId(1)), None);
    }
}
