//! Refusals: their counters, their answers, and their hints for the operator.

use super::{Answer, Asked, State};
use crate::{
    accept::Why,
    address::{Client, ClientAddress},
    limits::{self, Admission, Limit},
    problem::Problem,
    reason::Reason,
    refusals::{LONGEST_PATH, Refusals, Refused},
};
use bytes::Bytes;
use metrics::counter;
use std::sync::Arc;
use talaria_core::{
    config::{Config, Tenant},
    openrouter::{diagnosis::diagnose, signature::SignatureFault},
};
use tokio::time::Instant;

impl State {
    /// Refuses a request that is not signed with a secret of the tenant, or has no callback's path.
    pub(super) fn unauthorized(
        &self,
        config: &Config,
        asked: &Asked<'_>,
        why: Why,
        signature: Option<String>,
        compressed: Option<&str>,
        body: Bytes,
    ) -> Answer {
        let tenant = config.tenants.get(asked.tenant());
        // The signature may be valid: never a 4xx for our fault.
        if tenant.is_some_and(|tenant| tenant.down().is_some())
            && why == Why::Signature(SignatureFault::Mismatch)
        {
            let problem = Problem::not_verifiable();
            self.refused(config, asked, Reason::NoSecret, &problem);
            return (Some("unavailable"), problem);
        }
        if let Admission::InDoubt(wait) = asked.admission {
            self.limits.refused(asked.client, Instant::now(), &config.ingress.limits);
            return self.limited(config, asked, Limit::RefusedPerAddress, "limited", Problem::too_many(wait));
        }
        let reason = match asked.target {
            Err(reason) => return self.misplaced(config, asked, reason),
            Ok(_) => Reason::Unauthorized(why),
        };
        self.limits.refused(asked.client, Instant::now(), &config.ingress.limits);
        let problem = Problem::unauthorized(compressed);
        if self.refused(config, asked, reason, &problem) {
            // After the answer, so that its time reveals nothing, and as rarely as a line is logged.
            let (refusals, is_compressed) = (Arc::clone(&self.refusals), compressed.is_some());
            let tenant = tenant.cloned();
            tokio::task::spawn_blocking(move || {
                explain(&refusals, tenant.as_deref(), reason, signature.as_deref(), is_compressed, &body);
            });
        }
        (Some("unauthorized"), problem)
    }

    /// Refuses a request with a valid signature on another path than its tenant's. The operator gets a hint; the client gets the
    /// answer of any other, but it never counts against its address.
    pub(super) fn misdirected(&self, asked: &Asked<'_>, signer: &str, compressed: Option<&str>) -> Answer {
        self.limits.proven(asked.client, Instant::now());
        let (result, problem) = match asked.target {
            Err(reason) => (None, not_a_callback(reason)),
            Ok(_) => (Some("unauthorized"), Problem::unauthorized(compressed)),
        };
        let refused = asked.refused(signer, Reason::Misdirected, &problem);
        self.refuse(&refused, asked.client);
        let hint = format!(
            "callbacks of {signer} go to POST /callbacks/{signer}: mend the callback URL, or the proxy in front"
        );
        self.refusals.explain(signer, Reason::Misdirected, &hint);
        (result, problem)
    }

    /// Refuses a request that is no callback.
    pub(super) fn misplaced(&self, config: &Config, asked: &Asked<'_>, reason: Reason) -> Answer {
        self.limits.refused(asked.client, Instant::now(), &config.ingress.limits);
        let problem = not_a_callback(reason);
        self.refused(config, asked, reason, &problem);
        (None, problem)
    }

    /// Refuses a request for a limit: `limited` if it is the client's or the tenant's, `shed` if it is for all.
    pub(super) fn limited(
        &self,
        config: &Config,
        asked: &Asked<'_>,
        limit: Limit,
        result: &'static str,
        problem: Problem,
    ) -> Answer {
        limits::reached(limit);
        self.refused(config, asked, Reason::Limit(limit), &problem);
        (Some(result), problem)
    }

    /// Counts and logs a refusal for the tenant in its path. Returns whether it was logged.
    pub(super) fn refused(
        &self,
        config: &Config,
        asked: &Asked<'_>,
        reason: Reason,
        problem: &Problem,
    ) -> bool {
        self.refuse(&asked.refused(asked.known(config), reason, problem), asked.client)
    }

    /// Counts a refusal, and logs it unless there are too many. Returns whether it was logged.
    pub(super) fn refuse(&self, refused: &Refused<'_>, client: Client) -> bool {
        let Refused { reason, tenant, path, status, .. } = *refused;
        // Limits have their own counter.
        if !matches!(reason, Reason::Limit(_)) {
            counter!("talaria_callbacks_refused_total", "reason" => reason.label()).increment(1);
        }
        self.refusals.record(refused);
        let Some(left_out) = self.log.admit(ClientAddress::from(client.address), Instant::now()) else {
            return false;
        };
        // A client's path may be long.
        let path: String = path.chars().take(LONGEST_PATH).collect();
        let (client, because, reason) = (client.address, reason.text(), reason.label());
        // Refusals that concern a tenant need an operator's attention.
        if tenant.is_empty() && !matches!(refused.reason, Reason::Limit(_)) {
            tracing::info!(reason, because, status, path, %client, left_out, "callback refused");
        } else {
            tracing::warn!(tenant, reason, because, status, path, %client, left_out, "callback refused");
        }
        true
    }
}

/// The answer to a request that is no callback.
fn not_a_callback(reason: Reason) -> Problem {
    if reason == Reason::WrongMethod { Problem::method_not_allowed() } else { Problem::not_found() }
}

/// Diagnoses a refusal for the tenant's operator. An unknown tenant has none.
fn explain(
    refusals: &Refusals,
    tenant: Option<&Tenant>,
    reason: Reason,
    signature: Option<&str>,
    is_compressed: bool,
    body: &[u8],
) {
    let Some(tenant) = tenant else { return };
    if matches!(reason, Reason::Unauthorized(Why::OnlyPolls | Why::Signature(SignatureFault::Stale))) {
        return;
    }
    let hint = diagnose(signature, is_compressed, &tenant.secrets, body).map(|hint| hint.to_string());
    refusals.explain(&tenant.name, reason, hint.as_deref().unwrap_or_default());
    if let Some(hint) = hint {
        tracing::warn!(tenant = tenant.name, hint, "probable cause of a refused callback");
    }
}
