// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages to the journal, with all their fields (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
//!
//! Nobody here ever waits for the journal: it may itself be waiting for memory, or stand still, and then the kills are the last thing that is
//! to stand still with it. What it does not take is kept, in order, and offered again with the next message and when [`Journal::flush`]
//! is called. There is room for some; what finds none is counted, and the count is told when the journal listens again.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr, sendto,
};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How many messages are kept, and how many bytes of them.
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 20;

/// The journal, as seen from here.
#[derive(Debug, Clone)]
pub(super) struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identifier: &'static str,
    socket: UnixDatagram,
    address: SocketAddrUnix,
    untold: Mutex<Untold>,
}

/// What the journal has not taken.
#[derive(Debug, Default)]
struct Untold {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// For how many there was no room.
    lost: u64,
}

impl Journal {
    /// The journal that listens at `path`. Messages say that they are of `identifier`.
    pub(super) fn at(path: &Path, identifier: &'static str) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            identifier,
            socket: UnixDatagram::unbound()?,
            address: SocketAddrUnix::new(path)?,
            untold: Mutex::default(),
        })))
    }

    /// Offers again what the journal did not take. Returns whether something waits still.
    pub(super) fn flush(&self) -> bool {
        !self.0.told_all(&mut self.0.untold())
    }
}

impl Inner {
    fn untold(&self) -> std::sync::MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, message: Vec<u8>) {
        let mut untold = self.untold();
        // Nobody overtakes those that wait.
        if self.told_all(&mut untold) && self.send(&message).is_ok() {
            return;
        }
        untold.keep(message);
    }

    /// Whether nothing waits any more.
    fn told_all(&self, untold: &mut Untold) -> bool {
        while let Some(message) = untold.messages.front() {
            if self.send(message).is_err() {
                return false;
            }
            untold.bytes -= message.len();
            untold.messages.pop_front();
        }
        if untold.lost > 0 {
            let text = format!(
                "{} messages are lost: the journal took none, and there was no room for them",
                untold.lost
            );
            let mut message = self.head(Priority::Warning);
            put(&mut message, "MESSAGE", text.as_bytes());
            if self.send(&message).is_err() {
                return false;
            }
            untold.lost = 0;
        }
        true
    }

    /// Never waits.
    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendto(&self.socket, message, flags, &self.address) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_as_file(message, flags),
            result => result.map(drop),
        }
    }

    /// What is too large for a datagram goes as a file that nobody can change any more.
    fn send_as_file(&self, message: &[u8], flags: SendFlags) -> Result<(), Errno> {
        let file = memfd_create(
            "journal-message",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        let mut file = File::from(file);
        file.write_all(message)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let file = OwnedFd::from(file);
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, all)?;
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(&fds));
        let nothing = [IoSlice::new(&[])];
        sendmsg_addr(&self.socket, &self.address, &nothing, &mut rights, flags).map(drop)
    }

    fn head(&self, priority: Priority) -> Vec<u8> {
        let mut message = Vec::with_capacity(512);
        put(&mut message, "PRIORITY", &[b'0' + priority as u8]);
        put(
            &mut message,
            "SYSLOG_IDENTIFIER",
            self.identifier.as_bytes(),
        );
        message
    }
}

impl Untold {
    fn keep(&mut self, message: Vec<u8>) {
        let bytes = self.bytes + message.len();
        if self.messages.len() >= MOST || bytes > MOST_BYTES {
            self.lost += 1;
            return;
        }
        self.bytes = bytes;
        self.messages.push_back(message);
    }
}

/// Of syslog(3).
#[derive(Debug, Clone, Copy)]
enum Priority {
    Error = 3,
    Warning = 4,
    Informational = 6,
    Debug = 7,
}

impl Priority {
    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Priority::Error,
            Level::WARN => Priority::Warning,
            Level::INFO => Priority::Informational,
            _ => Priority::Debug,
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let about: &Metadata<'_> = event.metadata();
        let mut message = self.0.head(Priority::of(*about.level()));
        put(&mut message, "TARGET", about.target().as_bytes());
        if let (Some(file), Some(line)) = (about.file(), about.line()) {
            put(&mut message, "CODE_FILE", file.as_bytes());
            put(&mut message, "CODE_LINE", line.to_string().as_bytes());
        }
        event.record(&mut Fields(&mut message));
        self.0.tell(message);
    }
}

/// Writes the fields of an event into a message.
struct Fields<'a>(&'a mut Vec<u8>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        put(self.0, &name(field), value.as_bytes());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{value:?}");
        put(self.0, &name(field), text.as_bytes());
    }
}

/// A field's name as the journal takes it. The daemon's own are such names; those of libraries need not be.
fn name(field: &Field) -> String {
    let letters = field.name().chars().map(|letter| match letter {
        'a'..='z' => letter.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => letter,
        _ => '_',
    });
    let name: String = letters.collect();
    // What begins with "_" is the journal's own.
    name.trim_start_matches(|letter: char| !letter.is_ascii_uppercase())
        .to_owned()
}

/// Adds a field in the form that takes any value: the name, the length, the value.
fn put(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    if name.is_empty() {
        return;
    }
    message.extend_from_slice(name.as_bytes());
    message.push(b'\n');
    message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    message.extend_from_slice(value);
    message.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    /// A journal, and where it listens.
    struct Listener {
        directory: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Listener {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(directory.path().join("socket")).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            Self { directory, socket }
        }

        fn journal(&self) -> Journal {
            Journal::at(&self.directory.path().join("socket"), "test").unwrap()
        }

        /// The next message, if there is one.
        fn next(&self) -> Option<String> {
            let mut bytes = vec![0; 1 << 16];
            let length = self.socket.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }

        fn all(&self) -> Vec<String> {
            std::iter::from_fn(|| self.next()).collect()
        }
    }

    fn number(n: usize) -> Vec<u8> {
        format!("N={n}\n").into_bytes()
    }

    #[test]
    fn a_message_has_its_fields_whatever_is_in_them() {
        let listener = Listener::new();
        let journal = listener.journal();
        let subscriber = {
            use tracing_subscriber::prelude::*;
            tracing_subscriber::registry().with(journal)
        };
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(UNIT = "a\nb", NONE = None::<&str>, odd.name = 7, "x {}", 1);
        });
        let message = listener.next().unwrap();
        let expected = [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "test"),
            ("UNIT", "a\nb"),
            ("ODD_NAME", "7"),
            ("MESSAGE", "x 1"),
        ];
        for (name, value) in expected {
            let mut field = Vec::new();
            put(&mut field, name, value.as_bytes());
            let field = String::from_utf8(field).unwrap();
            assert!(message.contains(&field), "{field:?} is not in {message:?}");
        }
        let mut field = Vec::new();
        put(&mut field, "UNIT", b"a\nb");
        assert_eq!(field, b"UNIT\n\x03\0\0\0\0\0\0\0a\nb\n");
        assert!(!message.contains("NONE"), "{message:?}");
    }

    #[test]
    fn what_nobody_takes_waits_in_order_and_nobody_waits_for_it() {
        let listener = Listener::new();
        let journal = listener.journal();
        // More than a socket takes (net.unix.max_dgram_qlen) and fewer than are kept.
        const NUMBER: usize = 300;
        for n in 0..NUMBER {
            journal.0.tell(number(n));
        }
        let mut taken = Vec::new();
        while taken.len() < NUMBER {
            let more = listener.all();
            assert!(!more.is_empty(), "{} of {NUMBER}", taken.len());
            taken.extend(more);
            journal.flush();
        }
        let expected: Vec<String> = (0..NUMBER).map(|n| format!("N={n}\n")).collect();
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_journal_that_comes_later_is_told_what_was_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = Journal::at(&path, "test").unwrap();
        journal.0.tell(number(1));
        journal.0.tell(number(2));
        let socket = UnixDatagram::bind(&path).unwrap();
        let listener = Listener { directory, socket };
        journal.0.tell(number(3));
        let told: Vec<String> = (0..3).filter_map(|_| listener.next()).collect();
        assert_eq!(told, ["N=1\n", "N=2\n", "N=3\n"]);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_count_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = Journal::at(&path, "test").unwrap();
        for n in 0..MOST + 7 {
            journal.0.tell(number(n));
        }
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let listener = Listener { directory, socket };
        let mut told = Vec::new();
        while told.len() < MOST + 1 {
            journal.flush();
            let more = listener.all();
            assert!(!more.is_empty(), "{}", told.len());
            told.extend(more);
        }
        assert!(told[MOST].contains("7 messages are lost"), "{}", told[MOST]);
        journal.flush();
        assert_eq!(listener.next(), None);
    }

    #[test]
    fn a_message_that_is_too_large_for_a_datagram_is_passed_as_a_file() {
        let listener = Listener::new();
        let journal = listener.journal();
        let large = vec![b'x'; 8 << 20];
        journal.0.tell(large.clone());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 16];
        let mut into = [io::IoSliceMut::new(&mut bytes)];
        let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
        let received =
            rustix::net::recvmsg(&listener.socket, &mut into, &mut control, flags).unwrap();
        assert_eq!(received.bytes, 0);
        let file = control.drain().find_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        // It was written to its end, and is read from its beginning.
        let file = file.unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        assert!(std::fs::read(path).is_ok_and(|read| read == large));
    }
}
