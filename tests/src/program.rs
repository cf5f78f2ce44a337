// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF objects of the tests: loaded or refused, and their global variables by name.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use libbpf_rs::{
    AsRawLibbpf, Map, MapCore, Object, ObjectBuilder, PrintLevel, ProgramInput, ProgramMut,
    UprobeOpts,
};

/// What libbpf said since [`load`] began: with the verifier's reasons when the kernel refused a program.
static LIBBPF_SAYS: Mutex<String> = Mutex::new(String::new());

fn listen(_: PrintLevel, message: String) {
    LIBBPF_SAYS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push_str(&message);
}

/// A loaded BPF object.
pub struct Program {
    object: Object,
}

impl Program {
    /// Loads an object that the verifier must accept. Panics with the verifier's log otherwise.
    #[track_caller]
    pub fn load(object: &[u8]) -> Self {
        match load(object) {
            Ok(object) => Self { object },
            Err(log) => panic!("refused, but should load:\n{log}"),
        }
    }

    /// The map with this name, such as a struct_ops map.
    #[track_caller]
    pub fn map(&self, name: &str) -> Map<'_> {
        self.object
            .maps()
            .find(|map| map.name() == name)
            .unwrap_or_else(|| panic!("no map {name}"))
    }

    /// The object's types.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Attaches a program to where its section says, as long as the link is kept.
    #[track_caller]
    pub fn attach(&self, name: &str) -> libbpf_rs::Link {
        self.program(name)
            .attach()
            .unwrap_or_else(|error| panic!("attach {name}: {error}"))
    }

    /// Attaches a program to the beginning of a function in a library, whoever calls it, as long as the link is kept.
    #[track_caller]
    pub fn attach_to_function(
        &self,
        name: &str,
        library: &Path,
        function: &str,
    ) -> libbpf_rs::Link {
        let at = UprobeOpts {
            func_name: Some(function.to_owned()),
            ..UprobeOpts::default()
        };
        self.program(name)
            .attach_uprobe_with_opts(-1, library, 0, at)
            .unwrap_or_else(|error| panic!("attach {name} to {function}: {error}"))
    }

    /// Runs a `SEC("syscall")` program once and returns its return value.
    #[track_caller]
    pub fn run(&self, name: &str) -> u32 {
        self.program(name)
            .test_run(ProgramInput::default())
            .unwrap_or_else(|error| panic!("run {name}: {error}"))
            .return_value
    }

    #[track_caller]
    fn program(&self, name: &str) -> ProgramMut<'_> {
        self.object
            .progs_mut()
            .find(|program| program.name() == name)
            .unwrap_or_else(|| panic!("no program {name}"))
    }

    /// A global variable of 8 bytes.
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        self.get_at(name, 0)
    }

    /// The same, for values the program writes as negative errno.
    #[track_caller]
    pub fn get_signed(&self, name: &str) -> i64 {
        self.get(name) as i64
    }

    /// Element `index` of a global array of 8-byte elements.
    #[track_caller]
    pub fn get_at(&self, name: &str, index: usize) -> u64 {
        // SAFETY: element() gives a pointer to an aligned u64 in memory that the kernel shares with us for as long as the object lives.
        // Volatile, because BPF programs change it meanwhile.
        unsafe { self.element(name, index).read_volatile() }
    }

    /// The same, for values the program writes as negative errno.
    #[track_caller]
    pub fn get_signed_at(&self, name: &str, index: usize) -> i64 {
        self.get_at(name, index) as i64
    }

    /// The first `count` elements of a global array.
    #[track_caller]
    pub fn get_all(&self, name: &str, count: u64) -> Vec<u64> {
        let count = usize::try_from(count).expect("a small count");
        (0..count).map(|index| self.get_at(name, index)).collect()
    }

    /// Sets a global variable.
    #[track_caller]
    pub fn set(&self, name: &str, value: u64) {
        self.set_at(name, 0, value);
    }

    /// Sets a global variable to a signed value.
    #[track_caller]
    pub fn set_signed(&self, name: &str, value: i64) {
        self.set(name, value as u64);
    }

    /// Sets element `index` of a global array.
    #[track_caller]
    pub fn set_at(&self, name: &str, index: usize, value: u64) {
        // SAFETY: as in get_at().
        unsafe { self.element(name, index).write_volatile(value) }
    }

    /// The address of an 8-byte global variable: libbpf maps `.bss` and `.data` into this process, the object's BTF says what is where.
    #[track_caller]
    fn element(&self, name: &str, index: usize) -> NonNull<u64> {
        for section in [c".bss", c".data"] {
            if let Some(found) = self.variable(section, name) {
                let (start, size) = found;
                let offset = index * size_of::<u64>();
                assert!(
                    offset + size_of::<u64>() <= size,
                    "{name}[{index}] is outside its {size} bytes"
                );
                // SAFETY: checked to be inside the variable.
                return unsafe { start.add(offset) }.cast();
            }
        }
        panic!("no global variable {name}");
    }

    fn variable(&self, section: &CStr, name: &str) -> Option<(NonNull<u8>, usize)> {
        let name = CString::new(name).ok()?;
        let section_name = section.to_str().ok()?;
        // The kernel's names of these maps are shortened and carry the object's name; what they end with is the section's.
        let map = self
            .object
            .maps()
            .find(|map| map.name().to_string_lossy().ends_with(section_name))?;
        let mut size = 0;
        // SAFETY: all pointers belong to the object, which lives. bpf_map__initial_value() of a loaded data section is its mapping.
        unsafe {
            let start =
                libbpf_sys::bpf_map__initial_value(map.as_libbpf_object().as_ptr(), &mut size);
            let start = NonNull::new(start.cast::<u8>())?;
            let btf = libbpf_sys::bpf_object__btf(self.object.as_libbpf_object().as_ptr());
            let kind = libbpf_sys::BTF_KIND_DATASEC;
            let id = libbpf_sys::btf__find_by_name_kind(btf, section.as_ptr(), kind);
            let datasec = libbpf_sys::btf__type_by_id(btf, u32::try_from(id).ok()?);
            let count = (*datasec).info & 0xffff;
            let variables = datasec.add(1).cast::<libbpf_sys::btf_var_secinfo>();
            for number in 0..count as usize {
                let variable = *variables.add(number);
                let type_ = libbpf_sys::btf__type_by_id(btf, variable.type_);
                let its_name = libbpf_sys::btf__name_by_offset(btf, (*type_).name_off);
                if CStr::from_ptr(its_name) == name.as_c_str() {
                    let offset = variable.offset as usize;
                    return Some((start.add(offset), variable.size as usize));
                }
            }
        }
        None
    }
}

/// Loads an object that the verifier must refuse, and returns the reasons it gave.
#[track_caller]
pub fn refused(object: &[u8]) -> String {
    match load(object) {
        Ok(_) => panic!("accepted, but must be refused"),
        Err(log) => log,
    }
}

fn load(object: &[u8]) -> Result<Object, String> {
    let said = || {
        let mut said = LIBBPF_SAYS.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *said)
    };
    said();
    let before = libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
    let result = ObjectBuilder::default()
        .open_memory(object)
        .and_then(|object| object.load());
    libbpf_rs::set_print(before);
    result.map_err(|error| format!("{error}\n{}", said()))
}
