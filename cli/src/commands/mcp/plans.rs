//! Plans that were shown and wait for their confirmation, each under a code that carries out this plan once.

use data_encoding::BASE32_NOPAD;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a code is good.
pub(super) const LIFE: Duration = Duration::from_mins(5);

/// The most plans that wait. A further one replaces the oldest.
const MAX_PLANS: usize = 16;

/// Plans by their codes, oldest first.
#[derive(Debug)]
pub(super) struct Plans<T>(VecDeque<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    code: String,
    until: Instant,
    plan: T,
}

impl<T> Default for Plans<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Plans<T> {
    /// Keeps a plan. Returns its code.
    pub(super) fn add(&mut self, plan: T, now: Instant) -> String {
        self.forget(now);
        if self.0.len() >= MAX_PLANS {
            self.0.pop_front();
        }
        let code = BASE32_NOPAD.encode(&rand::random::<[u8; 10]>());
        self.0.push_back(Waiting { code: code.clone(), until: now + LIFE, plan });
        code
    }

    /// The plan of this code, if it is still good. No code is good twice.
    pub(super) fn take(&mut self, code: &str, now: Instant) -> Option<T> {
        self.forget(now);
        let at = self.0.iter().position(|waiting| waiting.code.eq_ignore_ascii_case(code.trim()))?;
        self.0.remove(at).map(|waiting| waiting.plan)
    }

    /// Keeps a plan again that was taken and not carried out.
    pub(super) fn put_back(&mut self, code: &str, plan: T, now: Instant) {
        self.0.push_back(Waiting { code: code.trim().to_owned(), until: now + LIFE, plan });
    }

    fn forget(&mut self, now: Instant) {
        self.0.retain(|waiting| waiting.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_for_its_own_plan() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        let (one, two) = (plans.add("one", now), plans.add("two", now));
        assert!(one != two && one.len() == 16, "{one}");
        assert_eq!(plans.take("", now), None);
        assert_eq!(plans.take(&one[..15], now), None);
        assert_eq!(plans.take(&format!(" {} ", one.to_lowercase()), now), Some("one"));
        assert_eq!(plans.take(&one, now), None);
        plans.put_back(&one, "one", now);
        assert_eq!(plans.take(&one, now), Some("one"));
        assert_eq!(plans.take(&two, now), Some("two"));
    }

    #[test]
    fn a_code_is_good_for_a_while() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        let code = plans.add((), now);
        assert_eq!(plans.take(&code, now + LIFE), None);
        let code = plans.add((), now);
        assert_eq!(plans.take(&code, now + LIFE.saturating_sub(Duration::from_millis(1))), Some(()));
    }

    #[test]
    fn the_oldest_plan_goes_first() {
        let (mut plans, now) = (Plans::default(), Instant::now());
        let codes: Vec<_> = (0..=MAX_PLANS).map(|plan| plans.add(plan, now)).collect();
        assert_eq!(plans.take(&codes[0], now), None);
        assert_eq!(plans.take(&codes[1], now), Some(1));
        assert_eq!(plans.take(&codes[MAX_PLANS], now), Some(MAX_PLANS));
    }
}
