//! The links of an event.

use super::PREFIX;
use talaria_core::{
    config::Config,
    media::{Claims, sign},
    time::after,
};
use talaria_openrouter::is_job_id;
use talaria_proto::{time::from_proto, v1::Event};

/// The status of a job that ended well.
const COMPLETED: &str = "completed";

/// The most links of one event.
const MOST: usize = 16;

/// A link for each file of a completed job: for at least one, because a payload may name none. None if the tenant gives no links,
/// or its key cannot be read here.
pub(crate) fn links(config: &Config, event: &Event) -> Vec<String> {
    make(config, event).unwrap_or_default()
}

fn make(config: &Config, event: &Event) -> Option<Vec<String>> {
    let tenant = config.tenants.get(&event.tenant)?;
    let (settings, public_url) = (tenant.media.as_ref()?, config.ingress.public_url.as_ref()?);
    let api = tenant.jobs.as_ref()?.api.as_ref()?;
    if event.status != COMPLETED || !is_job_id(&event.job_id) {
        return None;
    }
    let expires_at = after(from_proto(event.received_at.as_ref()), settings.link_life);
    let count = event.unsigned_urls.len().clamp(1, MOST);
    let link = |index| {
        let claims = Claims { tenant: tenant.name.clone(), job_id: event.job_id.clone(), index, expires_at };
        Some(format!("{public_url}{PREFIX}{}", sign(&api.key, &claims)?))
    };
    (0_u8..).take(count).map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use talaria_core::{
        config::{Role, testing::Files},
        media::read,
    };
    use talaria_proto::time::to_proto;

    fn config(media: &str) -> Config {
        let text = format!(
            "ingress: {{public_url: 'https://h/t/'}}\ntenants:\n  acme:\n    \
             openrouter: {{secrets: [{{file: secret}}], api_key: {{file: secret}}}}\n    media: {{{media}}}\n"
        );
        Files::new(&text, &[("secret", "sk-or-1")]).load(Role::Both)
    }

    fn event(urls: usize) -> Event {
        Event {
            tenant: "acme".into(),
            job_id: "job-1".into(),
            status: "completed".into(),
            unsigned_urls: vec!["https://openrouter.example".into(); urls],
            received_at: Some(to_proto("2026-11-28T12:00:30Z".parse().unwrap())),
            ..Event::default()
        }
    }

    #[test]
    fn a_completed_job_has_a_link_for_each_file_and_one_at_least() {
        let config = config("mode: link, link_life: 2h");
        for (urls, expected) in [(0, 1), (1, 1), (3, 3), (17, 16), (1_000, 16)] {
            let links = links(&config, &event(urls));
            assert_eq!(links.len(), expected);
            for (index, link) in links.iter().enumerate() {
                let token = link.strip_prefix("https://h/t/media/").unwrap();
                let now = "2026-11-28T14:00:59Z".parse().unwrap();
                let claims = read(token).unwrap().verify(&"sk-or-1".into(), now).unwrap();
                assert_eq!((claims.tenant.as_str(), claims.job_id.as_str()), ("acme", "job-1"));
                assert_eq!(
                    (usize::from(claims.index), claims.expires_at),
                    (index, now + Duration::from_secs(1))
                );
            }
        }
        assert_eq!(links(&config, &event(2)), links(&config, &event(2)));
    }

    #[test]
    fn other_events_have_none() {
        let with = config("mode: link");
        let none = |change: fn(&mut Event)| {
            let mut event = event(1);
            change(&mut event);
            assert!(links(&with, &event).is_empty(), "{event:?}");
        };
        none(|event| event.status = "failed".into());
        none(|event| event.tenant = "other".into());
        none(|event| event.job_id = "a b".into());
        none(|event| event.job_id = "x".repeat(300));
        assert!(links(&config("mode: off"), &event(1)).is_empty());
    }
}
