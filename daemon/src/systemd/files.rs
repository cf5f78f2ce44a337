// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading unit files, none of which may hang or flood the daemon.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The largest unit file that is read, in bytes. systemd's own limit is on lines; a whole unit file of this size
/// is not one that a person or a generator wrote.
pub const LARGEST_FILE: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is too large.
    #[error("the file is larger than {LARGEST_FILE} bytes")]
    TooLarge,
    /// It is a directory, a FIFO or a device.
    #[error("not a regular file")]
    NotRegular,
    /// Any other reason.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl ReadError {
    /// Whether it is no matter of the file: there was no descriptor or no memory to be had, and that may be over in a moment.
    pub fn is_passing(&self) -> bool {
        let ReadError::Io(error) = self else {
            return false;
        };
        matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
        )
    }
}

/// The files of the system below a root directory: `/`, or a tree of a test.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// All paths are taken as being below `root`.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Files { root: root.into() }
    }

    /// The content of a file. A file that does not exist, and a link to /dev/null, have none.
    ///
    /// That a file which systemd named is not there (any more) is no fault: it was removed, and the next daemon-reload will
    /// say so.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let path = self.root.join(path.strip_prefix("/").unwrap_or(path));
        // NONBLOCK: opening a FIFO must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let metadata = file.metadata()?;
        let null = rustix::fs::makedev(1, 3);
        if metadata.file_type().is_char_device() && metadata.rdev() == null {
            return Ok(Vec::new());
        }
        if !metadata.is_file() {
            return Err(ReadError::NotRegular);
        }
        // The size is looked at after reading: the file may grow meanwhile.
        let mut content = Vec::new();
        file.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST_FILE {
            return Err(ReadError::TooLarge);
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/d")).unwrap();
        let files = Files::below(root.path());
        (root, files)
    }

    #[test]
    fn paths_are_below_the_root() {
        let (root, files) = tree();
        fs::write(root.path().join("etc/x"), "here").unwrap();
        assert_eq!(files.read(Path::new("/etc/x")).unwrap(), b"here");
    }

    #[test]
    fn what_is_missing_or_masked_has_no_content() {
        let (root, files) = tree();
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/masked")).unwrap();
        assert_eq!(files.read(Path::new("/etc/missing")).unwrap(), b"");
        assert_eq!(files.read(Path::new("/etc/masked")).unwrap(), b"");
    }

    #[test]
    fn directories_fifos_and_devices_are_refused_without_waiting() {
        let (root, files) = tree();
        let fifo = root.path().join("etc/fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink("/dev/zero", root.path().join("etc/zero")).unwrap();
        for path in ["/etc/d", "/etc/fifo", "/etc/zero"] {
            let error = files.read(Path::new(path)).unwrap_err();
            assert!(matches!(error, ReadError::NotRegular), "{path}: {error}");
        }
    }

    #[test]
    fn a_file_at_the_limit_is_read_and_one_byte_more_is_refused() {
        let (root, files) = tree();
        let path = root.path().join("etc/big");
        let limit = usize::try_from(LARGEST_FILE).unwrap();
        fs::write(&path, vec![b'#'; limit]).unwrap();
        assert_eq!(files.read(Path::new("/etc/big")).unwrap().len(), limit);
        fs::write(&path, vec![b'#'; limit + 1]).unwrap();
        let error = files.read(Path::new("/etc/big")).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge), "{error}");
    }

    #[test]
    fn links_that_go_round_are_an_error() {
        let (root, files) = tree();
        std::os::unix::fs::symlink("loop", root.path().join("etc/loop")).unwrap();
        let error = files.read(Path::new("/etc/loop")).unwrap_err();
        assert!(matches!(error, ReadError::Io(_)), "{error}");
    }
}
