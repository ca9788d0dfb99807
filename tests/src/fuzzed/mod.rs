//! What has to hold for any bytes. Each function panics where it does not.
//!
//! `make fuzz` runs them on bytes that libFuzzer makes up, and the end-to-end tests on the seeds in fuzz/corpus and on random bytes.
//! The crate in fuzz/ includes these files instead of depending on this crate, of which it would compile all.
//!
//! - [`answers`]: OpenRouter's answers, as crate `openrouter` reads them.
//! - [`callbacks`]: the signature and the body of a callback, as core verifies and reads them.
//! - [`tokens`]: tokens of media links, and the paths of callbacks.

mod answers;
mod callbacks;
mod tokens;

pub use answers::answers;
pub use callbacks::callbacks;
pub use tokens::tokens;

/// The first line without its end, and the rest.
fn split_line(data: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
