//! Log-in sessions, and notes from one page to the next. Both are in memory, bounded, and end with the process.

use data_encoding::BASE32_NOPAD;
use http::{HeaderMap, HeaderValue, header};
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long a session lasts: a day of work.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The most sessions, and the most notes; the oldest goes first.
const MOST: usize = 1000;

/// The cookie of a session. Over TLS its prefix has browsers refuse one that another host or a plain connection set.
const COOKIE: &str = "talaria";
const COOKIE_OVER_TLS: &str = "__Host-talaria";

/// Values by random ids that cannot be guessed.
struct Kept<T>(Arc<Mutex<VecDeque<(String, T)>>>);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Kept<T> {
    fn put(&self, value: T) -> String {
        let id = BASE32_NOPAD.encode(&rand::rng().random::<[u8; 20]>()).to_ascii_lowercase();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back((id.clone(), value));
        id
    }

    fn with<R>(&self, id: &str, read: impl FnOnce(&T) -> R) -> Option<R> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == id).map(|(_, value)| read(value))
    }

    fn take(&self, id: &str) -> Option<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| known == id)?;
        kept.remove(found).map(|(_, value)| value)
    }
}

/// A token that was given at log-in, and when.
struct Session {
    token: SecretString,
    began: Instant,
}

/// Who is logged in.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Kept<Session>);

/// What was done, for the page that is shown next.
#[derive(Clone, Default)]
pub(crate) struct Notes(Kept<String>);

impl Notes {
    pub(super) fn put(&self, note: String) -> String {
        self.0.put(note)
    }

    pub(super) fn take(&self, id: &str) -> Option<String> {
        self.0.take(id)
    }
}

/// Begins a session, and returns its cookie.
pub(super) fn begin(sessions: &Sessions, token: SecretString, over_tls: bool) -> Option<HeaderValue> {
    let id = sessions.0.put(Session { token, began: Instant::now() });
    cookie(&id, LIFETIME, over_tls)
}

/// Ends the session of a request, and returns the cookie that removes its cookie.
pub(super) fn end(sessions: &Sessions, headers: &HeaderMap, over_tls: bool) -> Option<HeaderValue> {
    for id in ids(headers) {
        sessions.0.take(id);
    }
    cookie("", Duration::ZERO, over_tls)
}

fn cookie(id: &str, lifetime: Duration, over_tls: bool) -> Option<HeaderValue> {
    let (name, secure) = if over_tls { (COOKIE_OVER_TLS, "; Secure") } else { (COOKIE, "") };
    let cookie =
        format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lifetime.as_secs());
    HeaderValue::try_from(cookie).ok()
}

/// The token of a request's session, as its authorization.
pub(super) fn token(sessions: &Sessions, headers: &HeaderMap) -> Option<HeaderValue> {
    ids(headers).find_map(|id| {
        let token = sessions.0.with(id, |session| {
            (session.began.elapsed() < LIFETIME).then(|| bearer(&session.token)).flatten()
        });
        token.flatten()
    })
}

pub(super) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    pairs.filter(|(name, _)| matches!(*name, COOKIE | COOKIE_OVER_TLS)).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        [(header::COOKIE, format!("other=1; {pair}").parse().unwrap())].into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_its_token_until_it_ends() {
        let sessions = Sessions::default();
        let cookie = begin(&sessions, "tlr_x".to_owned().into(), false).unwrap();
        let attributes = cookie.to_str().unwrap();
        assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{attributes}");
        assert!(!attributes.contains("tlr_x") && !attributes.contains("Secure"), "{attributes}");
        let own = headers(&cookie);
        assert_eq!(token(&sessions, &own).unwrap(), "Bearer tlr_x");
        assert_eq!(token(&sessions, &HeaderMap::new()), None);
        tokio::time::advance(LIFETIME).await;
        assert_eq!(token(&sessions, &own), None, "it lasts a day of work");

        let cookie = begin(&sessions, "tlr_y".to_owned().into(), true).unwrap();
        assert!(
            cookie.to_str().unwrap().starts_with("__Host-talaria=")
                && cookie.to_str().unwrap().ends_with("; Secure")
        );
        let own = headers(&cookie);
        assert!(token(&sessions, &own).is_some());
        assert!(end(&sessions, &own, true).unwrap().to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(token(&sessions, &own), None);
    }

    #[test]
    fn the_oldest_goes_first() {
        let notes = Notes::default();
        let first = notes.put("first".into());
        let second = notes.put("second".into());
        for n in 2..=MOST {
            notes.put(n.to_string());
        }
        assert_eq!(notes.take(&first), None);
        assert_eq!(notes.take(&second).as_deref(), Some("second"));
        assert_eq!(notes.take(&second), None, "a note is shown once");
    }
}
