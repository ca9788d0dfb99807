//! Whether a browser sent a request for another site.
//!
//! Without tokens, every program of the machine may ask, and so may every page in its browser, unless that is refused. A page of
//! another site is known by its `Origin`. A page whose own name was made to lead here (DNS rebinding) has its own name as the
//! `Host`, so only known names are answered. No answer has headers that would let another site read it.

use crate::fault::Fault;
use http::{HeaderMap, HeaderValue, Method, Uri, header, uri::Authority};
use std::net::{IpAddr, SocketAddr};
use tonic::Code;

/// The longest host in an error, in characters.
const LONGEST: usize = 100;

pub(crate) fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    listen: SocketAddr,
    names: &[String],
) -> Result<(), Fault> {
    let host = host(uri, headers).ok_or_else(|| Fault::invalid("the request needs exactly one Host"))?;
    if !is_ours(host.host(), listen, names) {
        let name: String = host.host().chars().take(LONGEST).collect();
        let message = format!(
            "{name} is no name of this console; console.names lists those that it has; see docs/errors/console-name.md"
        );
        return Err(Fault::new(Code::PermissionDenied, message));
    }
    let foreign = || {
        Fault::new(
            Code::PermissionDenied,
            "pages of other sites may not ask here; a proxy before the console has to keep the Host",
        )
    };
    for origin in headers.get_all(header::ORIGIN) {
        let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
        let is_http = origin.as_ref().is_some_and(|it| matches!(it.scheme_str(), Some("http" | "https")));
        let same = is_http && origin.as_ref().and_then(Uri::authority) == Some(&host);
        if !same {
            return Err(foreign());
        }
    }
    // Images and the like of another site, which have no `Origin`.
    let sent = |name: &str| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let is_foreign = matches!(sent("sec-fetch-site"), b"cross-site" | b"same-site");
    // A link there that leads here: the user sees the page, and the other site does not.
    let is_link = method == Method::GET
        && sent("sec-fetch-mode") == b"navigate"
        && sent("sec-fetch-dest") == b"document";
    if is_foreign && !is_link { Err(foreign()) } else { Ok(()) }
}

/// The name by which the client called.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return None;
    }
    match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => first?.to_str().ok()?.parse().ok(),
    }
}

/// An address as a host cannot come from rebinding, which needs a name. It has to be one that is listened on.
fn is_ours(host: &str, listen: SocketAddr, names: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.is_loopback() || address == listen.ip() || listen.ip().is_unspecified();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost") || names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(listen: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
        let names = ["talaria.example.com".to_owned()];
        check(&Method::GET, &"/x".parse().unwrap(), &headers.collect(), listen.parse().unwrap(), &names)
            .is_ok()
    }

    #[test]
    fn only_known_names_are_answered() {
        for (listen, host, expected) in [
            ("127.0.0.1:8090", "127.0.0.1:8090", true),
            ("127.0.0.1:8090", "localhost:8090", true),
            ("127.0.0.1:8090", "LOCALHOST.", true),
            ("127.0.0.1:8090", "[::1]:8090", true),
            ("127.0.0.1:8090", "127.9.9.9", true),
            ("127.0.0.1:8090", "Talaria.example.com:443", true),
            ("127.0.0.1:8090", "evil.example", false),
            ("127.0.0.1:8090", "localhost.evil.example:8090", false),
            ("127.0.0.1:8090", "127.0.0.1.evil.example", false),
            ("127.0.0.1:8090", "a.talaria.example.com", false),
            ("127.0.0.1:8090", "192.0.2.7:8090", false),
            ("192.0.2.7:8090", "192.0.2.7:8090", true),
            ("0.0.0.0:8090", "192.0.2.7:8090", true),
            ("0.0.0.0:8090", "relay:8090", false),
            ("127.0.0.1:8090", "", false),
            ("127.0.0.1:8090", "a b", false),
        ] {
            assert_eq!(checked(listen, &[("host", host)]), expected, "{listen}: {host}");
        }
        assert!(!checked("127.0.0.1:1", &[]), "HTTP/1.0 needs none, and this does");
        assert!(!checked("127.0.0.1:1", &[("host", "localhost"), ("host", "localhost")]));
        let uri: Uri = "http://evil.example/x".parse().unwrap();
        let headers = [(header::HOST, "localhost".parse().unwrap())].into_iter().collect();
        assert!(
            check(&Method::GET, &uri, &headers, "127.0.0.1:1".parse().unwrap(), &[]).is_err(),
            "the URI counts first"
        );
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let with = |name, value| checked("127.0.0.1:8090", &[("host", "localhost:8090"), (name, value)]);
        for origin in [
            "http://localhost:3000",
            "http://localhost",
            "http://127.0.0.1:8090",
            "https://evil.example",
            "null",
            "",
            "file://",
            "ftp://localhost:8090",
        ] {
            assert!(!with("origin", origin), "{origin}");
        }
        assert!(with("origin", "http://localhost:8090") && with("origin", "https://LOCALHOST:8090"));
        for (site, expected) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            assert_eq!(with("sec-fetch-site", site), expected, "{site}");
        }
    }

    #[test]
    fn a_link_from_another_site_leads_here_and_nothing_else_does() {
        let followed = |method: Method, mode: &str, dest: &str| {
            let headers = [
                ("host", "localhost"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            let headers = headers
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
            check(&method, &"/x".parse().unwrap(), &headers.collect(), "127.0.0.1:1".parse().unwrap(), &[])
                .is_ok()
        };
        assert!(followed(Method::GET, "navigate", "document"));
        assert!(!followed(Method::POST, "navigate", "document"), "a form");
        assert!(!followed(Method::GET, "navigate", "iframe") && !followed(Method::GET, "no-cors", "image"));
    }
}
