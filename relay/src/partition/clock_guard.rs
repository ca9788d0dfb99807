//! The clock guard: whether the wall clock is believed.
//!
//! The wall clock can be set, forwards and backwards, while a process runs; the machine's time since boot cannot. The two are
//! compared: after a step of more than [`STEP`] between them, nothing irreversible (parking by age, forgetting) is done until the
//! wall clock has gone on without a step for [`SETTLE_TIME`].

use jiff::Timestamp;
use std::time::Duration;
use talaria_core::time::{after, since};

/// A time server that slews makes smaller differences between two looks.
const STEP: Duration = Duration::from_secs(120);

/// The time without a step after which the clock is believed again.
const SETTLE_TIME: Duration = Duration::from_secs(600);

/// The movement of the wall clock since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Steady,
    /// Set back.
    Back(Duration),
    /// Set forward.
    Forward(Duration),
}

/// Compares the wall clock with the time since boot.
#[derive(Clone, Debug)]
pub(crate) struct ClockGuard {
    wall: Timestamp,
    boot: Duration,
    /// The time since boot at which the clock is believed again.
    settles: Option<Duration>,
}

impl ClockGuard {
    pub(crate) fn new(wall: Timestamp, boot: Duration) -> Self {
        Self { wall, boot, settles: None }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settles.is_none()
    }

    pub(crate) fn look(&mut self, wall: Timestamp, boot: Duration) -> Look {
        let expected = after(self.wall, boot.saturating_sub(self.boot));
        (self.wall, self.boot) = (wall, boot);
        let (back, forward) = (since(expected, wall), since(wall, expected));
        if back.max(forward) > STEP {
            self.settles = Some(boot + SETTLE_TIME);
        } else if self.settles.is_some_and(|settles| settles <= boot) {
            self.settles = None;
        }
        // Waiting deliveries are moved by small steps back, too.
        match (back, forward) {
            (back, _) if back >= Duration::from_secs(1) => Look::Back(back),
            (_, forward) if forward > STEP => Look::Forward(forward),
            _ => Look::Steady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_core::time::before;

    #[test]
    fn a_clock_that_made_a_step_is_believed_once_it_has_gone_on_for_a_while() {
        let start = Timestamp::from_second(1_777_000_000).unwrap();
        let seconds = Duration::from_secs;
        let mut guard = ClockGuard::new(start, seconds(50));
        assert_eq!(guard.look(after(start, seconds(10)), seconds(60)), Look::Steady);
        assert_eq!(guard.look(after(start, seconds(131)), seconds(71)), Look::Steady, "slewed");
        assert!(guard.is_settled());
        let ahead = after(start, seconds(864_000));
        assert!(matches!(guard.look(ahead, seconds(72)), Look::Forward(_)));
        assert!(!guard.is_settled());
        assert!(matches!(guard.look(after(start, seconds(73)), seconds(93)), Look::Back(_)));
        assert_eq!(guard.look(after(start, seconds(672)), seconds(692)), Look::Steady);
        assert!(!guard.is_settled());
        assert_eq!(guard.look(after(start, seconds(673)), seconds(693)), Look::Steady);
        assert!(guard.is_settled());
        assert_eq!(guard.look(before(start, seconds(1)), seconds(1_367)), Look::Back(seconds(1_348)));
    }

    #[test]
    fn a_small_step_back_is_reported_and_believed() {
        let start = Timestamp::from_second(1_777_000_000).unwrap();
        let mut guard = ClockGuard::new(start, Duration::ZERO);
        let look = guard.look(before(start, Duration::from_secs(30)), Duration::ZERO);
        assert_eq!((look, guard.is_settled()), (Look::Back(Duration::from_secs(30)), true));
    }
}
