//! Admission of requests, before a body is read and after it was verified.
//!
//! OpenRouter's callbacks come from few addresses, for all tenants, and any customer can make it call any path here. So refused
//! requests of an address are limited, and accepted ones are not:
//!
//! - An address with too many refused requests is answered 429 before the body is read, unless the signature may be valid: it
//!   can be parsed and is recent. Then the request is in doubt: it is read and verified like any other, and answered 429 only
//!   if its signature is not valid. So a client that shares an address with one that sends junk, behind an unknown proxy,
//!   gets its callbacks through. A request counts only after it was refused.
//! - An address that has sent a verified callback is exempt: a tenant with a wrong secret must not stop the others, and
//!   OpenRouter cannot be shut out by requests that a customer makes it send.
//! - A tenant's callbacks count after they are verified, so that unsigned requests cannot use up its allowance; an unknown
//!   tenant's name is handled like a known one.
//! - A trusted proxy that does not name its client is not limited by address.

use crate::{
    address::{Client, ClientAddress},
    budget::Budget,
    rate,
    recent::Recent,
};
use metrics::{counter, gauge};
use std::time::Duration;
use talaria_core::config;
use tokio::time::Instant;

/// The admission of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Free,
    /// Its address has too many refused requests: if it is refused, too, this is the time in `Retry-After`.
    InDoubt(Duration),
}

/// How long an address is exempt after a verified callback. Jobs may be a day apart.
const PROVEN: Duration = Duration::from_secs(24 * 3_600);

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    ConnectionsPerAddress,
    PerAddress,
    RefusedPerAddress,
    PerTenant,
    Bodies,
    Storing,
}

impl Limit {
    /// Its key in the configuration, under `ingress.limits`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::PerAddress => "per_address",
            Self::RefusedPerAddress => "refused_per_address",
            Self::PerTenant => "per_tenant",
            Self::Bodies => "bodies",
            Self::Storing => "storing",
        }
    }
}

pub(crate) struct Limits {
    asked: Recent<ClientAddress>,
    refused: Recent<ClientAddress>,
    proven: Recent<ClientAddress>,
    tenants: Recent<String>,
    /// Bytes of bodies in memory.
    pub bodies: Budget,
    /// Callbacks that wait for the bus.
    pub storing: Budget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            asked: Recent::default(),
            refused: Recent::default(),
            proven: Recent::default(),
            tenants: Recent::default(),
            bodies: Budget::new(gauge!("talaria_ingress_body_bytes")),
            storing: Budget::new(gauge!("talaria_ingress_storing")),
        }
    }
}

impl Limits {
    /// Admits a request to its body, or returns the limit that it reached and the time until there is room.
    pub(crate) fn admit(
        &self,
        client: Client,
        may_be_signed: impl FnOnce() -> bool,
        now: Instant,
        limits: &config::Limits,
    ) -> Result<Admission, (Limit, Duration)> {
        if client.is_proxy {
            return Ok(Admission::Free);
        }
        let address = ClientAddress::from(client.address);
        let mut admission = Admission::Free;
        if let Some(rate) = limits.refused_per_address
            && let Some(wait) = rate::wait(self.refused.until(address, now), now, rate)
            && !self.is_proven(client, now)
        {
            if !may_be_signed() {
                return Err((Limit::RefusedPerAddress, wait));
            }
            admission = Admission::InDoubt(wait);
        }
        if let Some(rate) = limits.per_address {
            take(&self.asked, address, now, rate).map_err(|wait| (Limit::PerAddress, wait))?;
        }
        Ok(admission)
    }

    /// Records a request that was refused for its content.
    pub(crate) fn refused(&self, client: Client, now: Instant, limits: &config::Limits) {
        if let Some(rate) = limits.refused_per_address.filter(|_| !client.is_proxy) {
            let charge = |until| (rate::take(until, now, rate), ());
            self.refused.change(ClientAddress::from(client.address), now, charge);
        }
    }

    /// Records a verified callback, or returns the tenant's limit and the time until there is room.
    pub(crate) fn verified(
        &self,
        client: Client,
        tenant: &str,
        now: Instant,
        limits: &config::Limits,
    ) -> Result<(), (Limit, Duration)> {
        self.proven(client, now);
        if let Some(rate) = limits.per_tenant {
            take(&self.tenants, tenant.to_owned(), now, rate).map_err(|wait| (Limit::PerTenant, wait))?;
        }
        Ok(())
    }

    /// Records that a client has sent a request with a tenant's valid signature.
    pub(crate) fn proven(&self, client: Client, now: Instant) {
        self.proven.change(ClientAddress::from(client.address), now, |_| (now + PROVEN, ()));
    }

    /// The limit for bytes of all bodies when this client sends one: a quarter is reserved for clients with a verified callback,
    /// and another quarter for those that are not in doubt.
    pub(crate) fn room_for_bodies(
        &self,
        client: Client,
        admission: Admission,
        now: Instant,
        limits: &config::Limits,
    ) -> usize {
        match admission {
            Admission::Free if self.is_proven(client, now) => limits.bodies,
            Admission::Free => limits.bodies / 4 * 3,
            Admission::InDoubt(_) => limits.bodies / 2,
        }
    }

    fn is_proven(&self, client: Client, now: Instant) -> bool {
        self.proven.until(ClientAddress::from(client.address), now) > now
    }
}

/// Uses one of an allowance, or returns the time until there is one.
fn take<K: std::hash::Hash + Eq>(
    recent: &Recent<K>,
    key: K,
    now: Instant,
    rate: config::Pace,
) -> Result<(), Duration> {
    recent.change(key, now, |until| match rate::wait(until, now, rate) {
        Some(wait) => (until, Err(wait)),
        None => (rate::take(until, now, rate), Ok(())),
    })
}

/// Counts that a limit was reached.
pub(crate) fn reached(limit: Limit) {
    counter!("talaria_callbacks_limited_total", "limit" => limit.key()).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use talaria_core::config::Pace;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> config::Limits {
        config::Limits {
            connections: 8,
            connections_per_address: 8,
            bodies: 400,
            storing: 8,
            per_address: None,
            refused_per_address: Some(Pace { count: 3, window: 3 * SECOND }),
            per_tenant: None,
        }
    }

    fn at(address: &str) -> Client {
        Client { address: address.parse::<IpAddr>().unwrap(), is_proxy: false }
    }

    #[tokio::test(start_paused = true)]
    async fn refused_requests_count_and_a_verified_one_exempts() {
        let (limits, config) = (Limits::default(), config());
        let admit = |client| limits.admit(client, || false, Instant::now(), &config).map(drop);
        let (stranger, other, proxy) =
            (at("192.0.2.1"), at("192.0.2.2"), Client { is_proxy: true, ..at("127.0.0.1") });
        for _ in 0..3 {
            assert_eq!(admit(stranger), Ok(()));
            limits.refused(stranger, Instant::now(), &config);
            limits.refused(proxy, Instant::now(), &config);
        }
        assert_eq!(admit(stranger), Err((Limit::RefusedPerAddress, SECOND)));
        let signed = limits.admit(stranger, || true, Instant::now(), &config);
        assert_eq!(signed, Ok(Admission::InDoubt(SECOND)), "it may be OpenRouter's, by the same proxy");
        assert_eq!((admit(other), admit(proxy)), (Ok(()), Ok(())));
        tokio::time::advance(SECOND).await;
        assert_eq!(admit(stranger), Ok(()));
        limits.refused(stranger, Instant::now(), &config);
        assert!(admit(stranger).is_err());
        // It turns out to know a tenant's secret.
        assert_eq!(limits.verified(stranger, "acme", Instant::now(), &config), Ok(()));
        for _ in 0..100 {
            limits.refused(stranger, Instant::now(), &config);
            assert_eq!(admit(stranger), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_absolute_limit_counts_all_requests_and_a_tenants_limit_verified_ones() {
        let two = Some(Pace { count: 2, window: 2 * SECOND });
        let (limits, config) =
            (Limits::default(), config::Limits { per_address: two, per_tenant: two, ..config() });
        let (client, now) = (at("2001:db8::1"), Instant::now());
        for _ in 0..2 {
            assert_eq!(limits.admit(client, || false, now, &config), Ok(Admission::Free));
            assert_eq!(limits.verified(client, "acme", now, &config), Ok(()));
        }
        assert_eq!(limits.admit(at("2001:db8::2"), || true, now, &config), Err((Limit::PerAddress, SECOND)));
        assert_eq!(limits.verified(client, "acme", now, &config), Err((Limit::PerTenant, SECOND)));
        assert_eq!(limits.verified(client, "other", now, &config), Ok(()));
        // A refused request uses nothing, so a client that waits is served.
        tokio::time::advance(SECOND).await;
        assert_eq!(limits.admit(client, || true, Instant::now(), &config), Ok(Admission::Free));
        assert_eq!(limits.verified(client, "acme", Instant::now(), &config), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quarter_of_the_bodies_is_reserved_for_known_clients() {
        let (limits, config, now) = (Limits::default(), config(), Instant::now());
        limits.verified(at("192.0.2.1"), "acme", now, &config).unwrap();
        let room = |address, now| limits.room_for_bodies(at(address), Admission::Free, now, &config);
        assert_eq!((room("192.0.2.1", now), room("192.0.2.2", now)), (400, 300));
        assert_eq!(room("192.0.2.1", now + PROVEN), 300);
        let in_doubt = Admission::InDoubt(SECOND);
        assert_eq!(limits.room_for_bodies(at("192.0.2.2"), in_doubt, now, &config), 200);
    }
}
