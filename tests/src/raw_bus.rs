// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client of the system bus that does what no library lets it do: it writes whatever it likes, and reads only when it is told to.
//!
//! <https://dbus.freedesktop.org/doc/dbus-specification.html>

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use zbus::Message;
use zbus::export::serde::Serialize;
use zbus::wire::DynamicType;

use crate::bus::NAME;
use crate::systemctl::PATIENCE;

const BUS: &str = "org.freedesktop.DBus";
const SOCKET: &str = "/run/dbus/system_bus_socket";

/// Nobody's user id.
pub const NOBODY: u32 = 65534;

/// The client. Once it is connected it reads nothing by itself.
pub struct RawClient(UnixStream);

impl RawClient {
    /// Connects as a user.
    #[track_caller]
    pub fn connect_as(uid: u32) -> Self {
        let mut stream = as_user(uid, || UnixStream::connect(SOCKET)).expect("the system bus");
        let digits: String = uid
            .to_string()
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect();
        let hello = format!("\0AUTH EXTERNAL {digits}\r\n");
        stream
            .write_all(hello.as_bytes())
            .expect("write to the bus");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.extend_from_slice(&byte);
        }
        assert!(answer.starts_with(b"OK "), "{answer:?}");
        stream.write_all(b"BEGIN\r\n").expect("write to the bus");
        // Whoever is not heard any more writes for so long in vain.
        let limit = Some(Duration::from_millis(500));
        stream.set_write_timeout(limit).expect("a time limit");
        stream.set_read_timeout(limit).expect("a time limit");
        let mut client = Self(stream);
        client.ask_the_bus("Hello", &());
        client
    }

    /// Lets the bus do something for it.
    #[track_caller]
    pub fn ask_the_bus<B: Serialize + DynamicType>(&mut self, method: &str, body: &B) {
        let call = Message::method_call("/org/freedesktop/DBus", method)
            .destination(BUS)
            .interface(BUS)
            .build(body)
            .expect("a call");
        self.write(call.data()).expect("the bus listens");
    }

    /// Calls a method of the daemon and does not wait for an answer. An error says that nobody listens at the moment.
    pub fn call<B: Serialize + DynamicType>(
        &mut self,
        path: &str,
        method: (&str, &str),
        body: &B,
    ) -> io::Result<()> {
        self.write(call(path, method, body).data())
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Reads until a text has come so many times, and returns all that has come.
    #[track_caller]
    pub fn read_until(&mut self, text: &str, times: usize) -> String {
        let mut read = String::new();
        let start = Instant::now();
        while read.matches(text).count() < times {
            assert!(
                start.elapsed() < PATIENCE,
                "{text} has not come {times} times: {read}"
            );
            let mut buffer = [0; 4096];
            match self.0.read(&mut buffer) {
                Ok(0) => panic!("the bus has closed the connection: {read}"),
                Ok(length) => read += &String::from_utf8_lossy(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("read from the bus: {error}"),
            }
        }
        read
    }

    /// Waits until the bus has closed the connection.
    #[track_caller]
    pub fn wait_closed(&mut self) {
        let start = Instant::now();
        loop {
            assert!(
                start.elapsed() < PATIENCE,
                "the bus has not closed the connection"
            );
            match self.0.read(&mut [0; 4096]) {
                Ok(0) => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                _ => {}
            }
        }
    }
}

/// A call of one of the daemon's methods.
pub fn call<B: Serialize + DynamicType>(
    path: &str,
    (interface, method): (&str, &str),
    body: &B,
) -> Message {
    Message::method_call(path, method)
        .destination(NAME)
        .interface(interface)
        .build(body)
        .expect("a call")
}

/// Does something as another user, in this thread alone.
fn as_user<T>(uid: u32, deed: impl FnOnce() -> T) -> T {
    let become_user = |uid: u32| {
        const SAME: u32 = u32::MAX;
        // SAFETY: a system call with three numbers. Past the C library it is about the calling thread only.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, SAME, uid, SAME) };
        assert_eq!(result, 0, "setresuid: {}", io::Error::last_os_error());
    };
    become_user(uid);
    let result = deed();
    become_user(0);
    result
}
