//! The tools for jobs: `video_models`, `video_status`, `video_link`, and [`submit`] for `video_submit`.

mod submit;

pub(super) use submit::submit;

use super::{
    Relay,
    answer::{Answer, Fence},
    deliveries::{LIMIT, line},
    read,
    refused::Refused,
};
use crate::{
    Failure,
    client::{self, ids},
    commands::models::{chosen, per_second, seconds},
    print::{
        self,
        job::{has_ended, state_name},
    },
    select,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use talaria_core::money::dollars;
use talaria_proto::v1::{
    DeliveryFilter, GetEventRequest, GetMediaRequest, Job, ListDeliveriesRequest, ListModelsRequest, Model,
};
use tonic::Code;

/// The name that is recorded with what the server does.
pub(super) const NAME: &str = "mcp";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Models {
    tenant: Option<String>,
    model: Option<String>,
}

pub(super) async fn models(relay: &Relay, arguments: Map<String, Value>) -> Result<String, Refused> {
    let Models { tenant, model } = read(arguments)?;
    let tenant = select::tenant_name(&relay.config, tenant.as_deref())?;
    let mut jobs = relay.jobs().await?;
    let mut known = client::ask(jobs.list_models(ListModelsRequest { tenant })).await?;
    if let Some(wanted) = model {
        known.models = chosen(&known.models, &wanted)?;
    }
    let mut answer = Answer::new();
    let fence = answer.fence();
    if !known.stale_because.is_empty() {
        let at = print::time(known.fetched_at.as_ref());
        answer.add(&format!("The list is of {at}: {}", fence.text(&known.stale_because)));
    }
    answer.add(&format!(
        "{}. Prices are list prices; a job can cost more.",
        print::counted(known.models.len(), "model")
    ));
    for model in &known.models {
        answer.add(&values(model, &fence));
    }
    Ok(answer.finish("name a part of the model's id with model."))
}

/// A model with the values that it takes, in one line.
fn values(model: &Model, fence: &Fence) -> String {
    let mut values = vec![fence.word(&model.id)];
    let lists = [
        ("resolutions", &model.resolutions),
        ("aspect ratios", &model.aspect_ratios),
        ("sizes", &model.sizes),
        ("frames", &model.frame_images),
        ("provider options", &model.passthrough),
    ];
    if !model.durations.is_empty() {
        values.push(format!("seconds {}", seconds(&model.durations)));
    }
    values.extend(
        lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name} {}", fence.words(list))),
    );
    let can = [
        ("generate_audio", model.audio),
        ("seed", model.seed),
        ("upscale_factor and creativity", model.upscales),
    ];
    values.extend(can.iter().filter(|(_, can)| *can).map(|(name, _)| format!("takes {name}")));
    values.push(format!("price {}", per_second(model)));
    values.join("; ")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfJob {
    job: String,
    tenant: Option<String>,
}

pub(super) async fn status(relay: &Relay, arguments: Map<String, Value>) -> Result<String, Refused> {
    let OfJob { job: text, tenant } = read(arguments)?;
    let mut status = relay.status().await?;
    client::check_tenant(&mut status, tenant.as_deref()).await?;
    let id = ids::job(&mut status, &text, tenant.as_deref()).await?;
    let mut answer = Answer::new();
    let fence = answer.fence();
    let deliveries = match client::ledger(&mut relay.jobs().await?, &id, tenant.as_deref()).await? {
        Some(job) => {
            head(&mut answer, &job);
            ledger(&mut answer, &job);
            if job.event_id.is_empty() {
                return Ok(answer.finish(""));
            }
            let request = GetEventRequest { event_id: job.event_id, include_payload: false };
            match status.get_event(request).await {
                Ok(event) => event.into_inner().deliveries,
                Err(status) if status.code() == Code::NotFound => {
                    answer.add("Its result waits to be planned, or is not kept any more.");
                    return Ok(answer.finish(""));
                }
                Err(status) => return Err(Failure::from(status).into()),
            }
        }
        // Of another program: only its callbacks are known.
        None => {
            let filter = DeliveryFilter {
                job_id: id.clone(),
                tenant: tenant.unwrap_or_default(),
                ..DeliveryFilter::default()
            };
            let request =
                ListDeliveriesRequest { filter: Some(filter), page_size: LIMIT, page_token: String::new() };
            let list = client::ask(status.list_deliveries(request)).await?;
            if list.deliveries.is_empty() {
                return Err(Refused::Relays {
                    words: format!("no job {id} is known, or it is not kept any more"),
                    advice: "use the job's id from the answer of video_submit, or look it up with deliveries. A callback that came \
                             and was not delivered is explained by why."
                        .to_owned(),
                });
            }
            answer.add("The job was submitted by another program. Only its callbacks are known here.");
            list.deliveries
        }
    };
    answer.add(if deliveries.is_empty() {
        "No route took its result; why says more."
    } else {
        "Deliveries of its result:"
    });
    for delivery in &deliveries {
        answer.add(&line(delivery, &fence));
    }
    Ok(answer.finish("deliveries lists them all."))
}

/// Ids, state and costs.
pub(super) fn head(answer: &mut Answer, job: &Job) {
    let fence = answer.fence();
    let said = if job.openrouter_status.is_empty() {
        String::new()
    } else {
        format!(", OpenRouter says {}", fence.word(&job.openrouter_status))
    };
    answer.add(&format!("job {}: {}{said}", fence.word(&job.id), state_name(job.state())));
    let mut lines = vec![("request_id", fence.word(&job.request_id)), ("tenant", fence.word(&job.tenant))];
    let texts = [("id at OpenRouter", &job.openrouter_id), ("model", &job.model), ("only route", &job.route)];
    lines.extend(
        texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, fence.word(text))),
    );
    let amounts = [("estimate", job.estimate_micros), ("cost", job.cost_micros)];
    lines.extend(amounts.into_iter().filter_map(|(name, micros)| Some((name, dollars(micros?)))));
    if !job.reason.is_empty() {
        lines.push(("reason", fence.text(&job.reason)));
    }
    for (name, value) in lines {
        answer.add(&format!("{name}: {value}"));
    }
}

/// Times and context.
pub(super) fn ledger(answer: &mut Answer, job: &Job) {
    let fence = answer.fence();
    let times = [
        ("recorded", &job.created_at),
        ("callback came", &job.callback_at),
        ("ended", &job.ended_at),
        ("asked next", &job.next_poll_at),
        ("given up", &job.give_up_at),
    ];
    // The last two are plans, which an end makes void.
    let shown = times.iter().take(if has_ended(job.state()) { 3 } else { 5 });
    for (name, at) in shown.filter_map(|(name, at)| Some((name, at.as_ref()?))) {
        answer.add(&format!("{name}: {}", print::time(Some(at))));
    }
    let mut context: Vec<_> = job.context.iter().collect();
    context.sort();
    for (key, value) in context {
        answer.add(&format!("context {}: {}", fence.word(key), fence.word(value)));
    }
}

pub(super) async fn link(relay: &Relay, arguments: Map<String, Value>) -> Result<String, Refused> {
    let OfJob { job: text, tenant } = read(arguments)?;
    let mut status = relay.status().await?;
    client::check_tenant(&mut status, tenant.as_deref()).await?;
    let id = ids::job(&mut status, &text, tenant.as_deref()).await?;
    let mut jobs = relay.jobs().await?;
    let request = GetMediaRequest { job_id: id.clone(), tenant: tenant.clone().unwrap_or_default() };
    let media = client::ask(jobs.get_media(request)).await.map_err(|failure| match failure {
        failure @ Failure::Other(_) => {
            Refused::with(&failure, "video_status shows the job; a link comes when it has completed.")
        }
        failure => failure.into(),
    })?;
    let kept = client::ledger(&mut jobs, &id, tenant.as_deref()).await?;
    let kept = kept.and_then(|job| job.files).map(|files| files.kept).unwrap_or_default();
    let mut answer = Answer::new();
    let fence = answer.fence();
    for file in &media.files {
        let until = print::time(file.expires_at.as_ref());
        answer.add(&format!("file {}: {} (until {until})", file.index, file.url));
        if let Some(kept) = kept.iter().find(|kept| kept.index == file.index) {
            let bytes = format!("{} bytes of {}", kept.size, fence.word(&kept.media_type));
            let path = if kept.path.is_empty() {
                String::new()
            } else {
                format!(", kept as {}", print::one_line(&kept.path))
            };
            answer.add(&format!("  {bytes}{path}"));
        }
    }
    Ok(answer.finish("ask for the other files at the ingress."))
}
