// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring buffer through which all policy programs report.

use std::os::fd::BorrowedFd;
use std::sync::mpsc::{self, Receiver};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType, RingBuffer};

use crate::map;
use crate::record::{DecodeError, Event, decode};

/// Names of the two maps in `include/events.bpf.h`.
const RING: &str = "oomd_events";
const LOST: &str = "oomd_lost";

/// Room for more than a hundred kills that nobody has read yet. What the
/// programs declare does not count: they are given this buffer.
const RING_BYTES: u32 = 512 * 1024;

/// Reading events failed.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// A system call or libbpf failed.
    #[error("{what}")]
    Libbpf {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: libbpf_rs::Error,
    },
    /// An event that this version's programs do not send.
    #[error("dropped an event that cannot be read")]
    Malformed(#[from] DecodeError),
}

impl EventsError {
    pub(crate) fn libbpf(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Libbpf { what, source }
    }
}

/// The shared ring buffer, and the count of events that found it full.
#[derive(Debug)]
pub(crate) struct Events {
    reader: RingBuffer<'static>,
    decoded: Receiver<Result<Event, DecodeError>>,
    ring: MapHandle,
    lost: MapHandle,
}

impl Events {
    /// Make the two maps.
    pub(crate) fn new() -> Result<Self, EventsError> {
        let ring = map::create(MapType::RingBuf, RING, 0, 0, RING_BYTES, 0)
            .map_err(EventsError::libbpf("creating the ring buffer"))?;
        let lost = map::create(
            MapType::Array,
            LOST,
            size_of::<u32>(),
            size_of::<u64>(),
            1,
            0,
        )
        .map_err(EventsError::libbpf("creating the count of lost events"))?;
        let page_size = page_size();
        let (sender, decoded) = mpsc::channel();
        let mut builder = libbpf_rs::RingBufferBuilder::new();
        builder
            .add(&ring, move |bytes| {
                // The receiver is gone only while `Events` is being dropped.
                let _ = sender.send(decode(bytes, page_size));
                0
            })
            .map_err(EventsError::libbpf("preparing the ring buffer"))?;
        let reader = builder
            .build()
            .map_err(EventsError::libbpf("mapping the ring buffer"))?;
        Ok(Self {
            reader,
            decoded,
            ring,
            lost,
        })
    }

    pub(crate) fn epoll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `reader`, which `self` keeps open
        // for as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.reader.epoll_fd()) }
    }

    pub(crate) fn drain(&mut self, mut f: impl FnMut(Event)) -> Result<(), EventsError> {
        let consumed = self
            .reader
            .consume()
            .map_err(EventsError::libbpf("reading the ring buffer"));
        let mut malformed = None;
        for event in self.decoded.try_iter() {
            match event {
                Ok(event) => f(event),
                Err(error) => malformed = malformed.or(Some(error)),
            }
        }
        consumed?;
        malformed.map_or(Ok(()), |error| Err(error.into()))
    }

    pub(crate) fn lost(&self) -> Result<u64, EventsError> {
        let value = self
            .lost
            .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(EventsError::libbpf("reading the count of lost events"))?;
        // The only element of an array map always exists, with the size that
        // it was made with.
        Ok(value
            .as_deref()
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
    }

    /// The map that an object's map of this name is to be.
    pub(crate) fn map(&self, name: &str) -> Option<&MapHandle> {
        match name {
            RING => Some(&self.ring),
            LOST => Some(&self.lost),
            _ => None,
        }
    }
}

fn page_size() -> u64 {
    // SAFETY: sysconf() only reads.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // It cannot fail for this name (sysconf(3)).
    u64::try_from(size).unwrap_or(4096)
}
