//! The log and the metrics of refused requests.

use super::{Caller, decide::Denial};
use metrics::counter;
use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The most lines in each [`WINDOW`]: unauthenticated clients decide how many refusals there are.
const LINES: u32 = 20;

const WINDOW: Duration = Duration::from_secs(60);

/// The longest name of a method that is logged, in characters: it is untrusted.
const LONGEST_NAME: usize = 100;

/// Clones share the count.
#[derive(Clone, Default)]
pub(crate) struct RefusalLog(Arc<Mutex<Lines>>);

/// The lines of the current window.
#[derive(Default)]
struct Lines {
    since: Option<Instant>,
    lines: u32,
}

impl Lines {
    /// The number of lines that were left out before this one; `None` if this one is left out, too.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        let mut left_out = 0;
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            left_out = self.lines.saturating_sub(LINES);
            *self = Self { since: Some(now), lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        (self.lines <= LINES).then_some(left_out)
    }
}

impl RefusalLog {
    fn left_out(&self) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }

    /// Logs a refused request. Of the token only its name, if it is known.
    pub(super) fn request(
        &self,
        denial: &Denial,
        peer: Option<SocketAddr>,
        caller: Option<&Caller>,
        path: &str,
    ) {
        counter!("talaria_grpc_refused_total", "reason" => denial.reason()).increment(1);
        if let Some(left_out) = self.left_out() {
            let method: String = path.chars().take(LONGEST_NAME).collect();
            let token = caller.map(|caller| caller.token.as_str());
            let peer = peer.map(tracing::field::display);
            let reason = denial.reason();
            tracing::warn!(peer, token, method, reason, left_out, "refused a gRPC request");
        }
    }

    /// Logs a connection that failed before its first request.
    pub(super) fn connection(&self, peer: SocketAddr, why: impl Display) {
        counter!("talaria_grpc_refused_total", "reason" => "handshake").increment(1);
        if let Some(left_out) = self.left_out() {
            tracing::warn!(%peer, %why, left_out, "gRPC connection failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_do_not_fill_the_log() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let logged = (0..100).filter(|_| lines.admit(start).is_some()).count();
        assert_eq!(logged, 20);
        assert_eq!(lines.admit(start + WINDOW), Some(80), "with the number of left out lines");
        assert_eq!(lines.admit(start + WINDOW), Some(0));
    }
}
