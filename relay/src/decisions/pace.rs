//! How fast requests to a route may follow each other.
//!
//! Hermes counts the requests of a sliding window (30 in 60 s by default) and refuses what is beyond. So do we,
//! beforehand: each delivery reserves a slot, a point of time, and waits for it. A token bucket would not
//! do: after a pause it lets a burst and a refill through within one of Hermes' windows.
//!
//! Two things are kept for it. **Seats**: a route has as many as a window allows, each can be used once a window,
//! and a reservation is the next time that the earliest one is free; so whatever is reserved keeps the pace. And
//! **what was sent**: what goes out is also counted, as Hermes does, so that a delivery that is late for its slot (a slow
//! Hermes, a busy bus) does not meet the next ones within one window.

use crate::decisions::retry::LONGEST_RETRY_AFTER;
use jiff::Timestamp;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};
use talaria_core::{
    config,
    time::{after, before, since},
};

/// Slots are this much further apart than the window asks, because Hermes' clock reads when a request has
/// arrived and not when it was due.
const MARGIN: Duration = Duration::from_secs(1);

/// One seat in so many is kept for first attempts, so that old deliveries which are tried again, or replayed by the
/// thousand, do not hold up new ones. Routes with fewer seats serve deliveries in the order of their coming.
const KEPT: u32 = 4;

/// How long Hermes counts a request. Whatever window is configured, what it refused says no more than that.
const HERMES_COUNTS: Duration = Duration::from_secs(60);

/// A pace that was corrected is back after so many windows of Hermes' without a refusal.
const BACK_AFTER: u32 = 30;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// None of its attempts has counted yet.
    First,
    /// It has failed before, or is replayed.
    Again,
}

/// What is known of a route's requests from before this process, or this owner, had it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// When requests went out.
    pub sent: Vec<Timestamp>,
    /// Slots that waiting deliveries have reserved.
    pub reserved: Vec<(Timestamp, Turn)>,
}

/// The pace of one route.
#[derive(Debug)]
pub(crate) struct Pace {
    /// `None` without bound.
    bounds: Option<Bounds>,
    /// Hermes refused: nothing goes out before this.
    not_before: Timestamp,
    /// Refusals in a row.
    refusals: u32,
}

/// A configured pace.
#[derive(Debug)]
struct Bounds {
    /// How many requests a window may have: what is configured, or fewer once Hermes has shown that it allows fewer.
    limit: u32,
    configured: u32,
    /// A window and the margin.
    span: Duration,
    /// When each seat is free, for everybody.
    open: Seats,
    /// And for first attempts alone.
    kept: Seats,
    /// When requests went out, oldest first, of the last span.
    sent: VecDeque<Timestamp>,
    /// When Hermes refused some of them.
    refused: VecDeque<Timestamp>,
    /// When `limit` last changed.
    corrected_at: Timestamp,
}

type Seats = BinaryHeap<Reverse<Timestamp>>;

impl Pace {
    /// The pace of a route of which this is known.
    pub(crate) fn new(pace: Option<config::Pace>, remembered: Remembered) -> Self {
        let bounds = pace.map(|pace| Bounds::new(pace, remembered));
        Self { bounds, not_before: Timestamp::MIN, refusals: 0 }
    }

    /// Whether a delivery may go out now, and otherwise the slot that is reserved for it. `reserved` is the slot
    /// that it holds already.
    pub(crate) fn admit(
        &mut self,
        now: Timestamp,
        turn: Turn,
        reserved: Option<Timestamp>,
    ) -> Result<(), Timestamp> {
        let not_before = self.not_before;
        let Some(bounds) = &mut self.bounds else {
            return if not_before <= now { Ok(()) } else { Err(not_before) };
        };
        let place = match reserved {
            // Late by more than a window it was forgotten, as over a stop of hours: all of them together would crowd
            // out those whose slots come now.
            Some(place) if now <= after(place, bounds.span) => place.max(not_before),
            _ => bounds.reserve(now.max(not_before), turn),
        };
        if place > now {
            return Err(place);
        }
        bounds.send(now)
    }

    /// A request that was admitted at `admitted` goes out only now: the window counts it from now on. If the window is full
    /// by now, this is when it has room.
    pub(crate) fn delayed(&mut self, admitted: Timestamp, now: Timestamp) -> Result<(), Timestamp> {
        let Some(bounds) = &mut self.bounds else { return Ok(()) };
        if let Some(index) = bounds.sent.iter().position(|sent| *sent == admitted) {
            bounds.sent.remove(index);
        }
        bounds.send(now).inspect_err(|slot| {
            let index = bounds.sent.partition_point(|sent| sent <= slot);
            bounds.sent.insert(index, *slot);
        })
    }

    /// A request may have gone out that was not admitted here: an attempt of an earlier owner was interrupted.
    pub(crate) fn sent(&mut self, now: Timestamp) {
        if let Some(bounds) = &mut self.bounds {
            bounds.reserve(now, Turn::First);
            bounds.sent.push_back(now);
        }
    }

    /// Hermes answered 429 all the same: the slot in which it is tried again. Retry-After counts up to an
    /// hour, or one answer could close a route for good.
    pub(crate) fn refused(&mut self, now: Timestamp, turn: Turn, retry_after: Option<Duration>) -> Timestamp {
        // One slot's worth at first, then twice as much each time; after a whole window Hermes has forgotten us.
        let (step, longest) = match &mut self.bounds {
            None => (Duration::from_secs(1), Duration::from_secs(60)),
            Some(bounds) => {
                bounds.correct(now);
                (bounds.trial() / bounds.limit, bounds.trial())
            }
        };
        let pause = step.saturating_mul(1 << self.refusals.min(16)).min(longest);
        self.refusals += 1;
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.not_before = self.not_before.max(after(now, pause.max(asked)));
        match &mut self.bounds {
            None => self.not_before,
            Some(bounds) => bounds.reserve(self.not_before, turn),
        }
    }

    /// Hermes took a request.
    pub(crate) fn accepted(&mut self) {
        self.refusals = 0;
    }
}

impl Bounds {
    fn new(pace: config::Pace, remembered: Remembered) -> Self {
        let limit = pace.count.max(1);
        let seats = |count: u32| (0..count).map(|_| Reverse(Timestamp::MIN)).collect();
        let mut bounds = Self {
            limit,
            configured: limit,
            span: pace.window + MARGIN,
            open: seats(limit - limit / KEPT),
            kept: seats(limit / KEPT),
            sent: VecDeque::new(),
            refused: VecDeque::new(),
            corrected_at: Timestamp::MIN,
        };
        let Remembered { mut sent, reserved } = remembered;
        sent.sort_unstable();
        let mut places: Vec<_> = sent.iter().map(|at| (*at, Turn::First)).chain(reserved).collect();
        places.sort_unstable_by_key(|(place, _)| *place);
        for (place, turn) in places {
            bounds.reserve(place, turn);
        }
        bounds.sent = sent.into();
        bounds
    }

    /// The first slot at or behind a time.
    fn reserve(&mut self, earliest: Timestamp, turn: Turn) -> Timestamp {
        let first = |seats: &Seats| seats.peek().map(|Reverse(free)| (*free).max(earliest));
        let seats = match (turn, first(&self.kept), first(&self.open)) {
            (Turn::First, Some(kept), Some(open)) if kept <= open => &mut self.kept,
            _ => &mut self.open,
        };
        let Reverse(free) = seats.pop().unwrap_or(Reverse(earliest));
        let place = free.max(earliest);
        seats.push(Reverse(after(place, self.span)));
        place
    }

    /// Whether there is room in the window that ends now, and otherwise when there will be.
    fn send(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.widen(now);
        self.forget(now);
        let in_the_way =
            self.sent.len().checked_sub(self.limit as usize).and_then(|index| self.sent.get(index));
        if let Some(sent) = in_the_way {
            return Err(after(*sent, self.span));
        }
        self.sent.push_back(now);
        Ok(())
    }

    /// Hermes refused a request: what it took of its window is what it allows, unless others send to it too.
    fn correct(&mut self, now: Timestamp) {
        self.refused.push_back(now);
        self.forget(now);
        let trial = self.trial();
        let recent = |times: &VecDeque<Timestamp>| {
            times.iter().rev().take_while(|time| **time > before(now, trial)).count()
        };
        let taken = recent(&self.sent).saturating_sub(recent(&self.refused));
        // As much in each of its windows that ours has.
        let windows = u32::try_from(self.span.as_secs() / trial.as_secs().max(1)).unwrap_or(u32::MAX);
        let limit = u32::try_from(taken.max(1)).unwrap_or(u32::MAX).saturating_mul(windows).min(self.limit);
        for _ in limit..self.limit {
            if self.open.len() > 1 {
                self.open.pop();
            }
        }
        (self.limit, self.corrected_at) = (limit, now);
    }

    fn forget(&mut self, now: Timestamp) {
        let gone = before(now, self.span);
        for times in [&mut self.sent, &mut self.refused] {
            while times.front().is_some_and(|time| *time <= gone) {
                times.pop_front();
            }
        }
    }

    /// How long a corrected pace is tried before more is: a window, but no longer than Hermes counts.
    fn trial(&self) -> Duration {
        self.span.min(HERMES_COUNTS + MARGIN)
    }

    /// Some more are tried after each trial without a refusal.
    fn widen(&mut self, now: Timestamp) {
        if self.limit < self.configured && since(now, self.corrected_at) >= self.trial() {
            let more = (self.configured / BACK_AFTER).clamp(1, self.configured - self.limit);
            self.limit += more;
            self.open.extend((0..more).map(|_| Reverse(now)));
            self.corrected_at = now;
        }
    }
}

#[cfg(test)]
mod tests;
