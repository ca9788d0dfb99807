//! The client's address of a request, by its peer and by trusted proxies.
//!
//! Each proxy appends its peer's address, so the list is read from its end, and only as far as its writers are trusted: earlier
//! elements may be forged. Quotes and brackets that an element leaves open do not affect the elements after it.

use http::HeaderMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use talaria_core::{config::Ingress, network::Networks};

/// The most elements of the list that are read. A chain of proxies is short; a client's list may be long.
const LONGEST_CHAIN: usize = 16;

/// The unit that limits count: an IPv4 address, or the /64 network of an IPv6 address, which has one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(IpAddr);

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its address; a trusted proxy's own if that did not name its client.
    pub address: IpAddr,
    /// Whether it is a trusted proxy's own address: the client is unknown, so no limit by address applies.
    pub is_proxy: bool,
}

/// The client of a request with these headers from this peer.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, ingress: &Ingress) -> Client {
    let trusted = &ingress.trusted_proxies;
    let client = |address: IpAddr| Client { address, is_proxy: trusted.contain(address) };
    let peer = client(peer.to_canonical());
    if !peer.is_proxy {
        return peer;
    }
    let lines: Vec<&str> = headers
        .get_all(&ingress.client_address)
        .iter()
        // A line that is not text ends the list.
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    let elements = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let read = if ingress.client_address == "forwarded" { forwarded } else { address };
    client(last_trusted(peer.address, elements.map(read), trusted))
}

/// The first address from the end that is not a proxy, or the last proxy if the next element is missing or not readable.
fn last_trusted(
    peer: IpAddr,
    from_the_end: impl Iterator<Item = Option<IpAddr>>,
    trusted: &Networks,
) -> IpAddr {
    let mut client = peer;
    for element in from_the_end.take(LONGEST_CHAIN) {
        let Some(address) = element else { break };
        client = address;
        if !trusted.contain(address) {
            break;
        }
    }
    client
}

/// An address, with a port or without: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

/// The `for` of an element of `Forwarded` (RFC 7239): `for="[2001:db8::1]:80";proto=https`.
fn forwarded(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    })?;
    address(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ingress(trusted: &[&str], header: &str) -> Ingress {
        let trusted: Vec<_> = trusted.iter().map(|network| format!("\"{network}\"")).collect();
        let text = format!(
            "ingress: {{trusted_proxies: [{}], client_address: {header}}}\n\
             tenants: {{acme: {{openrouter: {{secrets: [{{file: secret}}]}}}}}}",
            trusted.join(", ")
        );
        talaria_core::config::testing::config(&text, "s").ingress
    }

    fn headers(name: &str, lines: &[&str]) -> HeaderMap {
        let name: HeaderName = name.parse().unwrap();
        lines.iter().map(|line| (name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_proxy_is_trusted_and_a_stranger_is_not() {
        let ingress = ingress(&["loopback", "10.0.0.0/8", "2001:db8:1::/48"], "X-Forwarded-For");
        for (peer, lines, expected, is_proxy) in [
            ("192.0.2.9", &[][..], "192.0.2.9", false),
            ("192.0.2.9", &["198.51.100.1"], "192.0.2.9", false),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1", false),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1", false),
            ("::1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1", false),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.1 , 10.1.2.3"], "198.51.100.1", false),
            ("127.0.0.1", &["6.6.6.6", "198.51.100.1", "10.1.2.3"], "198.51.100.1", false),
            ("127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1", false),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1", false),
            ("127.0.0.1", &["[2001:db8::1]"], "2001:db8::1", false),
            ("127.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1", false),
            ("2001:db8:1::7", &["198.51.100.1"], "198.51.100.1", false),
            ("127.0.0.1", &[], "127.0.0.1", true),
            ("127.0.0.1", &[""], "127.0.0.1", true),
            ("127.0.0.1", &["unknown"], "127.0.0.1", true),
            ("127.0.0.1", &["198.51.100.1, unknown"], "127.0.0.1", true),
            ("127.0.0.1", &["198.51.100.1, \u{e9}"], "127.0.0.1", true),
            ("127.0.0.1", &["198.51.100.1, nonsense, 10.1.2.3"], "10.1.2.3", true),
            ("127.0.0.1", &["10.9.9.9, 10.1.2.3"], "10.9.9.9", true),
            // A 6to4 address with a proxy's address is not the proxy.
            ("2002:7f00:1::", &["198.51.100.1"], "2002:7f00:1::", false),
        ] {
            let found = client(ip(peer), &headers("x-forwarded-for", lines), &ingress);
            assert_eq!(found, Client { address: ip(expected), is_proxy }, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_header_may_be_another_one() {
        let other = ingress(&["loopback"], "CF-Connecting-IP");
        let both: HeaderMap =
            [headers("x-forwarded-for", &["6.6.6.6"]), headers("cf-connecting-ip", &["198.51.100.1"])]
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.unwrap(), value))
                .collect();
        assert_eq!(client(ip("127.0.0.1"), &both, &other).address, ip("198.51.100.1"));
        let standard = ingress(&["loopback"], "Forwarded");
        for (line, expected) in [
            ("for=198.51.100.1", "198.51.100.1"),
            ("proto=https;For=\"[2001:db8::1]:47\";by=x", "2001:db8::1"),
            ("for=6.6.6.6, for=\"198.51.100.1:80\"", "198.51.100.1"),
            // An unclosed quote hides nothing.
            ("for=\"6.6.6.6, for=198.51.100.1", "198.51.100.1"),
            ("for=6.6.6.6, for=_hidden", "127.0.0.1"),
            ("for=6.6.6.6, proto=https", "127.0.0.1"),
        ] {
            let found = client(ip("127.0.0.1"), &headers("forwarded", &[line]), &standard);
            assert_eq!(found.address, ip(expected), "{line}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let limited = |text| ClientAddress::from(ip(text));
        assert_eq!(limited("2001:db8::1"), limited("2001:db8::ffff:1:2:3"));
        assert_ne!(limited("2001:db8::1"), limited("2001:db8:0:1::1"));
        assert_eq!(limited("::ffff:192.0.2.1"), limited("192.0.2.1"));
        assert_ne!(limited("192.0.2.1"), limited("192.0.2.2"));
    }

    proptest! {
        /// The elements of the proxies decide, not those that a client wrote before them.
        #[test]
        fn no_client_chooses_its_own_address(made_up in "[ -~]{0,80}", client_ in any::<[u8; 4]>(), hops in 0_usize..4) {
            let real = IpAddr::from(client_);
            prop_assume!(!real.is_loopback() && client_[0] != 10);
            let ingress = ingress_once();
            let proxies = ", 10.0.0.7".repeat(hops);
            for line in [format!("{made_up},{real}{proxies}"), format!("{made_up}, {real}:80{proxies}")] {
                let found = client(Ipv4Addr::LOCALHOST.into(), &headers("x-forwarded-for", &[&line]), ingress);
                prop_assert_eq!(found, Client { address: real, is_proxy: false });
            }
        }

        /// A peer that is not trusted is the client, whatever the header has.
        #[test]
        fn an_untrusted_peer_is_the_client(line in "[ -~]{0,80}", peer in any::<u128>()) {
            let peer = IpAddr::from(Ipv6Addr::from_bits(peer | 1 << 127)).to_canonical();
            let found = client(peer, &headers("x-forwarded-for", &[&line]), ingress_once());
            prop_assert_eq!(found, Client { address: peer, is_proxy: false });
        }
    }

    fn ingress_once() -> &'static Ingress {
        static INGRESS: std::sync::OnceLock<Ingress> = std::sync::OnceLock::new();
        INGRESS.get_or_init(|| ingress(&["loopback", "10.0.0.0/8"], "X-Forwarded-For"))
    }
}
