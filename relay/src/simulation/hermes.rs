//! A stand-in for Hermes that answers as the real one does, and fails as networks and operators do.

use crate::decisions::exchange::{Answer, Exchange};
use jiff::Timestamp;
use rand::{Rng as _, rngs::StdRng};
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use talaria_core::{config::Pace, time::since};

/// How long it remembers an id.
const REMEMBERS: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Nothing,
    /// Connections are refused.
    Refusing,
    /// 500 to everything.
    Failing,
    /// It takes the request, and the answer is lost.
    Mute,
    /// 401 to everything.
    Misconfigured,
    /// Its limit is a third of the configured pace.
    Stricter,
}

pub(super) struct Hermes {
    pub trouble: Trouble,
    limit: Option<Pace>,
    deliver_only: bool,
    counted: VecDeque<Timestamp>,
    seen: HashMap<String, Timestamp>,
    /// The number of runs or deliveries of each id.
    pub ran: HashMap<String, u32>,
    pub refusals: u32,
}

impl Hermes {
    pub(super) fn new(limit: Option<Pace>, deliver_only: bool) -> Self {
        Self {
            trouble: Trouble::Nothing,
            limit,
            deliver_only,
            counted: VecDeque::new(),
            seen: HashMap::new(),
            ran: HashMap::new(),
            refusals: 0,
        }
    }

    /// The answer to a request that arrives now.
    pub(super) fn answer(&mut self, id: &str, now: Timestamp, rng: &mut StdRng) -> Exchange {
        match self.trouble {
            Trouble::Refusing => return Exchange::NotSent("connection refused".into()),
            Trouble::Misconfigured => return answer(401, &json!({"error": "Invalid signature"})),
            _ => {}
        }
        if !self.has_room(now) {
            self.refusals += 1;
            return answer(429, &json!({"error": "Rate limit exceeded"}));
        }
        if self.trouble == Trouble::Failing && !self.deliver_only {
            return answer(500, &json!({}));
        }
        self.seen.retain(|_, first| since(now, *first) < REMEMBERS);
        if self.seen.contains_key(id) {
            return answer(200, &json!({"status": "duplicate", "delivery_id": id}));
        }
        self.seen.insert(id.to_owned(), now);
        if self.trouble == Trouble::Failing {
            // Recorded before it was delivered.
            return answer(502, &json!({"status": "error", "error": "Delivery failed", "delivery_id": id}));
        }
        *self.ran.entry(id.to_owned()).or_default() += 1;
        if self.trouble == Trouble::Mute || rng.random_ratio(1, 500) {
            return Exchange::Lost("nothing within 30s".into());
        }
        let status = if self.deliver_only { (200, "delivered") } else { (202, "accepted") };
        answer(status.0, &json!({"status": status.1, "delivery_id": id}))
    }

    /// Hermes' sliding window, in which refused requests do not count.
    fn has_room(&mut self, now: Timestamp) -> bool {
        let Some(Pace { count, window }) = self.limit else { return true };
        let count = if self.trouble == Trouble::Stricter { (count / 3).max(1) } else { count };
        while self.counted.front().is_some_and(|at| since(now, *at) >= window) {
            self.counted.pop_front();
        }
        let has_room = self.counted.len() < count as usize;
        if has_room {
            self.counted.push_back(now);
        }
        has_room
    }
}

fn answer(status: u16, body: &serde_json::Value) -> Exchange {
    Exchange::Answered(Answer { status, body: body.to_string().into_bytes(), ..Answer::default() })
}

/// A random trouble, for minutes or for days.
pub(super) fn some_trouble(rng: &mut StdRng) -> (Trouble, Duration) {
    let kinds =
        [Trouble::Refusing, Trouble::Failing, Trouble::Mute, Trouble::Misconfigured, Trouble::Stricter];
    let kind = kinds[rng.random_range(0..kinds.len())];
    let longest = if rng.random_range(0..10) == 0 { 4 * 86_400 } else { 3 * 3_600 };
    (kind, Duration::from_secs(rng.random_range(30..longest)))
}
