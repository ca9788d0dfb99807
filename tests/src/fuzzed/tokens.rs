//! Tokens of media links, and the paths of callbacks with their tokens.

use jiff::Timestamp;
use secrecy::SecretString;
use talaria_core::{
    media::{Claims, read, sign},
    openrouter::path::{self, CallbackPath},
};

/// No other text is signed with it than those of this file.
const KEY: &str = "sk-or-v1-that-no-seed-is-signed-with";

/// Characters of a token.
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Reads bytes as a token and as a path, and signs claims that are made of them: tenant and job, a line each.
pub fn tokens(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_eq!(verify(&text, KEY, Timestamp::UNIX_EPOCH), None, "{text:?}");
    written(data, &text);
    callback_path(&text);
}

fn verify(token: &str, key: &str, now: Timestamp) -> Option<Claims> {
    read(token)?.verify(&key.into(), now)
}

/// A token gives back its claims until it expires, with its key alone, and with none of its characters changed.
fn written(data: &[u8], text: &str) {
    let (tenant, job_id) = text.split_once('\n').unwrap_or((text, "job"));
    let sum = data.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let seconds = (i64::from(sum % 4_000_000_000) + 1) * 60;
    let time = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
    let (before, expires_at) = (time(seconds - 1), time(seconds));
    let index = data.last().copied().unwrap_or_default();
    let claims = Claims { tenant: tenant.into(), job_id: job_id.into(), index, expires_at };
    let Some(token) = sign(&SecretString::from(KEY), &claims) else {
        assert!(tenant.len() > 255 || job_id.len() > 255, "{claims:?}");
        return;
    };
    assert_eq!(verify(&token, KEY, before), Some(claims), "{token}");
    assert_eq!(verify(&token, KEY, expires_at), None, "{token}");
    assert_eq!(verify(&token, "sk-or-v1-another", before), None, "{token}");
    let sum = sum as usize;
    let changed: String = token
        .bytes()
        .enumerate()
        .map(|(at, byte)| if at == sum % token.len() { another(byte, sum / token.len()) } else { byte })
        .map(char::from)
        .collect();
    assert_eq!(verify(&changed, KEY, Timestamp::UNIX_EPOCH), None, "{token} {changed}");
}

/// Another character of a token.
fn another(byte: u8, which: usize) -> u8 {
    let mut others = ALPHABET.iter().copied().filter(|other| *other != byte);
    others.nth(which % (ALPHABET.len() - 1)).unwrap_or_default()
}

/// A path that is read is the one that is written for its tenant and token, and the other way round.
fn callback_path(text: &str) {
    if let Some(CallbackPath { tenant, token }) = path::read(text) {
        assert!(!tenant.is_empty() && !tenant.contains('/'), "{text:?}");
        let written = path::of_job(tenant, token);
        let plain = text.strip_suffix('/').unwrap_or(text);
        assert!(
            token.is_empty() == written.is_none() && written.is_none_or(|path| path == plain),
            "{text:?}"
        );
    }
    if let Some(written) = path::of_job("me", text) {
        assert_eq!(path::read(&written), Some(CallbackPath { tenant: "me", token: text }));
        assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{text:?}");
    }
}
