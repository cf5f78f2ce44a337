// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doing something as another user, by the rules that hold for everybody.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::thread;

/// Does something as the user `uid`, in the group of the same number alone and without any of root's rights: in a thread of its own,
/// which ends with it.
#[track_caller]
pub fn as_user<T: Send>(uid: u32, deed: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user(uid);
            deed()
        });
        thread.join().expect("what a user did")
    })
}

/// Past the C library these system calls are about the calling thread only.
fn become_user(uid: u32) {
    let none: *const libc::gid_t = ptr::null();
    // SAFETY: numbers, and an empty list that needs no memory.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 0, none),
            libc::syscall(libc::SYS_setresgid, uid, uid, uid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    assert_eq!(
        results,
        [0; 3],
        "become user {uid}: {}",
        io::Error::last_os_error()
    );
}

/// Sets an extended attribute, which may be refused.
pub fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    // SAFETY: both strings end with NUL, the value is as long as said, and all outlive the call.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
