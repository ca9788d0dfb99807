//! The paths of callbacks: `/callbacks/{tenant}`, and `/callbacks/{tenant}/{token}` for the callback of one job. The token says
//! which job it is, and is no credential: the signature is required all the same.

/// The beginning of each path.
pub const PREFIX: &str = "/callbacks/";

/// The longest callback token, in characters.
const LONGEST_TOKEN: usize = 64;

/// A callback's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackPath<'a> {
    /// Never empty. No tenant's name needs decoding.
    pub tenant: &'a str,
    /// Empty where the path has none.
    pub token: &'a str,
}

/// Reads a path; `None` if it is no callback's. One trailing slash is ignored, because people and programs add it.
pub fn read(path: &str) -> Option<CallbackPath<'_>> {
    let rest = path.strip_prefix(PREFIX)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (tenant, token) = match rest.split_once('/') {
        Some((tenant, token)) if is_token(token) => (tenant, token),
        Some(_) => return None,
        None => (rest, ""),
    };
    (!tenant.is_empty()).then_some(CallbackPath { tenant, token })
}

/// The path for the callback of one job. `None` if a callback there would be refused.
pub fn of_job(tenant: &str, token: &str) -> Option<String> {
    let path = format!("{PREFIX}{tenant}/{token}");
    (read(&path)? == CallbackPath { tenant, token } && !token.is_empty()).then_some(path)
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
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn the_path_of_a_job_is_one_that_is_read() {
        assert_eq!(of_job("acme", "abc234").as_deref(), Some("/callbacks/acme/abc234"));
        for token in ["", "Abc", "a/b", "abc/", &"a".repeat(65)] {
            assert_eq!(of_job("acme", token), None, "{token}");
        }
    }
}
