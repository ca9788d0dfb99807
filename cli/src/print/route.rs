//! A route's block, in one sentence, and its oldest delivery.

use super::{duration, one_line, time};
use jiff::Timestamp;
use talaria_core::time::since;
use talaria_proto::{
    time::from_proto,
    v1::{BreakerState, Pause, RouteSummary},
};
use talaria_relay::who;

/// Whether the route's breaker shut it.
pub(crate) fn is_shut(route: &RouteSummary) -> bool {
    matches!(route.breaker(), BreakerState::Shut | BreakerState::Probing)
}

/// Why nothing is sent to a route; empty for a route that works.
pub(crate) fn block(route: &RouteSummary) -> String {
    if route.not_configured {
        return "not configured".to_owned();
    }
    if let Some(pause) = &route.pause {
        let owner = if pause.route.is_empty() { "tenant " } else { "" };
        return format!("{owner}{}", paused(pause));
    }
    if !route.down_because.is_empty() {
        return format!("down: {}", route.down_because);
    }
    match (route.breaker(), route.held_until.as_ref()) {
        (BreakerState::Probing, _) => format!("probing: {}", route.held_because),
        (BreakerState::Shut, until) => format!("shut until {}: {}", time(until), route.held_because),
        _ => String::new(),
    }
}

/// The age of the oldest waiting delivery; "-" without one.
pub(crate) fn oldest(route: &RouteSummary) -> String {
    let oldest = route.oldest_waiting_received_at.as_ref();
    oldest.map_or("-".to_owned(), |at| duration(since(Timestamp::now(), from_proto(Some(at)))))
}

/// "paused since 2026-11-28 12:00:00Z until 2026-11-28 14:00:00Z by ana: Hermes is being moved".
pub(crate) fn paused(pause: &Pause) -> String {
    let since = time(pause.since.as_ref());
    let reason =
        if pause.reason.is_empty() { String::new() } else { format!(": {}", one_line(&pause.reason)) };
    let until = pause.until.as_ref().map_or(String::new(), |until| format!(" until {}", time(Some(until))));
    format!(
        "paused since {since}{until} by {}{reason}",
        one_line(&who(&pause.requested_by, &pause.token_name))
    )
}
