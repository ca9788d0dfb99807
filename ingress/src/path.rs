//! The paths of callbacks: `/callbacks/{tenant}`, and `/callbacks/{tenant}/{token}` for the callback of one job. The token says
//! which job it is, and is no credential: the signature is required all the same.

use crate::media;

const PREFIX: &str = "/callbacks/";

/// The longest callback token, in characters.
const LONGEST_TOKEN: usize = 64;

/// A callback's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallbackPath<'a> {
    /// Never empty. No tenant's name needs decoding.
    pub tenant: &'a str,
    /// Empty where the path has none.
    pub token: &'a str,
}

/// Reads a path; `None` if it is no callback's. One trailing slash is ignored, because people and programs add it.
pub(crate) fn read(path: &str) -> Option<CallbackPath<'_>> {
    let rest = path.strip_prefix(PREFIX)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (tenant, token) = match rest.split_once('/') {
        Some((tenant, token)) if is_token(token) => (tenant, token),
        Some(_) => return None,
        None => (rest, ""),
    };
    (!tenant.is_empty()).then_some(CallbackPath { tenant, token })
}

/// A path without its callback token and without the token of a media link, for logs. A proxy may have put something in front.
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

fn is_token(text: &str) -> bool {
    (1..=LONGEST_TOKEN).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_tenant_and_may_have_a_token() {
        let longest = format!("/callbacks/acme/{}", "0".repeat(64));
        for (path, tenant, token) in [
            ("/callbacks/acme", "acme", ""),
            ("/callbacks/acme/", "acme", ""),
            ("/callbacks/%FF", "%FF", ""),
            ("/callbacks/acme/abc234", "acme", "abc234"),
            ("/callbacks/acme/abc234/", "acme", "abc234"),
            (&longest, "acme", &longest[16..]),
        ] {
            assert_eq!(read(path), Some(CallbackPath { tenant, token }), "{path}");
            let shown = if token.is_empty() { path } else { "/callbacks/acme" };
            assert_eq!(without_token(path), shown);
        }
        let too_long = format!("{longest}0");
        for path in [
            "/",
            "/callbacks",
            "/callbacks/",
            "/callbacks//",
            "/callbacks//abc",
            "/callbacks/acme//",
            "/callbacks/acme/Abc",
            "/callbacks/acme/a-b",
            "/callbacks/acme/a%20",
            "/callbacks/acme/é",
            "/callbacks/acme/abc//",
            "/callbacks/acme/abc/def",
            "//callbacks/acme",
            "/callback/acme/abc",
            &too_long,
        ] {
            assert_eq!((read(path), without_token(path)), (None, path));
        }
        for (path, shown) in [("/talaria/media/AQHD", "/talaria/media"), ("//media/AQHD/x", "//media")] {
            assert_eq!((read(path), without_token(path)), (None, shown));
        }
    }
}
