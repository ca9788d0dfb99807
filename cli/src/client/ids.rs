//! Full ids for the unique beginnings that people type, looked up by the relay.

use super::{JobClient, StatusClient, ask};
use crate::{
    Failure,
    args::Ask,
    print::{one_line, warn},
};
use std::{fmt::Write as _, path::Path};
use talaria_core::{
    id::{DeliveryId, EventId},
    short_id::{is_job, short},
};
use talaria_proto::v1::{
    KnownId, ListIdsRequest, ListIdsResponse, ListJobsRequest, list_ids_request::BeginsWith,
};

/// Entries in a page of the list in which the beginning of a job's id is looked for, and the most pages.
const JOBS_ON_A_PAGE: u32 = 1_000;
const MOST_PAGES: usize = 20;

/// The most ids in the error for a beginning that fits several, as in [`ListIdsResponse`].
const MOST_LISTED: usize = 10;

/// Hexadecimal digits in a replay job's id.
const REPLAY_JOB_DIGITS: usize = 16;

/// The full id of an event, a delivery or a replay job. Connects to the relay only if the text is a beginning.
pub(crate) async fn complete_at(args: &Ask, config: &Path, text: &str) -> Result<String, Failure> {
    if is_whole(text) {
        return Ok(text.to_owned());
    }
    complete(&mut super::status(args, config).await?, text).await
}

/// The full id of an event, a delivery or a replay job. Any other text is returned unchanged.
pub(crate) async fn complete(relay: &mut StatusClient, text: &str) -> Result<String, Failure> {
    let text = without_ellipsis(text);
    if is_whole(text) {
        return Ok(text.to_owned());
    }
    let (kind, begins_with) = match text.get(..4) {
        Some("evt_") => ("event", BeginsWith::EventId(text.to_owned())),
        Some("dlv_") => ("delivery", BeginsWith::DeliveryId(text.to_owned())),
        Some("rpl_") => ("replay job", BeginsWith::ReplayJobId(text.to_owned())),
        _ => return Ok(text.to_owned()),
    };
    let request = ListIdsRequest { begins_with: Some(begins_with), tenant: String::new() };
    let found = ask(relay.list_ids(request)).await?;
    match choose(kind, text, &found)? {
        Some(id) => Ok(id),
        None => Err(Failure::Unknown(format!("no {kind} {text} is known, or it is not kept any more"))),
    }
}

/// The full id of a job at OpenRouter: an exact match, or the only job whose id begins with the text, which is then reported. The
/// text is returned unchanged if no job matches or some partitions do not answer.
pub(crate) async fn job(
    relay: &mut StatusClient,
    text: &str,
    tenant: Option<&str>,
) -> Result<String, Failure> {
    let beginning = without_ellipsis(text);
    if beginning.is_empty() {
        return Ok(text.to_owned());
    }
    let request = ListIdsRequest {
        begins_with: Some(BeginsWith::JobId(beginning.to_owned())),
        tenant: tenant.unwrap_or_default().to_owned(),
    };
    let found = ask(relay.list_ids(request)).await?;
    // An unknown job is no error here.
    let is_exact = found.ids.first().is_some_and(|known| known.id == beginning);
    if found.incomplete && !is_exact {
        return Ok(text.to_owned());
    }
    match choose("job", beginning, &found)? {
        Some(id) => {
            if id != text {
                warn(&format!("{} is taken for the job {}", one_line(text), one_line(&id)))?;
            }
            Ok(id)
        }
        None => Ok(text.to_owned()),
    }
}

/// The whole id of a job of Talaria's for its unique beginning, "job_…". Any other text, also an id of OpenRouter's, is returned
/// unchanged, as is a beginning that fits none.
pub(crate) async fn submitted_job(relay: &mut JobClient, text: &str) -> Result<String, Failure> {
    let beginning = without_ellipsis(text);
    if is_job(beginning) || !beginning.starts_with("job_") {
        return Ok(beginning.to_owned());
    }
    let mut request = ListJobsRequest { page_size: JOBS_ON_A_PAGE, ..ListJobsRequest::default() };
    let mut found = ListIdsResponse::default();
    for _ in 0..MOST_PAGES {
        let page = ask(relay.list_jobs(request.clone())).await?;
        found.incomplete |= page.incomplete;
        // The text may be an id of OpenRouter's.
        if page.jobs.iter().any(|job| job.openrouter_id == beginning) {
            return Ok(beginning.to_owned());
        }
        let fits = page.jobs.into_iter().filter(|job| job.id.starts_with(beginning));
        found.ids.extend(fits.map(|job| KnownId { id: job.id, tenant: job.tenant, route: String::new() }));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if found.ids.is_empty() {
        return Ok(beginning.to_owned());
    }
    found.more = found.ids.len() > MOST_LISTED;
    found.ids.truncate(MOST_LISTED);
    Ok(choose("job", beginning, &found)?.unwrap_or_else(|| beginning.to_owned()))
}

/// Whether the text needs no lookup.
fn is_whole(text: &str) -> bool {
    let is_replay_job = text.strip_prefix("rpl_").is_some_and(|digits| {
        digits.len() == REPLAY_JOB_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    let begins_otherwise = !["evt_", "dlv_", "rpl_"].iter().any(|kind| text.starts_with(kind));
    is_replay_job || begins_otherwise || text.parse::<EventId>().is_ok() || text.parse::<DeliveryId>().is_ok()
}

/// Text copied from a shortened table cell ends with an ellipsis.
fn without_ellipsis(text: &str) -> &str {
    text.trim_end_matches('…')
}

/// The only id that was found, if any; an error lists several.
fn choose(kind: &str, text: &str, found: &ListIdsResponse) -> Result<Option<String>, Failure> {
    let text = one_line(text);
    match found.ids.as_slice() {
        [] | [_] if found.incomplete => Err(Failure::Unreachable(format!(
            "some partitions have no owner at the moment, or it does not answer, so that {text} may be the beginning of an id that \
             is not known here\n  help: give the whole id, or ask again soon"
        ))),
        [] => Ok(None),
        [known] => Ok(Some(known.id.clone())),
        several => {
            let more = if found.more { ", and of more" } else { "" };
            let mut message = format!("{text} is the beginning of more than one {kind}'s id{more}:");
            for known in several {
                // Ids with the same short form are shown in full.
                let is_unique =
                    several.iter().filter(|other| short(&other.id) == short(&known.id)).count() == 1;
                let id = if is_unique { short(&known.id) } else { known.id.clone() };
                let owner = match (known.tenant.as_str(), known.route.as_str()) {
                    ("", _) => String::new(),
                    (tenant, "") => format!("  {tenant}"),
                    (tenant, route) => format!("  {tenant}/{route}"),
                };
                // Writing into a String cannot fail.
                let _ = write!(message, "\n  {}{owner}", one_line(&id));
            }
            Err(Failure::Usage(message + "\n  help: give more of it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use talaria_proto::v1::KnownId;

    const EVENT: &str = "evt_25m74olgq62heqt2gyhnio2unzditsxs";
    const DELIVERY: &str = "dlv_25m74olgq62heqt2gyhnio2unzditsxszovlkmaj";

    fn found(ids: &[(&str, &str)], incomplete: bool) -> ListIdsResponse {
        let known = |(id, route): &(&str, &str)| KnownId {
            id: (*id).to_owned(),
            tenant: "acme".into(),
            route: (*route).to_owned(),
        };
        ListIdsResponse { ids: ids.iter().map(known).collect(), more: false, incomplete }
    }

    #[test]
    fn full_ids_are_not_looked_up() {
        for whole in [EVENT, DELIVERY, "rpl_0123456789abcdef", "job_7", "", "qrt_x"] {
            assert!(is_whole(whole), "{whole}");
        }
        for part in [&EVENT[..20], &DELIVERY[..36], "dlv_25m74olgq62h-zovl", "rpl_0123", "evt_"] {
            assert!(!is_whole(part), "{part}");
        }
        assert_eq!(without_ellipsis("job_7abc…"), "job_7abc");
    }

    #[test]
    fn one_id_is_chosen_and_several_are_listed() {
        let other = DELIVERY.replace("zovlkmaj", "aaaaaaaa");
        let chosen = choose("delivery", "dlv_25", &found(&[(DELIVERY, "a")], false));
        assert_eq!(chosen.unwrap().as_deref(), Some(DELIVERY));
        assert_eq!(choose("delivery", "dlv_25", &found(&[], false)).unwrap(), None);
        let several =
            choose("delivery", "dlv_25", &found(&[(DELIVERY, "a"), (&other, "b")], false)).unwrap_err();
        assert_eq!(several.code(), 2);
        assert_eq!(
            several.to_string(),
            "dlv_25 is the beginning of more than one delivery's id:\n  dlv_25m74olgq62h-zovl  acme/a\n  \
             dlv_25m74olgq62h-aaaa  acme/b\n  help: give more of it"
        );
        // The same short form.
        let alike = DELIVERY.replace("kmaj", "kmaa");
        let several =
            choose("delivery", "dlv_", &found(&[(DELIVERY, "a"), (&alike, "b")], false)).unwrap_err();
        assert!(several.to_string().contains(DELIVERY) && several.to_string().contains(&alike), "{several}");
    }

    #[test]
    fn no_beginning_is_completed_while_partitions_are_missing() {
        for ids in [&[][..], &[(EVENT, "")]] {
            let failure = choose("event", "evt_2", &found(ids, true)).unwrap_err();
            assert_eq!(failure.code(), 5);
            assert!(failure.to_string().contains("give the whole id"), "{failure}");
        }
    }
}
