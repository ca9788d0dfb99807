//! The caller of a request, and the tenants that it may see.

use crate::services::error::Error;
use talaria_core::config::Scope;
use talaria_proto::v1::ReplayJob;

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the caller's token; empty if none is needed.
    pub token: String,
    /// What it may do.
    pub scope: Scope,
    /// The tenant that it may see; `None` for all.
    pub tenant: Option<String>,
}

impl Caller {
    /// The caller if no authentication is configured.
    pub(crate) fn unrestricted() -> Self {
        Self { token: String::new(), scope: Scope::Control, tenant: None }
    }

    /// Whether the caller may see a tenant. An empty name stands for all tenants.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }

    /// Whether the caller may see a job. A job of all tenants needs a caller who sees all.
    pub(crate) fn sees_job(&self, job: &ReplayJob) -> bool {
        self.sees(job.filter.as_ref().map_or("", |filter| &filter.tenant))
    }

    /// The tenant of a request that names this one; `None` for all. A caller of one tenant gets that one. Another name is
    /// refused with the same text, whether or not that tenant exists.
    pub(crate) fn narrow(&self, named: &str) -> Result<Option<String>, Error> {
        match &self.tenant {
            Some(own) if named.is_empty() || named == own => Ok(Some(own.clone())),
            Some(own) => {
                Err(Error::Forbidden(format!("the token {} is for the tenant {own} alone", self.token)))
            }
            None => Ok((!named.is_empty()).then(|| named.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::ReplayFilter;

    #[test]
    fn a_tenants_token_means_its_tenant_and_sees_nothing_else() {
        let own = Caller { tenant: Some("acme".into()), token: "t".into(), ..Caller::unrestricted() };
        let narrowed = |caller: &Caller, named: &str| caller.narrow(named).map_err(|error| error.code());
        assert_eq!(narrowed(&own, ""), Ok(Some("acme".into())));
        assert_eq!(narrowed(&own, "acme"), Ok(Some("acme".into())));
        let refusal = |named: &str| own.narrow(named).unwrap_err().to_string();
        assert_eq!(refusal("globex"), "the token t is for the tenant acme alone");
        assert_eq!(refusal("globex"), refusal("unknown"), "the text does not depend on the tenants");
        assert!(own.sees("acme") && !own.sees("globex") && !own.sees("acm") && !own.sees(""));
        let all = Caller::unrestricted();
        assert_eq!((narrowed(&all, ""), narrowed(&all, "x")), (Ok(None), Ok(Some("x".into()))));
        assert!(all.sees("acme") && all.sees(""));
    }

    #[test]
    fn a_job_is_its_tenants_when_its_filter_names_it() {
        let own = Caller { tenant: Some("acme".into()), ..Caller::unrestricted() };
        let of = |tenant: &str| ReplayJob {
            filter: Some(ReplayFilter { tenant: tenant.into(), ..ReplayFilter::default() }),
            ..ReplayJob::default()
        };
        assert!(own.sees_job(&of("acme")) && !own.sees_job(&of("globex")));
        assert!(!own.sees_job(&of("")) && !own.sees_job(&ReplayJob::default()), "of all tenants");
        assert!(Caller::unrestricted().sees_job(&of("")));
    }
}
