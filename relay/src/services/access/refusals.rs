//! Tells the log and the metrics of those who were refused.

use super::{Caller, decide::Refusal};
use metrics::counter;
use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So many lines are logged of refusals in each [`WINDOW`]: strangers decide how many there are.
const LINES: u32 = 20;

/// How long a stretch of time is in which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// The longest name of a method that is logged, in characters: strangers write it.
const LONGEST_NAME: usize = 100;

/// Clones share what they count.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Lines>>);

/// How many lines there were since when.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    lines: u32,
}

impl Lines {
    /// Whether one more is logged, and how many were not before it.
    fn one_more(&mut self, now: Instant) -> Option<u32> {
        let mut left_out = 0;
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            left_out = self.lines.saturating_sub(LINES);
            *self = Self { since: Some(now), lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= LINES).then_some(left_out)
    }
}

impl Refusals {
    fn left_out(&self) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).one_more(Instant::now())
    }

    /// A request was refused. Never tells the token, only its name where it has one.
    pub(super) fn request(
        &self,
        refusal: &Refusal,
        peer: Option<SocketAddr>,
        caller: Option<&Caller>,
        path: &str,
    ) {
        counter!("talaria_grpc_refused_total", "reason" => refusal.reason()).increment(1);
        if let Some(left_out) = self.left_out() {
            let method: String = path.chars().take(LONGEST_NAME).collect();
            let token = caller.map(|caller| caller.token.as_str());
            let peer = peer.map(tracing::field::display);
            let reason = refusal.reason();
            tracing::warn!(peer, token, method, reason, left_out, "refused a gRPC request");
        }
    }

    /// A connection came to nothing before anything was asked on it.
    pub(super) fn connection(&self, peer: SocketAddr, why: impl Display) {
        counter!("talaria_grpc_refused_total", "reason" => "handshake").increment(1);
        if let Some(left_out) = self.left_out() {
            tracing::warn!(%peer, %why, left_out, "a gRPC client came no further than TLS");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_fill_the_log() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let logged = (0..100).filter(|_| lines.one_more(start).is_some()).count();
        assert_eq!(logged, 20);
        assert_eq!(lines.one_more(start + WINDOW), Some(80), "it says how many it did not log");
        assert_eq!(lines.one_more(start + WINDOW), Some(0));
    }
}
