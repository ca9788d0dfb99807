//! Which of a route's secrets a request is signed with.
//!
//! While a secret is rotated there are two, and only Hermes knows which of them it has. A request that it refuses (401)
//! used up nothing there, so the next one takes the next secret at once; the one that worked is used from then on. When
//! Hermes refuses them all the route is misconfigured, as it is with a single wrong one.

use crate::decisions::classify::Exchange;
use talaria_core::config::Route;

/// What is known of a route's secrets while the process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The one to sign with.
    current: usize,
    /// Those that were refused since one worked, or since all were.
    refused: Vec<usize>,
}

impl Rotation {
    /// The index of the secret to sign with, of so many.
    pub(crate) fn secret(&self, of: usize) -> usize {
        // A route may come to have fewer.
        if self.current < of { self.current } else { 0 }
    }

    /// What came of a request that was signed with this one: whether another is to be tried.
    pub(crate) fn learn(&mut self, route: &Route, secret: usize, exchange: &Exchange) -> bool {
        match exchange {
            // A request that was signed with them all leaves none.
            Exchange::Answered(answer) if answer.status == 401 && !route.signing.takes_all_secrets => {
                self.refused(secret, route.secrets.len())
            }
            Exchange::Answered(answer) if (200..300).contains(&answer.status) => {
                self.worked(secret);
                false
            }
            // It does not show whether the signature was right.
            _ => false,
        }
    }

    /// Hermes took a request that was signed with this one.
    fn worked(&mut self, secret: usize) {
        *self = Self { current: secret, refused: Vec::new() };
    }

    /// Hermes refused one that was, of so many: whether another is left to try.
    fn refused(&mut self, secret: usize, of: usize) -> bool {
        if !self.refused.contains(&secret) {
            self.refused.push(secret);
        }
        match (0..of).find(|secret| !self.refused.contains(secret)) {
            Some(next) => {
                self.current = next;
                true
            }
            None => {
                // From the newest on, once the route's pause is over.
                *self = Self::default();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decisions::classify::Answer, testing};
    use talaria_core::hermes::signature::Scheme;

    #[test]
    fn the_newest_is_tried_first_and_what_worked_is_kept() {
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
    fn when_all_are_refused_the_route_is_at_fault_and_it_begins_anew() {
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
        let mut hub = Route::clone(&testing::route(""));
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
    fn a_secret_that_is_gone_is_not_used() {
        let mut rotation = Rotation::default();
        rotation.worked(1);
        assert_eq!(rotation.secret(1), 0);
    }
}
