// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring buffer through which all policy programs report.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{self, Receiver};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType, RingBuffer};

use crate::interface::{Plain, bytes_of, oomd_event_header, read};
use crate::map::Shape;
use crate::parts::{AdoptError, Parts};
use crate::record::{DecodeError, Event, decode};

/// Names of the two maps in `include/events.bpf.h`.
const RING: &str = "oomd_events";
const LOST: &str = "oomd_lost";
/// User space's own. Programs know nothing of it.
const DELIVERY: &str = "oomd_delivery";

/// Room for more than a hundred kills that nobody has read yet. What the
/// programs declare does not count: they are given this buffer.
const RING_BYTES: u32 = 512 * 1024;

const RING_SHAPE: Shape = Shape {
    ty: MapType::RingBuf,
    name: RING,
    key: 0,
    value: 0,
    entries: RING_BYTES,
    flags: 0,
};
const LOST_SHAPE: Shape = one(LOST, size_of::<u64>());
const DELIVERY_SHAPE: Shape = one(DELIVERY, size_of::<Delivery>());

const fn one(name: &'static str, value: usize) -> Shape {
    Shape {
        ty: MapType::Array,
        name,
        key: size_of::<u32>(),
        value,
        entries: 1,
        flags: 0,
    }
}

/// How far telling has come, for a process that goes on after this one ended
/// without a word. An event leaves the buffer before it is told, and no two
/// steps are one; so what was between them counts as lost. That way each is
/// told once at most, and what nobody was told is counted.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Delivery {
    /// When the event happened that is being told, 0 if none is.
    in_doubt: u64,
    /// How many are lost that way.
    lost: u64,
    /// How many are lost in all, as was told.
    told: u64,
}

// SAFETY: three integers, without padding.
unsafe impl Plain for Delivery {}

impl Delivery {
    fn read(map: &MapHandle) -> libbpf_rs::Result<Self> {
        let value = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)?;
        Ok(value.and_then(|bytes| read(&bytes)).unwrap_or_default())
    }

    /// The event of this time is going to be told, or none if that is 0. What
    /// is in doubt still is what a process before this one took, unless it is
    /// that very event, which then never left the buffer.
    fn take(&mut self, time: u64) {
        if self.in_doubt != 0 && self.in_doubt != time {
            self.lost += 1;
        }
        self.in_doubt = time;
    }

    /// Writes only what is not so already. Nobody else writes.
    fn change(map: &MapHandle, change: impl FnOnce(&mut Self)) -> libbpf_rs::Result<Self> {
        let before = Self::read(map)?;
        let mut after = before;
        change(&mut after);
        if bytes_of(&after) != bytes_of(&before) {
            map.update(&0_u32.to_ne_bytes(), bytes_of(&after), MapFlags::ANY)?;
        }
        Ok(after)
    }
}

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

/// The shared ring buffer, and the counts of events that nobody was told.
#[derive(Debug)]
pub(crate) struct Events {
    reader: RingBuffer<'static>,
    decoded: Receiver<Result<Event, DecodeError>>,
    ring: MapHandle,
    lost: MapHandle,
    delivery: MapHandle,
    /// Whether an event was taken and does not count as told yet.
    telling: bool,
    lost_before: u64,
}

impl Events {
    /// Make the maps.
    pub(crate) fn new() -> Result<Self, EventsError> {
        let create = |shape: Shape| {
            shape
                .create()
                .map_err(EventsError::libbpf("creating the maps of events"))
        };
        Self::of(
            create(RING_SHAPE)?,
            create(LOST_SHAPE)?,
            create(DELIVERY_SHAPE)?,
        )
        .map_err(EventsError::libbpf("mapping the ring buffer"))
    }

    /// Go on with the maps of another process.
    pub(crate) fn adopt(
        mut take: impl FnMut(Shape) -> Result<MapHandle, AdoptError>,
    ) -> Result<Self, AdoptError> {
        let (ring, lost) = (take(RING_SHAPE)?, take(LOST_SHAPE)?);
        Self::of(ring, lost, take(DELIVERY_SHAPE)?)
            .map_err(AdoptError::libbpf("mapping the ring buffer"))
    }

    fn of(ring: MapHandle, lost: MapHandle, delivery: MapHandle) -> libbpf_rs::Result<Self> {
        let page_size = page_size();
        let (sender, decoded) = mpsc::channel();
        let taken = MapHandle::try_from(&delivery)?;
        let mut builder = libbpf_rs::RingBufferBuilder::new();
        builder.add(&ring, move |bytes| {
            let time = read(bytes).map_or(0, |header: oomd_event_header| header.time_ns);
            // It leaves the buffer when this returns. If it cannot be noted,
            // it is told all the same.
            let _ = Delivery::change(&taken, |delivery| delivery.take(time));
            // The receiver is gone only while `Events` is being dropped.
            let _ = sender.send(decode(bytes, page_size));
            0
        })?;
        let reader = builder.build()?;
        let lost_before = Delivery::read(&delivery)?.told;
        Ok(Self {
            reader,
            decoded,
            ring,
            lost,
            delivery,
            telling: false,
            lost_before,
        })
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        vec![
            (RING, self.ring.as_fd()),
            (LOST, self.lost.as_fd()),
            (DELIVERY, self.delivery.as_fd()),
        ]
    }

    pub(crate) fn epoll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `reader`, which `self` keeps open
        // for as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.reader.epoll_fd()) }
    }

    /// The oldest event. The one before counts as told from now on.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, EventsError> {
        let noting = || EventsError::libbpf("noting what was told");
        if std::mem::take(&mut self.telling) {
            Delivery::change(&self.delivery, |delivery| delivery.in_doubt = 0).map_err(noting())?;
        }
        let consumed = self.reader.consume_raw_n(1);
        if let Ok(event) = self.decoded.try_recv() {
            self.telling = true;
            return Ok(Some(event?));
        }
        Delivery::change(&self.delivery, |delivery| delivery.take(0)).map_err(noting())?;
        match consumed {
            0.. => Ok(None),
            error => Err(EventsError::libbpf("reading the ring buffer")(
                std::io::Error::from_raw_os_error(-error).into(),
            )),
        }
    }

    /// How many nobody was told, or perhaps nobody.
    pub(crate) fn lost(&self) -> Result<u64, EventsError> {
        let read = EventsError::libbpf("reading the count of lost events");
        let value = self.lost.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
        // The only element of an array map always exists, with the size that
        // it was made with.
        let no_room = value
            .map_err(read)?
            .as_deref()
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let count = Delivery::change(&self.delivery, |delivery| {
            delivery.told = no_room + delivery.lost;
        });
        count
            .map(|delivery| delivery.told)
            .map_err(EventsError::libbpf("reading the count of lost events"))
    }

    /// What [`Self::lost()`] said last to the process before this one.
    pub(crate) fn lost_before(&self) -> u64 {
        self.lost_before
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_being_told_when_a_process_ended_counts_as_lost_once() {
        let mut delivery = Delivery::default();
        delivery.take(7);
        assert_eq!((delivery.in_doubt, delivery.lost), (7, 0));
        delivery.take(8);
        assert_eq!((delivery.in_doubt, delivery.lost), (8, 1));
        delivery.take(0);
        assert_eq!((delivery.in_doubt, delivery.lost), (0, 2));
        delivery.take(0);
        assert_eq!((delivery.in_doubt, delivery.lost), (0, 2));
    }

    #[test]
    fn an_event_that_never_left_the_buffer_is_not_lost() {
        let mut delivery = Delivery::default();
        delivery.take(7);
        delivery.take(7);
        assert_eq!((delivery.in_doubt, delivery.lost), (7, 0));
    }
}
