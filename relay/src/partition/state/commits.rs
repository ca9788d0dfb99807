//! The commits whose sequences are not known yet: at most one that is being appended, and one that is being built.

use super::{Payload, kept::Base};
use talaria_bus::Floors;

/// A commit whose sequence is not known.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Stands for its sequence in its base records.
    pub base: Base,
    /// The floors before it. If it never becomes durable, the next owner needs these.
    floors: Floors,
    /// Whether it contains `Opened`.
    pub has_opened: bool,
    /// The events that it carries, and where their payloads are until it is durable.
    carried: Vec<(u64, Payload)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Commits {
    /// The number of commits that were closed.
    count: u64,
    closed: Option<Pending>,
    open: Option<Pending>,
}

impl Commits {
    /// The commit that is being built. `floors` is called if this is its first record.
    pub(super) fn open(&mut self, floors: impl FnOnce() -> Floors) -> &mut Pending {
        let base = Base::pending(self.count);
        self.open.get_or_insert_with(|| Pending {
            base,
            floors: floors(),
            has_opened: false,
            carried: Vec::new(),
        })
    }

    /// Adds an event that the commit carries, and where its payload is until then.
    pub(super) fn carry(&mut self, event_seq: u64, payload: Payload) {
        if let Some(open) = &mut self.open
            && !open.carried.iter().any(|(carried, _)| *carried == event_seq)
        {
            open.carried.push((event_seq, payload));
        }
    }

    /// Where the payload of an event is whose `EventCarried` is not durable.
    pub(super) fn payload(&self, event_seq: u64) -> Option<Payload> {
        let carried = self.closed.iter().chain(&self.open).flat_map(|pending| &pending.carried);
        carried.filter(|(carried, _)| *carried == event_seq).map(|(_, payload)| *payload).next()
    }

    /// Stands for the sequence of the commit that is being built.
    pub(super) fn base(&self) -> Base {
        Base::pending(self.count)
    }

    pub(super) fn close(&mut self) {
        debug_assert!(self.closed.is_none(), "only one commit at a time is appended");
        let nothing = Floors { events: u64::MAX, journal: u64::MAX };
        let empty = Pending { base: self.base(), floors: nothing, has_opened: false, carried: Vec::new() };
        self.closed = Some(self.open.take().unwrap_or(empty));
        self.count += 1;
    }

    /// The closed commit, whose sequence is known now.
    pub(super) fn committed(&mut self) -> Option<Pending> {
        if self.closed.is_none() {
            self.close();
        }
        self.closed.take()
    }

    /// The floors of the state, lowered to those that count if the commits are lost.
    pub(super) fn lower(&self, floors: Floors) -> Floors {
        let pending = self.closed.iter().chain(&self.open).map(|pending| pending.floors);
        pending.fold(floors, |least, other| Floors {
            events: least.events.min(other.events),
            journal: least.journal.min(other.journal),
        })
    }
}
