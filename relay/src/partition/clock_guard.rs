//! Whether the wall clock can be believed.
//!
//! The wall clock can be set, forwards and backwards, while a process runs; the machine's time since boot cannot. The two are
//! compared: when the wall clock has made a step of more than [`STEP`] against the other, nothing that cannot be undone
//! (parking by age, forgetting) follows from it until it has gone on without a step for [`SETTLES`].

use jiff::Timestamp;
use std::time::Duration;
use talaria_core::time::{after, since};

/// A smaller difference between two looks is the work of a time server, which slews.
const STEP: Duration = Duration::from_secs(120);

/// How long a clock has to go on after a step before it is believed again.
const SETTLES: Duration = Duration::from_secs(600);

/// What the clock did since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It went on.
    Steady,
    /// It was set back.
    Back(Duration),
    /// It was set forward.
    Forward(Duration),
}

/// Compares the wall clock with the time since boot.
#[derive(Clone, Debug)]
pub(crate) struct ClockGuard {
    wall: Timestamp,
    boot: Duration,
    /// Time since boot at which it is believed again.
    settles: Option<Duration>,
}

impl ClockGuard {
    pub(crate) fn new(wall: Timestamp, boot: Duration) -> Self {
        Self { wall, boot, settles: None }
    }

    /// Whether it is believed.
    pub(crate) fn is_settled(&self) -> bool {
        self.settles.is_none()
    }

    /// Looks at both clocks.
    pub(crate) fn look(&mut self, wall: Timestamp, boot: Duration) -> Look {
        let expected = after(self.wall, boot.saturating_sub(self.boot));
        (self.wall, self.boot) = (wall, boot);
        let (back, forward) = (since(expected, wall), since(wall, expected));
        if back.max(forward) > STEP {
            self.settles = Some(boot + SETTLES);
        } else if self.settles.is_some_and(|settles| settles <= boot) {
            self.settles = None;
        }
        // What waits is moved by small steps back, too.
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
    fn a_small_step_back_is_told_and_believed() {
        let start = Timestamp::from_second(1_777_000_000).unwrap();
        let mut guard = ClockGuard::new(start, Duration::ZERO);
        let look = guard.look(before(start, Duration::from_secs(30)), Duration::ZERO);
        assert_eq!((look, guard.is_settled()), (Look::Back(Duration::from_secs(30)), true));
    }
}
