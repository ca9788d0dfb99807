//! The rotation of a route's secrets: the one that signs the next request.
//!
//! During a rotation a route has two secrets, and Hermes has one of them. A refusal (401) has no effect at Hermes, so the next
//! secret is tried at once; the one that worked is used from then on. When Hermes refuses all of them, the route is
//! misconfigured.

use crate::decisions::exchange::Exchange;
use talaria_core::config::Route;

/// The secrets of a route, by their index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    current: usize,
    /// Refused since one worked, or since all were refused.
    refused: Vec<usize>,
}

impl Rotation {
    /// The secret to sign with, of `count` ones.
    pub(crate) fn secret(&self, count: usize) -> usize {
        // The configuration may have fewer now.
        if self.current < count { self.current } else { 0 }
    }

    /// Records the answer to a request that was signed with `secret`. Whether another one is to be tried.
    pub(crate) fn learn(&mut self, route: &Route, secret: usize, exchange: &Exchange) -> bool {
        match exchange {
            // With a scheme that signs with all secrets, none is left to try.
            Exchange::Answered(answer) if answer.status == 401 && !route.signing.takes_all_secrets => {
                self.refused(secret, route.secrets.len())
            }
            Exchange::Answered(answer) if (200..300).contains(&answer.status) => {
                self.worked(secret);
                false
            }
            // The answer does not depend on the signature.
            _ => false,
        }
    }

    fn worked(&mut self, secret: usize) {
        *self = Self { current: secret, refused: Vec::new() };
    }

    /// Whether another of `count` secrets is left to try.
    fn refused(&mut self, secret: usize, count: usize) -> bool {
        if !self.refused.contains(&secret) {
            self.refused.push(secret);
        }
        match (0..count).find(|secret| !self.refused.contains(secret)) {
            Some(next) => {
                self.current = next;
                true
            }
            None => {
                // The newest is tried first when the route's pause is over.
                *self = Self::default();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decisions::exchange::Answer, test_config};
    use talaria_core::hermes::signature::Scheme;

    #[test]
    fn the_newest_is_tried_first_and_the_one_that_worked_is_kept() {
        let mut rotation = Rotation::default();
        assert_eq!(rotation.secret(2), 0);
        assert!(rotation.refused(0, 2));
        assert_eq!(rotation.secret(2), 1);
        rotation.worked(1);
        assert_eq!(rotation.secret(2), 1);
        // Hermes has been given the new one.
        assert!(rotation.refused(1, 2));
        assert_eq!(rotation.secret(2), 0);
        rotation.worked(0);
        assert_eq!(rotation.secret(2), 0);
    }

    #[test]
    fn when_all_are_refused_the_route_is_at_fault_and_the_newest_is_next() {
        let mut rotation = Rotation::default();
        assert!(rotation.refused(0, 3) && rotation.refused(1, 3));
        assert!(!rotation.refused(2, 3));
        assert_eq!(rotation, Rotation::default());
        assert!(!rotation.refused(0, 1), "a single one");
    }

    #[test]
    fn requests_that_were_under_way_together_skip_nothing() {
        let mut rotation = Rotation::default();
        assert!(rotation.refused(0, 2) && rotation.refused(0, 2), "the second one learns nothing new");
        assert_eq!(rotation.secret(2), 1);
        assert!(!rotation.refused(1, 2));
    }

    #[test]
    fn only_a_refusal_of_the_signature_asks_for_another_secret() {
        let mut hub = Route::clone(&test_config::route(""));
        hub.secrets.push("the old one".to_owned().into());
        let svix = Route { signing: Scheme::named("svix").unwrap(), ..hub.clone() };
        let answer = |status| Exchange::Answered(Answer { status, ..Answer::default() });
        let mut rotation = Rotation::default();
        for other in [answer(403), answer(429), answer(500), Exchange::Lost("so".into())] {
            assert!(!rotation.learn(&hub, 0, &other), "{other:?}");
        }
        assert!(!rotation.learn(&svix, 0, &answer(401)), "all were tried at once");
        assert!(rotation.learn(&hub, 0, &answer(401)));
        assert!(!rotation.learn(&hub, 1, &answer(202)));
        assert_eq!(rotation.secret(2), 1);
    }

    #[test]
    fn a_removed_secret_is_not_used() {
        let mut rotation = Rotation::default();
        rotation.worked(1);
        assert_eq!(rotation.secret(1), 0);
    }
}
