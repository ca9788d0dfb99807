//! Classes of IP addresses, and the networks that a tenant's requests may go to.
//!
//! The DNS of a URL's owner may lead to this machine, the network behind it, or a cloud's metadata service, all of which trust
//! their neighbours. So public addresses are allowed for every tenant, and each other network only if it is configured.
//!
//! An IPv6 address that embeds an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo) leads to the latter, and has its class.
//!
//! The same names configure trusted proxies, with the differences in [`Networks::contain`].

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};
use url::{Host, Url};

/// The class of an address, by the IANA special-purpose registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Public addresses.
    Public,
    /// This machine.
    Loopback,
    /// The local link, and the metadata services of clouds at any address.
    LinkLocal,
    /// Private networks (RFC 1918, RFC 4193).
    Private,
    /// Carriers' NAT (RFC 6598); some VPNs use it, too.
    Carrier,
    /// "This network": a connection mostly ends at this machine.
    Unspecified,
    /// Multicast groups.
    Multicast,
    /// The broadcast address.
    Broadcast,
    /// Reserved: documentation, benchmarks, protocols, future use.
    Reserved,
}

impl Class {
    /// The classes that can be allowed by name. The others have no Hermes, but single addresses of them can be allowed.
    const NAMED: [Self; 4] = [Self::Loopback, Self::Private, Self::Carrier, Self::LinkLocal];

    fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::Carrier => "carrier",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The class of an address.
pub fn class(address: IpAddr) -> Class {
    match effective(address) {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

/// The target of a packet to this address: the IPv4 address that an IPv6 one embeds, or itself.
fn effective(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        // :: and ::1 embed no address.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        // IPv4-compatible and IPv4-mapped, the well-known NAT64 prefix, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // Teredo, which inverts the bits of the client's address.
        [0x2001, 0, .., high, low] => v4(!high, !low),
        _ => address,
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Alibaba's metadata service, within the carriers' range; Azure's, which looks public.
        [100, 100, 100, 200] | [168, 63, 129, 16] | [169, 254, ..] => Class::LinkLocal,
        [255, 255, 255, 255] => Class::Broadcast,
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Carrier,
        [224..=239, ..] => Class::Multicast,
        // Protocols, documentation, the old 6to4 relays, benchmarks, the future.
        [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // The metadata services of Amazon and Google, within the private range, and the link itself.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] | [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        // Unique local, and the site-local ones that they replaced.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Class::Private,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Protocols and benchmarks, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// Networks that requests may go to beside the public one, or networks of trusted proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Networks(Arc<[Network]>);

impl Networks {
    /// Whether there are none, so that only public addresses are allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them. Unlike for the target of a request, an embedded IPv4 address does not count: a
    /// client is identified by its own address.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let class = match address {
            IpAddr::V4(v4) => class_v4(v4),
            IpAddr::V6(v6) => class_v6(v6),
        };
        self.0.iter().any(|network| match *network {
            Network::Class(named) => named == class,
            Network::Block { first, bits } => begins(address, first, bits),
        })
    }

    /// Whether requests may go to an address. Fails with its class.
    pub fn allow(&self, address: IpAddr) -> Result<(), Class> {
        match class(address) {
            Class::Public => Ok(()),
            class if self.0.iter().any(|network| network.has(address, class)) => Ok(()),
            class => Err(class),
        }
    }

    /// The address in a URL, if requests may not go to it. A name is checked when it is looked up; `localhost` is always
    /// loopback.
    pub fn refused_host(&self, url: &Url) -> Option<(IpAddr, Class)> {
        let named: &[IpAddr] = match url.host()? {
            Host::Ipv4(v4) => &[v4.into()],
            Host::Ipv6(v6) => &[v6.into()],
            Host::Domain(name) => {
                let name = name.trim_end_matches('.');
                let is_home = name == "localhost" || name.ends_with(".localhost");
                if is_home {
                    &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
                } else {
                    &[]
                }
            }
        };
        if named.iter().any(|address| self.allow(*address).is_ok()) {
            return None;
        }
        named.iter().find_map(|address| Some((*address, self.allow(*address).err()?)))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// The entry under `networks` that allows an address of this class.
pub fn to_allow(address: IpAddr, class: Class) -> String {
    if Class::NAMED.contains(&class) { class.to_string() } else { effective(address).to_string() }
}

/// A network: a class by its name, or the addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// `loopback`.
    Class(Class),
    /// `10.1.0.0/16`, or a single address.
    Block {
        /// The first address.
        first: IpAddr,
        /// How many of its bits count.
        bits: u8,
    },
}

impl Network {
    fn has(&self, address: IpAddr, its_class: Class) -> bool {
        match *self {
            Self::Class(class) => class == its_class,
            Self::Block { first, bits } => {
                begins(address, first, bits) || begins(effective(address), first, bits)
            }
        }
    }

    /// Whether it has all addresses of its IP version.
    pub fn is_everybody(self) -> bool {
        matches!(self, Self::Block { bits: 0, .. })
    }
}

/// Whether the first bits of both are the same.
fn begins(address: IpAddr, first: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == first.is_ipv4() && masked(address, bits) == masked(first, bits)
}

/// An address with all but its first bits set to zero.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            Ipv4Addr::from(v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from(v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(class) = Class::NAMED.into_iter().find(|class| class.name() == text) {
            return Ok(Self::Class(class));
        }
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().map_err(|_| format!("{text:?} is not a network"))?;
        let all = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= all)
                .ok_or_else(|| format!("{text:?} must have a number from 0 to {all} behind the /"))?,
        };
        match masked(first, bits) {
            begin if begin == first => Ok(Self::Block { first, bits }),
            begin => Err(format!("{text:?} is not where a network begins: that one is {begin}/{bits}")),
        }
    }
}

#[cfg(test)]
mod tests;
