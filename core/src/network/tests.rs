use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn networks(written: &[&str]) -> Networks {
    written.iter().map(|text| text.parse::<Network>().unwrap()).collect()
}

#[test]
fn each_address_has_its_class() {
    for (class_, addresses) in [
        (
            Class::Public,
            "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.167.1.1 223.255.255.255 2606:4700::1111 2a00::1 2001:4860::8888",
        ),
        (Class::Loopback, "127.0.0.1 127.255.255.254 ::1"),
        (
            Class::LinkLocal,
            "169.254.0.1 169.254.169.254 100.100.100.200 168.63.129.16 fe80::1 febf::1 fd00:ec2::254 fd20:ce::254",
        ),
        (
            Class::Private,
            "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fd12:3456::1 fec0::1",
        ),
        (Class::Carrier, "100.64.0.1 100.127.255.255"),
        (Class::Unspecified, "0.0.0.0 0.1.2.3 ::"),
        (Class::Multicast, "224.0.0.1 239.255.255.255 ff02::1"),
        (Class::Broadcast, "255.255.255.255"),
        (
            Class::Reserved,
            "192.0.0.192 192.0.2.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 192.88.99.1 240.0.0.1 255.255.255.254 2001:db8::1 2001:2::1 2001:20::1 3fff::1 100::1 5f00::1 64:ff9b:1::a00:1 4000::1",
        ),
    ] {
        for address in addresses.split(' ') {
            assert_eq!(class(ip(address)), class_, "{address}");
        }
    }
}

#[test]
fn an_embedded_address_decides_the_class() {
    for (address, expected) in [
        ("::ffff:127.0.0.1", Class::Loopback),
        ("::127.0.0.1", Class::Loopback),
        ("64:ff9b::169.254.169.254", Class::LinkLocal),
        ("2002:a00:1::", Class::Private),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Class::Reserved),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", Class::Loopback),
        ("::ffff:8.8.8.8", Class::Public),
    ] {
        assert_eq!(class(ip(address)), expected, "{address}");
    }
}

/// All IPv6 addresses that embed this one.
fn forms(v4: Ipv4Addr) -> [IpAddr; 5] {
    let bits = u128::from(v4.to_bits());
    [
        v4.to_ipv6_mapped().to_bits(),
        bits,
        (0x0064_ff9b << 96) | bits,
        (0x2002 << 112) | (bits << 80) | 0x1234,
        (0x2001_0000 << 96) | (0x4136_e378_8000_63bf << 32) | u128::from(!v4.to_bits()),
    ]
    .map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
}

proptest! {
    #[test]
    fn every_form_of_an_ipv4_address_has_its_class(bits in prop_oneof![any::<u32>(), 0x7f00_0000_u32..0x7f00_ffff]) {
        let v4 = Ipv4Addr::from(bits);
        // ::0.0.0.1 is ::1.
        prop_assume!(bits > 1);
        let block: Network = format!("{v4}/32").parse().unwrap();
        let only_it: Networks = [block].into_iter().collect();
        for form in forms(v4) {
            prop_assert_eq!(class(form), class(v4.into()), "{} in {}", v4, form);
            prop_assert_eq!(Networks::default().allow(form), Networks::default().allow(v4.into()));
            prop_assert!(only_it.allow(form).is_ok());
        }
    }

    #[test]
    fn a_block_has_what_begins_like_it(first in any::<u32>(), other in any::<u32>(), bits in 0_u8..=32) {
        let (first, other) = (Ipv4Addr::from(first), Ipv4Addr::from(other));
        let begin = masked(first.into(), bits);
        let network: Network = format!("{begin}/{bits}").parse().unwrap();
        prop_assert!(network.has(first.into(), Class::Reserved));
        let same = (first.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(bits);
        prop_assert_eq!(network.has(other.into(), Class::Reserved), same);
    }
}

#[test]
fn only_configured_networks_are_allowed_beside_the_public() {
    let some = networks(&["loopback", "10.1.0.0/16", "fd12::/16", "192.0.2.7"]);
    for address in ["1.1.1.1", "127.0.0.1", "::1", "10.1.255.1", "fd12::1", "192.0.2.7", "::ffff:10.1.2.3"] {
        assert_eq!(some.allow(ip(address)), Ok(()), "{address}");
    }
    for (address, class) in [
        ("10.2.0.1", Class::Private),
        ("fd13::1", Class::Private),
        ("192.0.2.8", Class::Reserved),
        ("169.254.169.254", Class::LinkLocal),
        ("0.0.0.0", Class::Unspecified),
    ] {
        assert_eq!(some.allow(ip(address)), Err(class), "{address}");
    }
    assert_eq!(networks(&["private"]).allow(ip("fd00:ec2::254")), Err(Class::LinkLocal), "no metadata");
    assert_eq!(networks(&["0.0.0.0/0"]).allow(ip("169.254.169.254")), Ok(()), "who says all means all");
}

#[test]
fn an_invalid_network_is_an_error() {
    for (text, why) in [
        ("public", "is not a network"),
        ("localhost", "is not a network"),
        ("10.1", "is not a network"),
        ("10.0.0.0/33", "0 to 32"),
        ("fd00::/129", "0 to 128"),
        ("10.0.0.0/-1", "0 to 32"),
        ("10.1.2.3/16", "that one is 10.1.0.0/16"),
    ] {
        let error = text.parse::<Network>().unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_url_with_an_address_is_checked_without_a_look_up() {
    let refused = |networks: &Networks, url: &str| networks.refused_host(&Url::parse(url).unwrap());
    let none = Networks::default();
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f.1/",
        "http://127.0.0.1./",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost:8644/",
        "http://LOCALHOST./",
        "http://hermes.localhost/",
    ] {
        assert_eq!(refused(&none, url).map(|(_, class)| class), Some(Class::Loopback), "{url}");
        assert_eq!(refused(&networks(&["loopback"]), url), None, "{url}");
    }
    assert_eq!(refused(&none, "http://0.0.0.0/").unwrap().1, Class::Unspecified);
    assert_eq!(refused(&none, "http://[fd00:ec2::254]/").unwrap().1, Class::LinkLocal);
    for url in ["http://1.1.1.1/", "http://hermes.example/", "http://localhost.example/"] {
        assert_eq!(refused(&none, url), None, "{url}");
    }
    assert_eq!(refused(&networks(&["::1"]), "http://localhost/"), None, "one of the two is enough");
}

#[test]
fn the_entry_that_allows_an_address_is_its_class_or_itself() {
    for (address, expected) in [
        ("127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("ff02::1", "ff02::1"),
    ] {
        let address = ip(address);
        let written = to_allow(address, class(address));
        assert_eq!(written, expected);
        assert_eq!(networks(&[&written]).allow(address), Ok(()));
    }
}
