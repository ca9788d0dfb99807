//! Ids as people give them: no more than tells one from others. The relay is asked for the whole one.

use crate::{
    Failure,
    args::Ask,
    client::{self, Shown},
    print::{one_line, warn},
};
use std::{fmt::Write as _, path::Path};
use talaria_core::{
    id::{DeliveryId, EventId},
    short_id::short,
};
use talaria_proto::v1::{
    ListIdsRequest, ListIdsResponse, list_ids_request::BeginsWith, status_service_client::StatusServiceClient,
};

type Relay = StatusServiceClient<Shown>;

/// How many hexadecimal digits a replay job's id has.
const REPLAY_JOB_DIGITS: usize = 16;

/// The id of an event, of a delivery or of a replay job that is meant: one of these that is whole already is taken as it is, and so
/// is what begins otherwise.
pub(crate) async fn whole(ask: &Ask, config: &Path, text: &str) -> Result<String, Failure> {
    if is_whole(text) {
        return Ok(text.to_owned());
    }
    whole_of(&mut client::connect(ask, config).await?, text).await
}

/// The same of a relay that is asked already.
pub(crate) async fn whole_of(relay: &mut Relay, text: &str) -> Result<String, Failure> {
    let text = without_ellipsis(text);
    if is_whole(text) {
        return Ok(text.to_owned());
    }
    let (what, begins_with) = match text.get(..4) {
        Some("evt_") => ("event", BeginsWith::EventId(text.to_owned())),
        Some("dlv_") => ("delivery", BeginsWith::DeliveryId(text.to_owned())),
        Some("rpl_") => ("replay job", BeginsWith::ReplayJobId(text.to_owned())),
        _ => return Ok(text.to_owned()),
    };
    let request = ListIdsRequest { begins_with: Some(begins_with), tenant: String::new() };
    let found = relay.list_ids(request).await?.into_inner();
    match choose(what, text, &found)? {
        Some(id) => Ok(id),
        None => Err(Failure::Unknown(format!("no {what} {text} is known, or it is not kept any more"))),
    }
}

/// The job at OpenRouter that is meant: of exactly this id, or the only one whose id begins so. Where there is none, or not all
/// can be asked, the text is taken as it is. Where another id is taken, that is said.
pub(crate) async fn job(relay: &mut Relay, text: &str, tenant: Option<&str>) -> Result<String, Failure> {
    let beginning = without_ellipsis(text);
    if beginning.is_empty() {
        return Ok(text.to_owned());
    }
    let request = ListIdsRequest {
        begins_with: Some(BeginsWith::JobId(beginning.to_owned())),
        tenant: tenant.unwrap_or_default().to_owned(),
    };
    let found = relay.list_ids(request).await?.into_inner();
    // No job needs to be known by this id, so that one which cannot be told is none.
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

/// Whether nothing has to be asked.
fn is_whole(text: &str) -> bool {
    let is_replay_job = text.strip_prefix("rpl_").is_some_and(|digits| {
        digits.len() == REPLAY_JOB_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    let begins_otherwise = !["evt_", "dlv_", "rpl_"].iter().any(|kind| text.starts_with(kind));
    is_replay_job || begins_otherwise || text.parse::<EventId>().is_ok() || text.parse::<DeliveryId>().is_ok()
}

/// A cell that was cut ends so.
fn without_ellipsis(text: &str) -> &str {
    text.trim_end_matches('…')
}

/// The only id that was found; `None` where none was.
fn choose(what: &str, text: &str, found: &ListIdsResponse) -> Result<Option<String>, Failure> {
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
            let mut said = format!("{text} is the beginning of more than one {what}'s id{more}:");
            for known in several {
                // Of ids that a short form does not tell apart the whole ones are shown.
                let is_told_apart =
                    several.iter().filter(|other| short(&other.id) == short(&known.id)).count() == 1;
                let id = if is_told_apart { short(&known.id) } else { known.id.clone() };
                let place = match (known.tenant.as_str(), known.route.as_str()) {
                    ("", _) => String::new(),
                    (tenant, "") => format!("  {tenant}"),
                    (tenant, route) => format!("  {tenant}/{route}"),
                };
                // Writing into a String cannot fail.
                let _ = write!(said, "\n  {}{place}", one_line(&id));
            }
            Err(Failure::Usage(said + "\n  help: give more of it"))
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
    fn what_is_whole_is_not_asked_for() {
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
        // Alike as far as the short form goes.
        let alike = DELIVERY.replace("kmaj", "kmaa");
        let several =
            choose("delivery", "dlv_", &found(&[(DELIVERY, "a"), (&alike, "b")], false)).unwrap_err();
        assert!(several.to_string().contains(DELIVERY) && several.to_string().contains(&alike), "{several}");
    }

    #[test]
    fn while_not_all_can_be_asked_no_beginning_is_taken_for_an_id() {
        for ids in [&[][..], &[(EVENT, "")]] {
            let failure = choose("event", "evt_2", &found(ids, true)).unwrap_err();
            assert_eq!(failure.code(), 5);
            assert!(failure.to_string().contains("give the whole id"), "{failure}");
        }
    }
}
