//! The reason why no route took an event, in one sentence and without its payload, for lists and logs.
//! [`crate::decisions::explain`] reads the payload and explains each route.

use talaria_core::config::{Tenant, Wanted};

/// By the current configuration: a route that would take the event now was added or changed since it came.
pub(crate) fn why_unmatched(event_type: &str, tenant: Option<&Tenant>) -> String {
    let Some(tenant) = tenant else { return "the tenant is not configured".to_owned() };
    if tenant.routes.is_empty() {
        return "the tenant has no route".to_owned();
    }
    let (mut take, mut depend) = (Vec::new(), Vec::new());
    for (name, route) in &tenant.routes {
        match route.explain(event_type, None) {
            Wanted::Yes(_) => take.push(name.as_str()),
            Wanted::Unknown(_) => depend.push(name.as_str()),
            Wanted::No(_) => {}
        }
    }
    match (take.as_slice(), depend.as_slice()) {
        ([], []) => "no route's events name its type".to_owned(),
        ([], depend) => format!("its type is for {}, whose filters did not hold", depend.join(", ")),
        (take, _) => format!("it came before {} took its type", take.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_config;

    #[test]
    fn the_reason_is_found_without_the_payload() {
        let why = |keys: &str| {
            let config = test_config::config(keys);
            why_unmatched("video.generation.failed", config.tenants.get("acme").map(AsRef::as_ref))
        };
        assert_eq!(why("events: ['image.*']"), "no route's events name its type");
        assert_eq!(
            why("events: ['video.generation.*']\nfilters: {field: data.status, equals: completed}"),
            "its type is for video, whose filters did not hold"
        );
        assert_eq!(why(""), "it came before video took its type");
        assert_eq!(why_unmatched("video.generation.failed", None), "the tenant is not configured");
    }
}
