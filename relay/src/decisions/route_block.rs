//! What keeps a route's deliveries from going out, and how that is said.

use crate::{decisions::breaker::Shut, decisions::replay::who};
use jiff::Timestamp;
use talaria_bus::time::from_proto;
use talaria_proto::v1::Pause;

/// What stands before a route's deliveries.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteBlock {
    /// An operator paused it, or its tenant.
    Paused(Pause),
    /// Its circuit breaker shut it.
    Shut(Shut),
}

impl RouteBlock {
    /// What it is, in one sentence.
    pub fn because(&self) -> String {
        match self {
            Self::Paused(pause) => {
                let what = if pause.route.is_empty() { "tenant" } else { "route" };
                let since = from_proto(pause.since.as_ref());
                let reason =
                    if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
                let by = who(&pause.requested_by, &pause.token_name);
                format!("the {what} is paused by {by} since {since:.0}{reason}")
            }
            Self::Shut(shut) => format!("the route is shut: {}", shut.why),
        }
    }

    /// When a single delivery probes what is behind it; nobody knows how long a pause lasts.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Paused(_) => None,
            Self::Shut(shut) => Some(shut.until),
        }
    }

    /// What happens next to a delivery behind it, whose next attempt has this number, and what to do.
    pub fn next(&self, number: u32, now: Timestamp) -> String {
        match self {
            Self::Paused(Pause { tenant, route, .. }) => {
                let slash = if route.is_empty() { "" } else { "/" };
                format!(
                    "nothing until it is resumed: `talaria resume {tenant}{slash}{route}`; then attempt {number}"
                )
            }
            Self::Shut(shut) if shut.until > now => {
                format!(
                    "a single delivery probes the route, and if that gets through, attempt {number}; mend what shut it"
                )
            }
            Self::Shut(_) => {
                format!("a single delivery is probing the route; if that gets through, attempt {number}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::breaker::Cause;
    use talaria_bus::time::to_proto;

    #[test]
    fn a_block_says_what_it_is_and_what_to_do() {
        let at = Timestamp::from_second(1_777_000_000).unwrap();
        let pause = |route: &str, reason: &str| {
            RouteBlock::Paused(Pause {
                tenant: "acme".into(),
                route: route.into(),
                since: Some(to_proto(at)),
                requested_by: "ann".into(),
                token_name: String::new(),
                reason: reason.into(),
            })
        };
        assert_eq!(
            pause("video", "Hermes moves").because(),
            "the route is paused by ann since 2026-04-24T03:06:40Z: Hermes moves"
        );
        assert!(pause("", "").because().starts_with("the tenant is paused by ann since"));
        assert!(pause("", "").next(1, at).contains("`talaria resume acme`"));
        assert!(pause("video", "").next(1, at).contains("`talaria resume acme/video`"));
        let shut = RouteBlock::Shut(Shut { until: at, cause: Cause::Failures, tries: 1, why: "500".into() });
        assert_eq!((shut.because().as_str(), shut.until()), ("the route is shut: 500", Some(at)));
        assert!(shut.next(2, at).starts_with("a single delivery is probing"));
        assert!(shut.next(2, Timestamp::UNIX_EPOCH).ends_with("mend what shut it"));
    }
}
