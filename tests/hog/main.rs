// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bpf-oomd-hog STEP...`: a process that does to memory what a test wants, one step after the other.
//!
//! | step | what it does |
//! |---|---|
//! | `adj=N` | sets its `oom_score_adj` |
//! | `name=TEXT` | gives itself that name, of which the kernel keeps 15 bytes |
//! | `anon=SIZE` | allocates anonymous memory, touches it and keeps it |
//! | `shared=SIZE` | the same with shared memory (shmem) |
//! | `grow` | allocates and touches anonymous memory, more and more, until somebody is killed because memory ran out |
//! | `free` | gives the memory of the last of these steps back |
//! | `vmas=N` | makes N small mappings, so that taking the address space down takes long |
//! | `cache=PATH:SIZE` | writes a file of that size and reads it, so that it is in the page cache |
//! | `churn=SIZE` | allocates, touches and frees that much again and again, forever |
//! | `sweep=SIZE:MS` | allocates and touches all of it again and again, so many milliseconds after the last time, forever |
//! | `leak=SIZE:MS` | allocates and touches that much more every so many milliseconds, forever |
//! | `direct=PATH` | reads from a disk or a file again and again, past the page cache, forever |
//! | `serve=PATH` | listens on a socket at PATH and, as sshd does, makes a child for every connection, which uses some memory and answers |
//! | `fork=N` | makes N children; they and this process go on with the next step |
//! | `deaf` | does not end by SIGTERM any more |
//! | `uid=N` | becomes that user, in its group alone |
//! | `mkdir=PATH` | makes a directory |
//! | `enter=PATH` | moves itself into the cgroup with that directory |
//! | `ready` | prints `ready PID` |
//! | `wait` | waits for a line on its standard input |
//! | `hold` | stays until its standard input is closed |
//! | `notify=STATE` | tells the service manager, as sd_notify(3) does: `notify=READY=1`, `notify=STATUS=grown` |
//! | `usr1` | waits for SIGUSR1, which may have come earlier |
//! | `pause` | stays until a signal ends it |
//! | `exit=CODE` | ends |
//!
//! Sizes are bytes, or with `K` or `M` (base 1024).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::ExitCode;
use std::ptr;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    // From the start: a signal that comes before its step is kept, as a line of input would be.
    block_usr1();
    let mut kept = Vec::new();
    for step in std::env::args().skip(1) {
        match run(&step, &mut kept) {
            Ok(Next::Step) => {}
            Ok(Next::Exit(code)) => return ExitCode::from(code),
            Err(error) => {
                eprintln!("bpf-oomd-hog: {step}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// How to go on after a step.
enum Next {
    Step,
    Exit(u8),
}

fn run(step: &str, kept: &mut Vec<Mapping>) -> io::Result<Next> {
    let (name, value) = step.split_once('=').unwrap_or((step, ""));
    match name {
        "adj" => fs::write("/proc/self/oom_score_adj", value)?,
        "deaf" => ignore_term(),
        "name" => fs::write("/proc/self/comm", value)?,
        "anon" => kept.push(touch(map(size(value)?, libc::MAP_PRIVATE)?)),
        "grow" => grow(kept)?,
        "free" => unmap(kept.pop().ok_or_else(|| invalid("nothing to free"))?),
        "shared" => kept.push(touch(map(size(value)?, libc::MAP_SHARED)?)),
        "vmas" => many_mappings(number(value)?)?,
        "cache" => fill_page_cache(value)?,
        "churn" => churn(size(value)?)?,
        "sweep" => sweep(value)?,
        "leak" => leak(value)?,
        "direct" => read_directly(value)?,
        "serve" => serve(value)?,
        "fork" => fork(number(value)?)?,
        "uid" => become_user(number(value)?)?,
        "mkdir" => fs::create_dir(value)?,
        "enter" => fs::write(format!("{value}/cgroup.procs"), "0")?,
        "ready" => {
            // One write, so that lines of several processes do not mix.
            let line = format!("ready {}\n", std::process::id());
            io::stdout().write_all(line.as_bytes())?;
            io::stdout().flush()?;
        }
        "wait" => {
            if !read_line()? {
                return Ok(Next::Exit(0));
            }
        }
        "hold" => {
            while read_line()? {}
            return Ok(Next::Exit(0));
        }
        "notify" => notify(value)?,
        "usr1" => wait_usr1()?,
        "pause" => loop {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        },
        "exit" => return Ok(Next::Exit(number(value)?)),
        _ => return Err(invalid("no such step")),
    }
    Ok(Next::Step)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn two<'a>(value: &'a str, expected: &str) -> io::Result<(&'a str, &'a str)> {
    value.rsplit_once(':').ok_or_else(|| invalid(expected))
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| invalid("not a number"))
}

fn size(text: &str) -> io::Result<usize> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1024),
        Some(b'M') => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    Ok(number::<usize>(digits)? * unit)
}

/// A mapping that stays until it is unmapped or the process ends.
struct Mapping {
    start: *mut u8,
    length: usize,
}

fn map(length: usize, sharing: libc::c_int) -> io::Result<Mapping> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            sharing | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Small pages: a huge one would be charged at once and blur what the test asks for.
    // SAFETY: the range is the mapping just made. A kernel without huge pages refuses, which is as good.
    unsafe { libc::madvise(start, length, libc::MADV_NOHUGEPAGE) };
    Ok(Mapping {
        start: start.cast(),
        length,
    })
}

fn touch(mapping: Mapping) -> Mapping {
    for offset in (0..mapping.length).step_by(4096) {
        // SAFETY: the offset is inside the mapping, which is writable and known to nobody else.
        unsafe { mapping.start.add(offset).write_volatile(1) };
    }
    mapping
}

fn unmap(mapping: Mapping) {
    // SAFETY: the range is a mapping of ours, given up here.
    unsafe { libc::munmap(mapping.start.cast(), mapping.length) };
}

/// Two pages each, one of them read-only, so that the kernel cannot merge neighbours.
fn many_mappings(count: usize) -> io::Result<()> {
    for _ in 0..count {
        let mapping = touch(map(2 * 4096, libc::MAP_PRIVATE)?);
        // SAFETY: the first page of the mapping just made.
        if unsafe { libc::mprotect(mapping.start.cast(), 4096, libc::PROT_READ) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn fill_page_cache(value: &str) -> io::Result<()> {
    let (path, length) = two(value, "PATH:SIZE expected")?;
    let block = [b'x'; 64 * 1024];
    let mut left = size(length)?;
    let mut file = File::create(path)?;
    while left > 0 {
        let now = left.min(block.len());
        file.write_all(&block[..now])?;
        left -= now;
    }
    // Clean pages are what a reader of files leaves behind; dirty ones would be written out in the middle of the test.
    file.sync_all()?;
    io::copy(&mut File::open(path)?, &mut io::sink())?;
    Ok(())
}

fn churn(length: usize) -> io::Result<()> {
    loop {
        unmap(touch(map(length, libc::MAP_PRIVATE)?));
    }
}

fn grow(kept: &mut Vec<Mapping>) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    let kills = || {
        let text = fs::read_to_string("/proc/vmstat")?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        number::<u64>(line.unwrap_or_default())
    };
    let before = kills()?;
    while kills()? == before {
        kept.push(touch(map(CHUNK, libc::MAP_PRIVATE)?));
    }
    Ok(())
}

fn serve(path: &str) -> io::Result<()> {
    const MEMORY: usize = 256 << 10;
    // Nobody waits for the children.
    // SAFETY: a plain system call; no handler of ours is in place.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let socket = UnixListener::bind(path)?;
    // It is served from now on.
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        notify("READY=1")?;
    }
    loop {
        let (mut connection, _) = socket.accept()?;
        // SAFETY: this program has one thread, so the child may do everything.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                touch(map(MEMORY, libc::MAP_PRIVATE)?);
                connection.write_all(b"here")?;
                std::process::exit(0);
            }
            _ => {}
        }
    }
}

fn sweep(value: &str) -> io::Result<()> {
    let (length, pause) = size_and_pause(value)?;
    let mut all = map(length, libc::MAP_PRIVATE)?;
    loop {
        all = touch(all);
        thread::sleep(pause);
    }
}

fn leak(value: &str) -> io::Result<()> {
    let (length, pause) = size_and_pause(value)?;
    loop {
        touch(map(length, libc::MAP_PRIVATE)?);
        thread::sleep(pause);
    }
}

fn size_and_pause(value: &str) -> io::Result<(usize, Duration)> {
    let (length, pause) = two(value, "SIZE:MS expected")?;
    Ok((size(length)?, Duration::from_millis(number(pause)?)))
}

fn read_directly(path: &str) -> io::Result<()> {
    const BLOCK: usize = 4096;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let buffer = map(BLOCK, libc::MAP_PRIVATE)?;
    // SAFETY: the mapping is that long, nobody else knows it, and it stays until the process ends.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.start, buffer.length) };
    loop {
        // From the beginning after 16 MiB: disks and files of the tests are larger.
        for block in 0..4096 {
            file.read_exact_at(buffer, block * BLOCK as u64)?;
        }
    }
}

fn fork(count: u32) -> io::Result<()> {
    for _ in 0..count {
        // SAFETY: this program has one thread, so the child may do everything.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: plain system calls; an empty list of groups needs no memory.
    let failed = unsafe {
        libc::setgroups(0, ptr::null()) != 0
            || libc::setresgid(uid, uid, uid) != 0
            || libc::setresuid(uid, uid, uid) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends a datagram to `$NOTIFY_SOCKET`; "@" stands for the NUL of an abstract name.
fn notify(state: &str) -> io::Result<()> {
    let name = std::env::var("NOTIFY_SOCKET").map_err(|_| invalid("no NOTIFY_SOCKET"))?;
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

fn only_usr1() -> libc::sigset_t {
    // SAFETY: a set is plain memory, given its first value by sigemptyset.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR1);
        set
    }
}

fn block_usr1() {
    // SAFETY: a valid set; the old one is not asked for. Fails only for an unknown first argument.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &only_usr1(), ptr::null_mut()) };
}

fn ignore_term() {
    // SAFETY: no handler is installed. Fails only for an unknown signal.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}

fn wait_usr1() -> io::Result<()> {
    let mut signal = 0;
    // SAFETY: a valid set and a valid place for the result.
    match unsafe { libc::sigwait(&only_usr1(), &mut signal) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Reads one line without reading beyond it, because forked processes share the input. False at the end of the input.
fn read_line() -> io::Result<bool> {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads at most one byte into a valid one. Not through `Stdin`, which reads ahead.
        match unsafe { libc::read(0, (&raw mut byte).cast(), 1) } {
            0 => return Ok(false),
            1 if byte == b'\n' => return Ok(true),
            1 => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}
