//! Questions to an ingress: the models, and whether a request fits its model. Nothing is made by them.

use crate::services::error::Error;
use prost::Message as _;
use talaria_bus::Bus;
use talaria_proto::v1::{
    AskModels, Models, NotAsked, NotAskedKind, OpenRouterAnswer, OpenRouterQuestion, VideoRequest,
    open_router_answer::Answer, open_router_question::Ask,
};

pub(super) async fn models(bus: &Bus, tenant: &str) -> Result<Models, Error> {
    match ask(bus, tenant, Ask::Models(AskModels {})).await? {
        Answer::Models(models) => Ok(models),
        _ => Err(Error::NotUnderstood),
    }
}

/// What a request is expected to cost, in millionths of a US dollar; `None` where that cannot be computed. An error if it does
/// not fit its model.
pub(super) async fn check(bus: &Bus, tenant: &str, video: &VideoRequest) -> Result<Option<i64>, Error> {
    match ask(bus, tenant, Ask::Check(video.clone())).await? {
        Answer::Checked(checked) => Ok(checked.estimate_micros),
        _ => Err(Error::NotUnderstood),
    }
}

async fn ask(bus: &Bus, tenant: &str, ask: Ask) -> Result<Answer, Error> {
    let question = OpenRouterQuestion { tenant: tenant.to_owned(), ask: Some(ask) };
    let answer = bus.ask_openrouter(question.encode_to_vec().into()).await;
    let answer = answer.map_err(|error| Error::NoIngress(error.to_string()))?;
    let answer = OpenRouterAnswer::decode(answer).map_err(|_| Error::NotUnderstood)?;
    match answer.answer.ok_or(Error::NotUnderstood)? {
        Answer::NotAsked(why) => Err(not_asked(why)),
        answer => Ok(answer),
    }
}

fn not_asked(why: NotAsked) -> Error {
    match why.kind() {
        NotAskedKind::Invalid => Error::Invalid(why.message),
        NotAskedKind::NotConfigured => Error::NoApiKey(why.message),
        NotAskedKind::Unavailable | NotAskedKind::Unspecified => Error::NoIngress(why.message),
    }
}
