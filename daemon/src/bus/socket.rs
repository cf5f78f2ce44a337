// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection to the bus, as it has to be for somebody whom everybody may ask.
//!
//! dbus-daemon keeps what it has taken from us until whoever it is for has read it, and takes no more when that is too much
//! (`max_incoming_bytes`). So one client that asks and never reads the answers can make the bus deaf to the daemon. Two things follow:
//!
//! - Nothing is read while something is being written, and while the bus takes nothing: otherwise answers would pile up here, because a
//!   call is read faster than it is answered.
//! - When that has gone on for [`PATIENCE`] the connection is given up. On a new one the bus counts anew, and what is for such a client
//!   it now drops, because that one's own queue is full.

use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::timeout;
use tracing::warn;
use zbus::Address;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// How long the bus may take nothing. It takes everything in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is about to become a connection to the system bus.
pub(super) async fn system() -> zbus::Result<Builder<'static>> {
    let address = Address::system()?;
    let Transport::Unix(unix) = address.transport() else {
        // Somebody's bus that is elsewhere.
        return Ok(Builder::address(address));
    };
    let UnixSocket::File(path) = unix.path() else {
        return Ok(Builder::address(address));
    };
    let stream = UnixStream::connect(path).await?;
    Ok(Builder::socket(Stream(stream, PATIENCE)))
}

/// After so many rounds of all that is to be done without a word, what was read has been answered, or waits for somebody else: one to
/// hand a call to whom it is for, one to do what it asks, and one to spare.
const SILENT_ROUNDS: u32 = 3;

/// Whether the bus takes what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Blocked,
    GivenUp,
}

/// The socket, and how long it may take nothing.
#[derive(Debug)]
struct Stream(UnixStream, Duration);

impl Socket for Stream {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let stream = Arc::new(self.0);
        let (flow, seen) = watch::channel(Flow::Open);
        let written = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            stream: Arc::clone(&stream),
            flow: seen,
            written: Arc::clone(&written),
        };
        let writer = Writer {
            stream,
            flow,
            written,
            patience: self.1,
        };
        Split::new(reader, writer)
    }
}

/// Hears, while what is said is taken.
#[derive(Debug)]
struct Reader {
    stream: Arc<UnixStream>,
    flow: watch::Receiver<Flow>,
    /// How often something was written.
    written: Arc<AtomicU64>,
}

impl Reader {
    /// Waits until nobody has anything to say.
    async fn silence(&self) {
        let mut written = self.written.load(Ordering::Relaxed);
        let mut rounds = 0;
        while rounds < SILENT_ROUNDS {
            yield_now().await;
            let now = self.written.load(Ordering::Relaxed);
            rounds = if now == written { rounds + 1 } else { 0 };
            written = now;
        }
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            self.silence().await;
            // Without a writer there is nothing to wait for.
            let flow = self.flow.wait_for(|flow| *flow != Flow::Blocked).await;
            if flow.is_ok_and(|flow| *flow == Flow::GivenUp) {
                return Err(ErrorKind::TimedOut.into());
            }
            tokio::select! {
                ready = self.stream.readable() => ready?,
                // Blocked: no more from now on, even if something is there.
                Ok(()) = self.flow.changed() => continue,
            }
            match self.stream.try_read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The interfaces have no file descriptors in them.
                result => return result.map(|length| (length, Vec::new())),
            }
        }
    }
}

/// Says.
#[derive(Debug)]
struct Writer {
    stream: Arc<UnixStream>,
    flow: watch::Sender<Flow>,
    written: Arc<AtomicU64>,
    patience: Duration,
}

impl Writer {
    async fn until_taken(&self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            self.stream.writable().await?;
            match self.stream.try_write(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if *self.flow.borrow() == Flow::GivenUp {
            return Err(ErrorKind::TimedOut.into());
        }
        self.written.fetch_add(1, Ordering::Relaxed);
        match self.stream.try_write(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
        self.flow.send_replace(Flow::Blocked);
        match timeout(self.patience, self.until_taken(buffer)).await {
            Ok(result) => {
                self.flow.send_replace(Flow::Open);
                result
            }
            Err(_) => {
                warn!(
                    "The bus takes nothing any more: somebody does not read what it is told; connecting again"
                );
                self.flow.send_replace(Flow::GivenUp);
                Err(ErrorKind::TimedOut.into())
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.flow.send_replace(Flow::GivenUp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(60), test).await.unwrap() });
    }

    /// Both halves, and whoever is at the other end.
    fn pair(patience: Duration) -> (Reader, Writer, std::os::unix::net::UnixStream) {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let stream = Stream(UnixStream::from_std(here).unwrap(), patience);
        let (reader, writer) = stream.split().take();
        (reader, writer, there)
    }

    /// Writes until nothing is taken any more.
    async fn fill(writer: &mut Writer) -> usize {
        let mut written = 0;
        loop {
            let more = timeout(Duration::from_millis(100), writer.sendmsg(&[0; 4096], &[]));
            match more.await {
                Ok(length) => written += length.unwrap(),
                Err(_) => return written,
            }
        }
    }

    #[test]
    fn what_is_said_while_nothing_is_taken_is_heard_when_it_is() {
        run(async {
            let (mut reader, mut writer, mut there) = pair(PATIENCE);
            let written = fill(&mut writer).await;
            there.write_all(b"asked").unwrap();
            let mut buffer = [0; 16];
            let blocked = timeout(Duration::from_millis(100), reader.recvmsg(&mut buffer));
            assert!(blocked.await.is_err());
            there.read_exact(&mut vec![0; written]).unwrap();
            writer.sendmsg(b"x", &[]).await.unwrap();
            let (length, _) = reader.recvmsg(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"asked");
        });
    }

    /// Whoever has something to say says it first.
    #[test]
    fn nothing_is_heard_while_somebody_speaks() {
        run(async {
            let (mut reader, mut writer, mut there) = pair(PATIENCE);
            there.write_all(b"asked").unwrap();
            let speaks = tokio::spawn(async move {
                for _ in 0..100 {
                    writer.sendmsg(b"x", &[]).await.unwrap();
                    yield_now().await;
                }
                writer
            });
            reader.recvmsg(&mut [0; 16]).await.unwrap();
            assert!(speaks.is_finished());
            let mut said = [0; 100];
            there.read_exact(&mut said).unwrap();
        });
    }

    #[test]
    fn the_end_is_heard() {
        run(async {
            let (mut reader, writer, there) = pair(PATIENCE);
            drop((there, writer));
            let (length, _) = reader.recvmsg(&mut [0; 16]).await.unwrap();
            assert_eq!(length, 0);
        });
    }

    #[test]
    fn who_takes_nothing_for_too_long_is_given_up() {
        run(async {
            let (mut reader, mut writer, _there) = pair(Duration::from_millis(500));
            fill(&mut writer).await;
            let heard = tokio::spawn(async move { reader.recvmsg(&mut [0; 16]).await });
            let error = writer.sendmsg(&[0; 4096], &[]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let heard = heard.await.unwrap().unwrap_err();
            assert_eq!(heard.kind(), ErrorKind::TimedOut);
        });
    }
}
