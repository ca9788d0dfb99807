//! Paths in logs.

use crate::media;
use talaria_core::openrouter::path::{CallbackPath, PREFIX, read};

/// A path without its callback token and without the token of a media link. A proxy may have put something in front.
pub(crate) fn without_token(path: &str) -> &str {
    if let Some(at) = path.find(media::PREFIX) {
        return path.get(..at + media::PREFIX.len() - 1).unwrap_or_default();
    }
    match read(path) {
        Some(CallbackPath { tenant, token }) if !token.is_empty() => {
            path.get(..PREFIX.len() + tenant.len()).unwrap_or_default()
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_logged() {
        for (path, shown) in [
            ("/callbacks/acme/abc234", "/callbacks/acme"),
            ("/callbacks/acme/abc234/", "/callbacks/acme"),
            ("/callbacks/acme/", "/callbacks/acme/"),
            ("/callbacks/acme/Abc", "/callbacks/acme/Abc"),
            ("/", "/"),
            ("/talaria/media/AQHD", "/talaria/media"),
            ("//media/AQHD/x", "//media"),
        ] {
            assert_eq!(without_token(path), shown, "{path}");
        }
    }
}
