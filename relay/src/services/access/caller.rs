//! Which tenants a caller may see.

use talaria_core::config::Scope;
use talaria_proto::v1::ReplayJob;
use tonic::Status;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name of their token; empty where none is needed.
    pub token: String,
    /// What it may be used for.
    pub scope: Scope,
    /// The one tenant that may be seen; all where there is none.
    pub tenant: Option<String>,
}

impl Caller {
    /// The caller where no authentication is configured.
    pub(crate) fn anybody() -> Self {
        Self { token: String::new(), scope: Scope::Control, tenant: None }
    }

    /// Whether they may see what is of this tenant. What is of all tenants has an empty name.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }

    /// Whether they may see this job: one of all tenants is for those who see all.
    pub(crate) fn sees_job(&self, job: &ReplayJob) -> bool {
        self.sees(job.filter.as_ref().map_or("", |filter| &filter.tenant))
    }

    /// The tenant that is meant where this one is named; all where there is none. Who may see only one means it. To name
    /// another is refused in words that are the same whether or not that one exists.
    pub(crate) fn narrow(&self, named: &str) -> Result<Option<String>, Status> {
        match &self.tenant {
            Some(own) if named.is_empty() || named == own => Ok(Some(own.clone())),
            Some(own) => Err(Status::permission_denied(format!(
                "the token {} is for the tenant {own} alone",
                self.token
            ))),
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
        let own = Caller { tenant: Some("acme".into()), token: "t".into(), ..Caller::anybody() };
        let narrowed = |caller: &Caller, named: &str| caller.narrow(named).map_err(|error| error.code());
        assert_eq!(narrowed(&own, ""), Ok(Some("acme".into())));
        assert_eq!(narrowed(&own, "acme"), Ok(Some("acme".into())));
        let told = |named: &str| own.narrow(named).unwrap_err().message().to_owned();
        assert_eq!(told("globex"), "the token t is for the tenant acme alone");
        assert_eq!(told("globex"), told("nobody"), "nobody learns which tenants there are");
        assert!(own.sees("acme") && !own.sees("globex") && !own.sees("acm") && !own.sees(""));
        let all = Caller::anybody();
        assert_eq!((narrowed(&all, ""), narrowed(&all, "x")), (Ok(None), Ok(Some("x".into()))));
        assert!(all.sees("acme") && all.sees(""));
    }

    #[test]
    fn a_job_is_its_tenants_when_its_filter_names_it() {
        let own = Caller { tenant: Some("acme".into()), ..Caller::anybody() };
        let of = |tenant: &str| ReplayJob {
            filter: Some(ReplayFilter { tenant: tenant.into(), ..ReplayFilter::default() }),
            ..ReplayJob::default()
        };
        assert!(own.sees_job(&of("acme")) && !own.sees_job(&of("globex")));
        assert!(!own.sees_job(&of("")) && !own.sees_job(&ReplayJob::default()), "of all tenants");
        assert!(Caller::anybody().sees_job(&of("")));
    }
}
