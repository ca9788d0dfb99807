//! Names of tenants and routes.

/// The rules for names, for messages to the operator.
pub const NAMES: &str = "1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit";

/// Whether a text can name a tenant or a route.
pub fn is_name(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let first = text.bytes().next().is_some_and(known);
    first && text.len() <= 63 && text.bytes().all(|b| known(b) || matches!(b, b'-' | b'_'))
}
