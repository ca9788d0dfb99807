//! The block of a route: why its deliveries do not go out, in words.

use crate::decisions::{audit::who, breaker::Shut};
use jiff::Timestamp;
use talaria_core::time::for_people;
use talaria_proto::{time::from_proto, v1::Pause};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RouteBlock {
    /// The pauses of the route and of its tenant, the route's own first.
    Paused(Vec<Pause>),
    /// Something that its requests need cannot be read, such as its secret. With the reason.
    Down(String),
    /// By its circuit breaker.
    Shut(Shut),
}

impl RouteBlock {
    /// The reason in one sentence.
    pub(crate) fn because(&self) -> String {
        match self {
            Self::Paused(pauses) => pauses.iter().map(paused).collect::<Vec<_>>().join("; and "),
            Self::Down(why) => format!("the route is down: {why}"),
            Self::Shut(shut) => format!("the route is shut: {}", shut.why),
        }
    }

    /// The time of the next probe, or the end of the pause. `None` if it is unknown.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Paused(pauses) => pauses.iter().map(ends).collect::<Option<Vec<_>>>()?.into_iter().max(),
            Self::Down(_) => None,
            Self::Shut(shut) => Some(shut.until),
        }
    }

    /// The next step of a blocked delivery, with the number of its next attempt, and advice.
    pub(crate) fn next(&self, number: u32, now: Timestamp) -> String {
        match self {
            Self::Paused(pauses) => {
                let resume = pauses.iter().map(|Pause { tenant, route, .. }| {
                    let slash = if route.is_empty() { "" } else { "/" };
                    format!("`talaria resume {tenant}{slash}{route}`")
                });
                let resume = resume.collect::<Vec<_>>().join(" and ");
                match self.until() {
                    Some(until) => {
                        let until = for_people(until);
                        format!("nothing until {until}, or until {resume}; then attempt {number}")
                    }
                    None => format!("nothing until it is resumed: {resume}; then attempt {number}"),
                }
            }
            Self::Down(_) => {
                format!("nothing until that can be read, which needs no restart; then attempt {number}")
            }
            Self::Shut(shut) if shut.until > now => {
                format!(
                    "a single delivery probes the route, and if that gets through, attempt {number}; mend what shut it, and `talaria probe` tries it at once"
                )
            }
            Self::Shut(_) => {
                format!("a single delivery is probing the route; if that gets through, attempt {number}")
            }
        }
    }
}

fn ends(pause: &Pause) -> Option<Timestamp> {
    pause.until.as_ref().map(|until| from_proto(Some(until)))
}

fn paused(pause: &Pause) -> String {
    let kind = if pause.route.is_empty() { "tenant" } else { "route" };
    let since = for_people(from_proto(pause.since.as_ref()));
    let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
    let by = who(&pause.requested_by, &pause.token_name);
    let until = ends(pause).map_or(String::new(), |until| format!(" until {}", for_people(until)));
    format!("the {kind} is paused by {by} since {since}{until}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::breaker::Cause;
    use talaria_proto::time::to_proto;

    #[test]
    fn a_block_has_a_reason_and_advice() {
        let at = Timestamp::from_second(1_777_000_000).unwrap();
        let paused = |route: &str, reason: &str| Pause {
            tenant: "acme".into(),
            route: route.into(),
            since: Some(to_proto(at)),
            requested_by: "ann".into(),
            reason: reason.into(),
            ..Pause::default()
        };
        let pause = |route: &str, reason: &str| RouteBlock::Paused(vec![paused(route, reason)]);
        assert_eq!(
            pause("video", "Hermes moves").because(),
            "the route is paused by ann since 2026-04-24 03:06:40Z: Hermes moves"
        );
        assert!(pause("", "").because().starts_with("the tenant is paused by ann since"));
        assert!(pause("", "").next(1, at).contains("`talaria resume acme`"));
        assert!(pause("video", "").next(1, at).contains("`talaria resume acme/video`"));
        let both = RouteBlock::Paused(vec![paused("video", "one"), paused("", "two")]);
        assert!(both.because().contains(": one; and the tenant is paused by ann"), "{}", both.because());
        assert!(both.next(1, at).contains("`talaria resume acme/video` and `talaria resume acme`"));
        let until = Some(to_proto(at + std::time::Duration::from_secs(7_200)));
        let ends = Pause { until, ..paused("", "") };
        let one_goes_on = RouteBlock::Paused(vec![paused("video", ""), ends.clone()]);
        assert_eq!(one_goes_on.until(), None, "both have to end");
        let ends = RouteBlock::Paused(vec![ends]);
        assert_eq!(
            ends.because(),
            "the tenant is paused by ann since 2026-04-24 03:06:40Z until 2026-04-24 05:06:40Z"
        );
        assert_eq!(
            ends.next(1, at),
            "nothing until 2026-04-24 05:06:40Z, or until `talaria resume acme`; then attempt 1"
        );
        let down = RouteBlock::Down("cannot read the secret in x".into());
        assert_eq!(down.because(), "the route is down: cannot read the secret in x");
        assert_eq!(down.until(), None, "its end is unknown");
        assert!(down.next(2, at).ends_with("; then attempt 2"));
        let shut = RouteBlock::Shut(Shut { until: at, cause: Cause::Failures, tries: 1, why: "500".into() });
        assert_eq!((shut.because().as_str(), shut.until()), ("the route is shut: 500", Some(at)));
        assert!(shut.next(2, at).starts_with("a single delivery is probing"));
        assert!(
            shut.next(2, Timestamp::UNIX_EPOCH)
                .ends_with("mend what shut it, and `talaria probe` tries it at once")
        );
    }
}
