// SPDX-License-Identifier: MIT OR Apache-2.0
//! An array map's memory in this process, read and written without system
//! calls.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr;

use libbpf_rs::{Map, MapCore as _};

use crate::interface::Plain;
use crate::struct_ops::LoadError;

/// The values of an array map that may be mapped (`BPF_F_MMAPABLE`). A program
/// may write to them at any time; each access is of one whole value, which may
/// be torn then.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    memory: ptr::NonNull<libc::c_void>,
    bytes: usize,
    values: usize,
    _type: PhantomData<T>,
}

// SAFETY: the memory is not bound to a thread.
unsafe impl<T: Plain> Send for Mapped<T> {}
// SAFETY: as above; and `T: Plain` has no invalid value that a race could make.
unsafe impl<T: Plain> Sync for Mapped<T> {}

impl<T: Plain> Mapped<T> {
    /// Map a map whose values are `T`s.
    pub(crate) fn new(map: &Map<'_>) -> Result<Self, LoadError> {
        // The kernel keeps values of an array at multiples of eight bytes.
        if map.value_size() as usize != size_of::<T>() || !size_of::<T>().is_multiple_of(8) {
            return Err(LoadError::Object("a mapped map of other values"));
        }
        let values = map.max_entries() as usize;
        let bytes = values * size_of::<T>();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(LoadError::libbpf("mapping a map's memory")(error.into()));
        }
        let memory = ptr::NonNull::new(memory).ok_or(LoadError::Object("a map at address 0"))?;
        Ok(Self {
            memory,
            bytes,
            values,
            _type: PhantomData,
        })
    }

    fn place(&self, index: usize) -> *mut T {
        assert!(index < self.values, "no value {index} in the map");
        // SAFETY: within the mapping, which is `values` of them long.
        unsafe { self.memory.as_ptr().cast::<T>().add(index) }
    }

    /// The value at `index`, as it is now.
    pub(crate) fn get(&self, index: usize) -> T {
        // SAFETY: inside the mapping, aligned as a page is and as all values
        // are; any bytes are a `T`.
        unsafe { self.place(index).read_volatile() }
    }

    /// Put a value at `index`.
    pub(crate) fn set(&self, index: usize, value: T) {
        // SAFETY: as in `get()`.
        unsafe { self.place(index).write_volatile(value) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and nothing borrows from it.
        unsafe { libc::munmap(self.memory.as_ptr(), self.bytes) };
    }
}
