//! The stand-in's requests.

use super::{
    BASE, Inner, Seen, VIDEO,
    answers::{OnContent, OnPoll, OnSubmit, lost, not_found, refusal, unauthorized},
    catalogue::{self, models},
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures_util::{StreamExt as _, stream::once};
use serde_json::{Value, json};
use std::{future::ready, io, sync::Arc};
use tokio_stream::iter;

pub(super) fn router(api: Arc<Inner>) -> Router {
    Router::new()
        .route(&format!("{BASE}/videos/models"), get(list_models))
        .route(&format!("{BASE}/videos"), post(submit))
        .route(&format!("{BASE}/videos/{{id}}"), get(poll))
        .route(&format!("{BASE}/videos/{{id}}/content"), get(content))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), record))
        .with_state(api)
}

async fn record(State(api): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let seen = Seen {
        method: request.method().clone(),
        path: request.uri().to_string(),
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
    };
    api.seen.lock().unwrap().push(seen);
    next.run(request).await
}

async fn list_models(State(api): State<Arc<Inner>>) -> Response {
    Json(api.models.lock().unwrap().clone().unwrap_or_else(models)).into_response()
}

async fn submit(State(api): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refused) = unauthorized(&headers) {
        return refused;
    }
    let does = loop {
        // First, so that no change is missed.
        let changed = api.changed.notified();
        match api.on_submit.lock().unwrap().take() {
            OnSubmit::Hang => {}
            other => break other,
        }
        changed.await;
    };
    if let Some(answer) = does.refusal() {
        return answer;
    }
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refusal(400, &error.to_string(), &Value::Null),
    };
    let catalogue = api.models.lock().unwrap().clone().unwrap_or_else(models);
    if let Some(refused) = catalogue::refuse(&catalogue, &request) {
        return refused;
    }
    let job = api.make(request);
    match does {
        OnSubmit::CallbackFirst(end) => {
            api.end(&job.id, end).await;
            api.accepted(&job)
        }
        OnSubmit::LoseAnswer => lost(),
        OnSubmit::CutAnswer => Response::builder()
            .status(202)
            .header(header::CONTENT_LENGTH, 100)
            .body(Body::from_stream(iter([
                Ok(Bytes::from_static(b"{\"id\":")),
                Err(io::Error::other("lost")),
            ])))
            .unwrap(),
        OnSubmit::MakeAnd(status, answer) => {
            (StatusCode::from_u16(status).unwrap(), Json(answer)).into_response()
        }
        _ => api.accepted(&job),
    }
}

async fn poll(State(api): State<Arc<Inner>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refused) = unauthorized(&headers) {
        return refused;
    }
    let does = loop {
        let changed = api.changed.notified();
        match api.on_poll.lock().unwrap().entry(id.clone()).or_default().take() {
            OnPoll::Hang => {}
            other => break other,
        }
        changed.await;
    };
    if let Some(answer) = does.refusal(&id) {
        return answer;
    }
    let job = {
        let mut jobs = api.jobs.lock().unwrap();
        let Some(job) = jobs.iter_mut().find(|job| job.id == id) else { return not_found(&id) };
        job.polls += 1;
        job.clone()
    };
    let mut answer = json!({
        "id": id, "polling_url": api.polling_url(&id), "status": job.status(), "generation_id": id,
    });
    if let Some(end) = &job.end {
        end.add_to(&mut answer, &id, &api.base_url());
    }
    Json(answer).into_response()
}

async fn content(
    State(api): State<Arc<Inner>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = unauthorized(&headers) {
        return refused;
    }
    let Some(job) = api.jobs.lock().unwrap().iter().find(|job| job.id == id).cloned() else {
        return not_found(&id);
    };
    let videos = job.end.as_ref().map_or(0, |end| end.videos);
    let index: usize = query
        .as_deref()
        .and_then(|query| query.strip_prefix("index="))
        .and_then(|index| index.parse().ok())
        .unwrap_or(0);
    if index >= videos {
        let message = format!("Video index {index} out of range ({videos} videos available)");
        return refusal(400, &message, &Value::Null);
    }
    let does = api.on_content.lock().unwrap().take();
    if let Some(answer) = does.refusal() {
        return answer;
    }
    let video = api.content.lock().unwrap().clone();
    let video = video.unwrap_or_else(|| Bytes::from_static(VIDEO));
    let mut chunks: Vec<_> = video.chunks(64 * 1024).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    // A Range is ignored. Headers of the servers in between come along.
    let headers = [
        (header::CONTENT_TYPE, "video/mp4"),
        (header::SET_COOKIE, "__cf_bm=a-cookie"),
        (header::HeaderName::from_static("x-generation-id"), "gen-1"),
    ];
    match does {
        OnContent::WithLength => (headers, video).into_response(),
        OnContent::BreakOff => {
            let half = video.slice(..video.len() / 2);
            chunks = half.chunks(64 * 1024).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            chunks.push(Err(io::Error::other("broken off")));
            (headers, Body::from_stream(iter(chunks))).into_response()
        }
        OnContent::Slow(time) => {
            let [first, second] = [video.slice(..video.len() / 2), video.slice(video.len() / 2..)];
            let slowly = once(ready(Ok::<_, io::Error>(first))).chain(once(async move {
                tokio::time::sleep(time).await;
                Ok(second)
            }));
            (headers, Body::from_stream(slowly)).into_response()
        }
        _ => (headers, Body::from_stream(iter(chunks))).into_response(),
    }
}
