//! Full ids for the unique beginnings that people type, looked up by the relay.

use super::{StatusClient, ask};
use crate::{
    Failure,
    args::{Ask, Filter},
    print::{one_line, warn},
};
use std::{fmt::Write as _, path::Path};
use talaria_core::{
    id::{DeliveryId, EventId},
    short_id::{is_job, short},
};
use talaria_proto::v1::{GetJobRequest, Job, ListIdsRequest, ListIdsResponse, list_ids_request::BeginsWith};

/// The most ids in the error for a beginning that fits several, as in [`ListIdsResponse`].
const MOST_LISTED: usize = 10;

/// What the id of a job that was submitted or tracked here begins with. One of OpenRouter's may, too.
const JOB: &str = "job_";

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
    let found = list(relay, begins_with, None).await?;
    match choose(kind, text, &found)? {
        Some(id) => Ok(id),
        None => Err(Failure::Unknown(format!("no {kind} {text} is known, or it is not kept any more"))),
    }
}

/// The full id of a job: one that was submitted or tracked here, or one at OpenRouter, whose id counts first if it is whole. A
/// beginning of OpenRouter's that is completed is reported. The text is returned unchanged if no job matches or some partitions
/// do not answer.
pub(crate) async fn job(
    relay: &mut StatusClient,
    text: &str,
    tenant: Option<&str>,
) -> Result<String, Failure> {
    let beginning = without_ellipsis(text);
    if beginning.is_empty() || is_job(beginning) {
        return Ok(beginning.to_owned());
    }
    let mut found = list(relay, BeginsWith::JobId(beginning.to_owned()), tenant).await?;
    let is_exact = found.ids.first().is_some_and(|known| known.id == beginning);
    if !is_exact && beginning.starts_with(JOB) {
        let ours = list(relay, BeginsWith::SubmittedJobId(beginning.to_owned()), tenant).await?;
        found = both(ours, found);
    }
    // An unknown job is no error here.
    if found.incomplete && !is_exact {
        return Ok(text.to_owned());
    }
    match choose("job", beginning, &found)? {
        Some(id) => {
            if id != text && !is_job(&id) {
                warn(&format!("{} is taken for the job {}", one_line(text), one_line(&id)))?;
            }
            Ok(id)
        }
        None => Ok(text.to_owned()),
    }
}

/// The full id of a job that was submitted or tracked here, for its beginning. Any other text, also an id of OpenRouter's, is
/// returned unchanged, as is a beginning that fits none. Connects to the relay only if the text is a beginning.
pub(crate) async fn submitted_job_at(
    args: &Ask,
    config: &Path,
    text: &str,
    tenant: Option<&str>,
) -> Result<String, Failure> {
    let beginning = without_ellipsis(text);
    if is_job(beginning) || !beginning.starts_with(JOB) {
        return Ok(beginning.to_owned());
    }
    let mut relay = super::status(args, config).await?;
    let found = list(&mut relay, BeginsWith::SubmittedJobId(beginning.to_owned()), tenant).await?;
    Ok(choose("job", beginning, &found)?.unwrap_or_else(|| beginning.to_owned()))
}

/// Restricts a filter of deliveries to a job, which is named by its id here or at OpenRouter, or by the beginning of one.
pub(crate) async fn restrict_to_job(
    relay: &mut StatusClient,
    args: &Ask,
    config: &Path,
    filter: &mut Filter,
) -> Result<(), Failure> {
    let Some(text) = &filter.job else { return Ok(()) };
    let id = job(relay, text, filter.tenant.as_deref()).await?;
    filter.job = Some(id.clone());
    if !is_job(&id) {
        return Ok(());
    }
    let known = job_at_openrouter(args, config, &id, filter.tenant.as_deref()).await?;
    // Another tenant may have a job of the same id at OpenRouter.
    (filter.tenant, filter.job) = (Some(known.tenant), Some(known.openrouter_id));
    Ok(())
}

/// A job that was submitted or tracked here, with its id at OpenRouter.
pub(crate) async fn job_at_openrouter(
    args: &Ask,
    config: &Path,
    id: &str,
    tenant: Option<&str>,
) -> Result<Job, Failure> {
    let request = GetJobRequest { job_id: id.to_owned(), tenant: tenant.unwrap_or_default().to_owned() };
    let known = ask(super::jobs(args, config).await?.get_job(request)).await?.job.unwrap_or_default();
    if known.openrouter_id.is_empty() {
        return Err(Failure::Unknown(format!(
            "{id} has no id of OpenRouter's yet, so nothing came of it; talaria explain {id} says what it waits for"
        )));
    }
    Ok(known)
}

async fn list(
    relay: &mut StatusClient,
    begins_with: BeginsWith,
    tenant: Option<&str>,
) -> Result<ListIdsResponse, Failure> {
    let tenant = tenant.unwrap_or_default().to_owned();
    ask(relay.list_ids(ListIdsRequest { begins_with: Some(begins_with), tenant })).await
}

/// Two lists as one.
fn both(mut one: ListIdsResponse, other: ListIdsResponse) -> ListIdsResponse {
    one.ids.extend(other.ids);
    one.more |= other.more || one.ids.len() > MOST_LISTED;
    one.ids.truncate(MOST_LISTED);
    one.incomplete |= other.incomplete;
    one
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
    fn jobs_of_both_kinds_are_listed_together() {
        let list = |ids: &[&str]| found(&ids.iter().map(|id| (*id, "")).collect::<Vec<_>>(), false);
        let one = both(list(&["job_a2"]), list(&[]));
        assert_eq!(choose("job", "job_a", &one).unwrap().as_deref(), Some("job_a2"));
        let several = choose("job", "job_a", &both(list(&["job_a2"]), list(&["job_alpha"]))).unwrap_err();
        assert!(
            several.to_string().contains("job_a2") && several.to_string().contains("job_alpha"),
            "{several}"
        );
        let many = both(list(&["job_a"; MOST_LISTED]), list(&["job_b"]));
        assert!(many.more && many.ids.len() == MOST_LISTED);
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
