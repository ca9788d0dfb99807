//! Log-in sessions, and notes from one page to the next. Both are in memory, bounded, and end with the process.

use data_encoding::BASE32_NOPAD;
use http::{HeaderValue, header, request::Parts, uri::Authority};
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

/// The most sessions of one token, so that its log-ins do not end those of others.
const MOST_EACH: usize = 50;

/// The cookie of a session. Browsers send it to every port of the host, so its name has the port by which they call. Over TLS its
/// prefix has them refuse one that another host or a plain connection set.
fn cookie_name(head: &Parts, over_tls: bool) -> String {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let prefix = if over_tls { "__Host-" } else { "" };
    match head.uri.authority().or(host.as_ref()).and_then(Authority::port_u16) {
        Some(port) => format!("{prefix}talaria-{port}"),
        None => format!("{prefix}talaria"),
    }
}

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

    /// Forgets the oldest of those that are meant, so that there are fewer than `most`.
    fn thin(&self, most: usize, is_meant: impl Fn(&T) -> bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.iter().filter(|(_, value)| is_meant(value)).count() >= most {
            let Some(oldest) = kept.iter().position(|(_, value)| is_meant(value)) else { return };
            kept.remove(oldest);
        }
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

/// Begins a session in the stead of the request's own, and returns its cookie.
pub(super) fn begin(
    sessions: &Sessions,
    token: SecretString,
    head: &Parts,
    over_tls: bool,
) -> Option<HeaderValue> {
    forget(sessions, head);
    let is_same = |session: &Session| session.token.expose_secret() == token.expose_secret();
    sessions.0.thin(MOST_EACH, is_same);
    let id = sessions.0.put(Session { token, began: Instant::now() });
    cookie(&id, LIFETIME, head, over_tls)
}

/// Ends the session of a request, and returns the cookie that removes its cookie.
pub(super) fn end(sessions: &Sessions, head: &Parts, over_tls: bool) -> Option<HeaderValue> {
    forget(sessions, head);
    cookie("", Duration::ZERO, head, over_tls)
}

fn forget(sessions: &Sessions, head: &Parts) {
    for over_tls in [false, true] {
        for id in ids(head, over_tls) {
            sessions.0.take(id);
        }
    }
}

fn cookie(id: &str, lifetime: Duration, head: &Parts, over_tls: bool) -> Option<HeaderValue> {
    let (name, secure) = (cookie_name(head, over_tls), if over_tls { "; Secure" } else { "" });
    let cookie =
        format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lifetime.as_secs());
    HeaderValue::try_from(cookie).ok()
}

/// The token of a request's session, as its authorization. Over TLS a cookie of a plain connection counts for nothing; without it, a
/// proxy may have TLS.
pub(super) fn token(sessions: &Sessions, head: &Parts, over_tls: bool) -> Option<HeaderValue> {
    let plain = ids(head, false).filter(|_| !over_tls);
    ids(head, true).chain(plain).find_map(|id| {
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

fn ids(head: &Parts, over_tls: bool) -> impl Iterator<Item = &str> {
    let name = cookie_name(head, over_tls);
    let cookies = head.headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn with(cookie: Option<&HeaderValue>) -> Parts {
        let request = Request::get("/").header(header::HOST, "localhost:8090");
        let pair = cookie.map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        request
            .header(header::COOKIE, format!("other=1; {}", pair.unwrap_or_default()))
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_has_its_token_until_it_ends() {
        let sessions = Sessions::default();
        let cookie = begin(&sessions, "tlr_x".to_owned().into(), &with(None), false).unwrap();
        let attributes = cookie.to_str().unwrap();
        assert!(attributes.starts_with("talaria-8090="), "{attributes}");
        assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{attributes}");
        assert!(!attributes.contains("tlr_x") && !attributes.contains("Secure"), "{attributes}");
        let own = with(Some(&cookie));
        assert_eq!(token(&sessions, &own, false).unwrap(), "Bearer tlr_x");
        assert_eq!(token(&sessions, &with(None), false), None);
        assert_eq!(token(&sessions, &own, true), None, "over TLS only what was set over TLS counts");
        tokio::time::advance(LIFETIME).await;
        assert_eq!(token(&sessions, &own, false), None, "it lasts a day of work");

        let first = begin(&sessions, "tlr_y".to_owned().into(), &with(None), true).unwrap();
        let attributes = first.to_str().unwrap();
        assert!(
            attributes.starts_with("__Host-talaria-8090=") && attributes.ends_with("; Secure"),
            "{attributes}"
        );
        let first = with(Some(&first));
        assert!(token(&sessions, &first, true).is_some());
        let second = with(begin(&sessions, "tlr_z".to_owned().into(), &first, true).as_ref());
        assert_eq!(token(&sessions, &first, true), None, "a log-in ends the session before it");
        assert!(end(&sessions, &second, true).unwrap().to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(token(&sessions, &second, true), None);
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

    #[tokio::test]
    async fn log_ins_with_one_token_end_those_of_that_token_alone() {
        let sessions = Sessions::default();
        let log_in =
            |token: &str| with(begin(&sessions, token.to_owned().into(), &with(None), false).as_ref());
        let (other, first) = (log_in("tlr_other"), log_in("tlr_x"));
        for _ in 0..MOST_EACH {
            log_in("tlr_x");
        }
        assert_eq!(token(&sessions, &first, false), None);
        assert!(token(&sessions, &other, false).is_some());
    }
}
