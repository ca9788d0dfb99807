//! One job: what happened to it, and its files.

use super::{frame::Page, jobs::cost, parts, visitor::Visitor};
use crate::fault::Fault;
use maud::{Markup, html};
use talaria_proto::v1::{FilesState, GetJobRequest, GetMediaRequest, Job, JobSource, JobState, MediaFile};
use url::Url;

pub(super) async fn page(visitor: &Visitor, id: &str) -> Result<Page, Fault> {
    let asked = GetJobRequest { job_id: id.to_owned(), tenant: String::new() };
    let job = visitor.jobs().get_job(asked).await?.into_inner().job.unwrap_or_default();
    // A job without files has none to give links to.
    let asked = GetMediaRequest { job_id: id.to_owned(), tenant: String::new() };
    let files =
        visitor.jobs().get_media(asked).await.map(|answer| answer.into_inner().files).unwrap_or_default();
    // Only kept files are shown by themselves: others would be fetched from OpenRouter each time.
    let kept = job
        .files
        .as_ref()
        .filter(|files| files.state() == FilesState::Kept)
        .map_or(0, |files| files.kept.len());
    let origin = files.first().filter(|_| kept > 0).and_then(|file| Url::parse(&file.url).ok());
    let origin = origin.map(|url| url.origin().ascii_serialization());
    let here = format!("/jobs/{id}");
    let main = html! {
        h1 { "Job " (parts::whole_id(&job.id)) }
        div data-live id="job" {
            p.headline { (parts::job_state(job.state())) " " (parts::sentence(&job.reason)) }
            (pairs(&job))
            (ledger(&job))
            @if visitor.submits() && matches!(job.state(), JobState::Submitting | JobState::Running | JobState::Unknown) {
                section.controls aria-label="Actions" {
                    (parts::button("/act/stop-job", "Stop waiting for it", &[("job", &job.id), ("tenant", &job.tenant)], &here))
                }
            }
        }
        @if !files.is_empty() { (media(&files, origin.is_some())) }
    };
    Ok(Page { media: origin, ..Page::new("Job", "/jobs", main) })
}

fn pairs(job: &Job) -> Markup {
    html! {
        dl.pairs {
            dt { "Tenant" } dd { (job.tenant) }
            dt { "Model" } dd { (parts::or_none(&job.model)) }
            dt { "At OpenRouter" }
            dd { (parts::or_none(&job.openrouter_id)) @if !job.openrouter_status.is_empty() { " (" (parts::text(&job.openrouter_status)) ")" } }
            dt { "Request id" } dd { (parts::text(&job.request_id)) }
            dt { "Cost" } dd { (cost(job)) }
            dt { "Asked for by" } dd { (parts::text(&talaria_relay::who(&job.requested_by, &job.token_name))) }
            @if !job.route.is_empty() {
                dt { "Only to" } dd { a href={ "/routes/" (job.tenant) "/" (job.route) } { (job.tenant) "/" (job.route) } }
            }
            @if !job.event_id.is_empty() { dt { "Event" } dd { (parts::id("events", &job.event_id)) } }
            @for (key, value) in sorted(job) { dt { "Context " code { (parts::text(key)) } } dd { (parts::text(value)) } }
        }
    }
}

fn sorted(job: &Job) -> Vec<(&String, &String)> {
    let mut context: Vec<_> = job.context.iter().collect();
    context.sort();
    context
}

fn ledger(job: &Job) -> Markup {
    let files = job.files.as_ref();
    let by = match job.source() {
        JobSource::Callback => "It ended, as a callback said.",
        JobSource::Poll => "It ended, as a poll found.",
        JobSource::Unspecified => "It ended.",
    };
    let first = if job.tracked { "It was tracked." } else { "The intent to submit it was recorded." };
    let steps = [
        (job.created_at.as_ref(), first.to_owned()),
        (job.submitted_at.as_ref(), "OpenRouter took it.".to_owned()),
        (job.polled_at.as_ref(), format!("OpenRouter was asked for it, the last of {} times.", job.polls)),
        (job.callback_at.as_ref(), "Its callback came.".to_owned()),
        (job.ended_at.as_ref(), by.to_owned()),
        (files.and_then(|files| files.ended_at.as_ref()), files_end(job)),
    ];
    let mut steps: Vec<_> = steps.into_iter().filter_map(|(at, what)| at.map(|at| (at, what))).collect();
    steps.sort_by_key(|(at, _)| (at.seconds, at.nanos));
    html! {
        h2 { "What happened" }
        ol.timeline { @for (at, what) in &steps { li { (parts::time(Some(at))) div { (what) } } } }
        @if job.callback_missing {
            p.warning {
                "No callback came. Do OpenRouter's key and signing secret belong to one workspace, and does the public URL lead here? "
                a href="/inbox?show=refused" { "What was refused" }
            }
        }
        @if job.ended_at.is_none() {
            dl.pairs {
                @if job.next_poll_at.is_some() { dt { "Asks OpenRouter next" } dd { (parts::time(job.next_poll_at.as_ref())) } }
                @if job.give_up_at.is_some() { dt { "Gives it up" } dd { (parts::time(job.give_up_at.as_ref())) } }
            }
        }
        @if let Some(files) = files.filter(|files| files.state() == FilesState::Fetching) {
            p {
                "Its files are fetched; deliveries wait for them until " (parts::time(files.wait_until.as_ref())) ". "
                (parts::sentence(&files.reason))
            }
        }
    }
}

fn files_end(job: &Job) -> String {
    let Some(files) = &job.files else { return String::new() };
    if files.state() == FilesState::Kept {
        format!("Its files are kept: {} of {}.", files.kept.len(), files.count)
    } else {
        format!("Its files are not kept: {}", talaria_core::invisible::one_line(&files.reason))
    }
}

fn media(files: &[MediaFile], preview: bool) -> Markup {
    html! {
        h2 { "Files" }
        p.hint { "Every program with a link can fetch the file, until the link expires." }
        @for file in files {
            section.card {
                h3 { "File " (file.index + 1) }
                @if preview { video controls preload="none" src=(file.url) {} }
                p { a href=(file.url) rel="noreferrer" { "Open" } ", until " (parts::time(file.expires_at.as_ref())) }
            }
        }
    }
}
