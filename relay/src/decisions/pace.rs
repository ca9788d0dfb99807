//! The pace of a route: a rate limit with reservations.
//!
//! Hermes counts the requests in a sliding window (30 in 60 s by default) and refuses the others. We count in advance: each
//! delivery reserves a slot, a point of time, and waits for it. A token bucket would not do: after a pause it lets a burst and
//! a refill through within one of Hermes' windows.
//!
//! A pace keeps two records. **Seats**: a route has one for each request of a window, each can be used once in a window, and a
//! reservation is the next time at which the earliest one is free; so all reservations together keep the pace. And the
//! **requests sent** in the last window, counted as Hermes does, so that a delivery that is late for its slot (a slow Hermes, a
//! busy bus) is not in one window with too many of the next ones.

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

/// Added to the window, because Hermes counts a request when it arrives, and not when it was due.
const MARGIN: Duration = Duration::from_secs(1);

/// One seat in so many is for first attempts alone, so that retries and mass replays do not delay new deliveries. A route with
/// fewer seats sends deliveries in the order in which they come.
const SEATS_PER_FIRST: u32 = 4;

/// Hermes' default window. A refusal is evidence about this window only, whatever window is configured.
const HERMES_WINDOW: Duration = Duration::from_secs(60);

/// A lowered limit is restored after so many of Hermes' windows without a refusal.
const WINDOWS_TO_RESTORE: u32 = 30;

/// The seats that a delivery may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Of a delivery without counted attempts.
    First,
    /// Of a retry or a replay.
    Again,
}

/// A route's requests and reservations, from the records of earlier owners.
#[derive(Clone, Debug, Default)]
pub(crate) struct PaceMemory {
    /// When requests went out.
    pub sent: Vec<Timestamp>,
    /// Slots that waiting deliveries have reserved.
    pub reserved: Vec<(Timestamp, Priority)>,
}

/// The pace of one route.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(crate) struct Pace {
    /// `None` without a limit.
    window: Option<SlidingWindow>,
    /// After a refusal of Hermes.
    not_before: Timestamp,
    /// Consecutive refusals.
    refusals: u32,
}

#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
struct SlidingWindow {
    /// The most requests in a window: the configured number, or fewer after refusals of Hermes.
    limit: u32,
    configured: u32,
    /// A window and the margin.
    span: Duration,
    /// When each seat is free, for all attempts.
    for_all: Seats,
    /// When each seat is free, for first attempts alone.
    for_first: Seats,
    /// When the requests of the last span went out, oldest first.
    sent: VecDeque<Timestamp>,
    /// When Hermes refused some of them.
    refused: VecDeque<Timestamp>,
    /// When `limit` last changed.
    corrected_at: Timestamp,
}

type Seats = BinaryHeap<Reverse<Timestamp>>;

/// How much of a pace is used, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PaceUse {
    pub limit: u32,
    pub configured: u32,
    /// Requests in the last window.
    pub sent: u32,
    /// When a delivery of each priority that comes now would go out.
    pub next_first: Timestamp,
    pub next_again: Timestamp,
}

impl Pace {
    pub(crate) fn new(pace: Option<config::Pace>, memory: PaceMemory) -> Self {
        let window = pace.map(|pace| SlidingWindow::new(pace, memory));
        Self { window, not_before: Timestamp::MIN, refusals: 0 }
    }

    /// Admits a delivery now, or gives the slot that is reserved for it. `reserved` is the slot that it has already.
    pub(crate) fn admit(
        &mut self,
        now: Timestamp,
        priority: Priority,
        reserved: Option<Timestamp>,
    ) -> Result<(), Timestamp> {
        let not_before = self.not_before;
        let Some(window) = &mut self.window else {
            return if not_before <= now { Ok(()) } else { Err(not_before) };
        };
        let slot = match reserved {
            // A slot that is over for more than a window is void. After a stop of hours, the many old slots together would
            // displace the current ones.
            Some(slot) if now <= after(slot, window.span) => slot.max(not_before),
            _ => window.reserve(now.max(not_before), priority),
        };
        if slot > now {
            return Err(slot);
        }
        window.send(now)
    }

    /// Counts a request that was admitted at `admitted` and goes out only now. Gives its new slot if the window is full by now.
    pub(crate) fn delayed(&mut self, admitted: Timestamp, now: Timestamp) -> Result<(), Timestamp> {
        let Some(window) = &mut self.window else { return Ok(()) };
        if let Some(index) = window.sent.iter().position(|sent| *sent == admitted) {
            window.sent.remove(index);
        }
        window.send(now).inspect_err(|slot| {
            let index = window.sent.partition_point(|sent| sent <= slot);
            window.sent.insert(index, *slot);
        })
    }

    /// Counts the request of an interrupted attempt, which may have gone out.
    pub(crate) fn sent(&mut self, now: Timestamp) {
        if let Some(window) = &mut self.window {
            window.reserve(now, Priority::First);
            window.sent.push_back(now);
        }
    }

    /// Hermes answered 429. Gives the slot of the next attempt. Retry-After is limited to an hour, or one answer could block a
    /// route for ever.
    pub(crate) fn refused(
        &mut self,
        now: Timestamp,
        priority: Priority,
        retry_after: Option<Duration>,
    ) -> Timestamp {
        // The first pause is as long as one slot, each further one is twice as long, up to a whole window.
        let (step, longest) = match &mut self.window {
            None => (Duration::from_secs(1), Duration::from_secs(60)),
            Some(window) => {
                window.lower(now);
                (window.trial() / window.limit, window.trial())
            }
        };
        let pause = step.saturating_mul(1 << self.refusals.min(16)).min(longest);
        self.refusals += 1;
        let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.not_before = self.not_before.max(after(now, pause.max(asked)));
        match &mut self.window {
            None => self.not_before,
            Some(window) => window.reserve(self.not_before, priority),
        }
    }

    pub(crate) fn accepted(&mut self) {
        self.refusals = 0;
    }

    /// `None` without a limit.
    pub(crate) fn usage(&self, now: Timestamp) -> Option<PaceUse> {
        let window = self.window.as_ref()?;
        let gone = before(now, window.span);
        let recent = window.sent.len() - window.sent.partition_point(|sent| *sent <= gone);
        let has_room = recent < window.limit as usize;
        let blocking = window.sent.len().checked_sub(window.limit as usize).filter(|_| !has_room);
        let blocked = blocking.and_then(|index| window.sent.get(index)).map(|sent| after(*sent, window.span));
        let earliest = now.max(self.not_before).max(blocked.unwrap_or(now));
        let free = |seats: &Seats| seats.peek().map(|Reverse(free)| (*free).max(earliest));
        let next_again = free(&window.for_all).unwrap_or(earliest);
        Some(PaceUse {
            limit: window.limit,
            configured: window.configured,
            sent: u32::try_from(recent).unwrap_or(u32::MAX),
            next_first: free(&window.for_first).map_or(next_again, |own| own.min(next_again)),
            next_again,
        })
    }
}

impl SlidingWindow {
    fn new(pace: config::Pace, memory: PaceMemory) -> Self {
        let limit = pace.count.max(1);
        let seats = |count: u32| (0..count).map(|_| Reverse(Timestamp::MIN)).collect();
        let mut window = Self {
            limit,
            configured: limit,
            span: pace.window + MARGIN,
            for_all: seats(limit - limit / SEATS_PER_FIRST),
            for_first: seats(limit / SEATS_PER_FIRST),
            sent: VecDeque::new(),
            refused: VecDeque::new(),
            corrected_at: Timestamp::MIN,
        };
        let PaceMemory { mut sent, reserved } = memory;
        sent.sort_unstable();
        let mut slots: Vec<_> = sent.iter().map(|at| (*at, Priority::First)).chain(reserved).collect();
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        for (slot, priority) in slots {
            window.reserve(slot, priority);
        }
        window.sent = sent.into();
        window
    }

    /// Reserves the first slot at or after `earliest`.
    fn reserve(&mut self, earliest: Timestamp, priority: Priority) -> Timestamp {
        let first = |seats: &Seats| seats.peek().map(|Reverse(free)| (*free).max(earliest));
        let seats = match (priority, first(&self.for_first), first(&self.for_all)) {
            (Priority::First, Some(own), Some(all)) if own <= all => &mut self.for_first,
            _ => &mut self.for_all,
        };
        let Reverse(free) = seats.pop().unwrap_or(Reverse(earliest));
        let slot = free.max(earliest);
        seats.push(Reverse(after(slot, self.span)));
        slot
    }

    /// Counts a request now, or gives the time at which the window has room.
    fn send(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.raise(now);
        self.forget(now);
        let blocking =
            self.sent.len().checked_sub(self.limit as usize).and_then(|index| self.sent.get(index));
        if let Some(sent) = blocking {
            return Err(after(*sent, self.span));
        }
        self.sent.push_back(now);
        Ok(())
    }

    /// Lowers the limit after a refusal, to the number of requests that Hermes accepted in its window.
    fn lower(&mut self, now: Timestamp) {
        self.refused.push_back(now);
        self.forget(now);
        let trial = self.trial();
        let recent = |times: &VecDeque<Timestamp>| {
            times.iter().rev().take_while(|time| **time > before(now, trial)).count()
        };
        let accepted = recent(&self.sent).saturating_sub(recent(&self.refused));
        // Our window may be as long as several of Hermes'.
        let windows = u32::try_from(self.span.as_secs() / trial.as_secs().max(1)).unwrap_or(u32::MAX);
        let limit =
            u32::try_from(accepted.max(1)).unwrap_or(u32::MAX).saturating_mul(windows).min(self.limit);
        for _ in limit..self.limit {
            if self.for_all.len() > 1 {
                self.for_all.pop();
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

    /// How long a lowered limit lasts before it is raised: a window, but no longer than Hermes' default one.
    fn trial(&self) -> Duration {
        self.span.min(HERMES_WINDOW + MARGIN)
    }

    /// Raises a lowered limit a little after each trial without a refusal.
    fn raise(&mut self, now: Timestamp) {
        if self.limit < self.configured && since(now, self.corrected_at) >= self.trial() {
            let more = (self.configured / WINDOWS_TO_RESTORE).clamp(1, self.configured - self.limit);
            self.limit += more;
            self.for_all.extend((0..more).map(|_| Reverse(now)));
            self.corrected_at = now;
        }
    }
}

#[cfg(test)]
mod tests;
