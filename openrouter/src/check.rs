//! Whether a request can be sent, and fits its model. An error names the value, what is allowed, and what to do.
//!
//! Where a model names no values, none is refused: OpenRouter decides, and refuses without a charge.

use crate::{
    models::{LONGEST_ID, VideoModel},
    price,
    quote::quote,
    request::provider_options,
};
use prost::Message as _;
use std::fmt::Display;
use talaria_proto::v1::{Reference, ReferenceKind, VideoRequest};
use url::Url;

/// Of the whole request, in bytes. It goes over the bus, where NATS allows 1 MiB by default.
const LARGEST_REQUEST: usize = 768 * 1024;

/// In bytes.
const LONGEST_PROMPT: usize = 32 * 1024;

/// Of a URL that is not a data URL, in bytes.
const LONGEST_URL: usize = 4096;

/// In bytes.
const LARGEST_OPTIONS: usize = 16 * 1024;

const MOST_REFERENCES: usize = 16;

/// In seconds; a longer video is a slip.
const LONGEST_VIDEO: u32 = 3600;

/// Checks a request against its model. Gives what the job is expected to cost, in millionths of a US dollar; `None` where the
/// price is not understood.
pub fn check(model: &VideoModel, video: &VideoRequest) -> Result<Option<i64>, String> {
    sane(video)?;
    values(model, video)?;
    features(model, video)?;
    Ok(model.prices().and_then(|prices| prices.estimate(model, video)))
}

/// The request as it is sent to this model.
///
/// To a model that has `generate_audio` it is always sent. If the request leaves it out, it is true: OpenRouter documents that as
/// its default for models with sound, and an endpoint's own default may be another one, at another price. To other models neither
/// `generate_audio` nor `seed` is sent, because some refuse requests with them.
pub fn fit(model: &VideoModel, video: &VideoRequest) -> VideoRequest {
    let audio = video.generate_audio.unwrap_or(true);
    VideoRequest {
        model: model.id.clone(),
        generate_audio: model.takes_audio().then_some(audio),
        seed: video.seed.filter(|_| model.seed == Some(true)),
        ..video.clone()
    }
}

/// The request itself.
fn sane(video: &VideoRequest) -> Result<(), String> {
    if video.model.is_empty() || video.model.len() > LONGEST_ID {
        return Err(format!("model must be a model's id, of at most {LONGEST_ID} characters"));
    }
    let has_image = !video.first_frame.is_empty() || !video.last_frame.is_empty();
    if video.prompt.trim().is_empty() && !has_image && video.references.is_empty() {
        return Err("the request has neither a prompt nor an image; give at least one of them".into());
    }
    at_most("prompt", video.prompt.len(), LONGEST_PROMPT)?;
    if let Some(seconds) = video.duration.filter(|seconds| !(1..=LONGEST_VIDEO).contains(seconds)) {
        return Err(format!("duration is {seconds}; write seconds, from 1 to {LONGEST_VIDEO}"));
    }
    if !video.size.is_empty() {
        if price::size(&video.size).is_none() {
            return Err(format!("size is {}; write WIDTHxHEIGHT, as in 1280x720", quoted(&video.size)));
        }
        if !video.resolution.is_empty() || !video.aspect_ratio.is_empty() {
            return Err(
                "size stands instead of resolution and aspect_ratio; leave one or the other out".into()
            );
        }
    }
    for (name, url) in [("first_frame", &video.first_frame), ("last_frame", &video.last_frame)] {
        if !url.is_empty() {
            image_url(name, url)?;
        }
    }
    if video.references.len() > MOST_REFERENCES {
        let count = video.references.len();
        return Err(format!("there are {count} references; give at most {MOST_REFERENCES}"));
    }
    for (index, reference) in video.references.iter().enumerate() {
        reference_url(&format!("reference {}", index + 1), reference)?;
    }
    if has_image && !video.references.is_empty() {
        return Err(
            "with a first or a last frame, OpenRouter ignores all references; leave one or the other out"
                .into(),
        );
    }
    if video.upscale_factor.is_some_and(|factor| !(factor.is_finite() && factor > 0.0)) {
        return Err("upscale_factor must be a number above 0".into());
    }
    if !video.provider_options.is_empty() {
        at_most("provider_options", video.provider_options.len(), LARGEST_OPTIONS)?;
        provider_options(&video.provider_options).map_err(|why| {
            format!("{why}; write an object by provider, as in {{\"google-vertex\": {{…}}}}")
        })?;
    }
    let size = video.encoded_len();
    if size > LARGEST_REQUEST {
        return Err(format!(
            "the request has {size} bytes, and at most {LARGEST_REQUEST} are allowed; give images as https URLs"
        ));
    }
    Ok(())
}

fn at_most(name: &str, length: usize, most: usize) -> Result<(), String> {
    if length <= most {
        return Ok(());
    }
    Err(format!("{name} has {length} bytes, and at most {most} are allowed; shorten it"))
}

fn reference_url(name: &str, reference: &Reference) -> Result<(), String> {
    match reference.kind() {
        ReferenceKind::Unspecified => Err(format!("{name} must be an image, sound or a video")),
        ReferenceKind::Image => image_url(name, &reference.url),
        ReferenceKind::Audio | ReferenceKind::Video if reference.url.starts_with("data:") => Err(format!(
            "{name} is a data URL, and OpenRouter takes sound and videos only from https URLs; put it where OpenRouter can \
             fetch it"
        )),
        ReferenceKind::Audio | ReferenceKind::Video => https_url(name, &reference.url),
    }
}

/// An https URL, or a data URL of an image.
fn image_url(name: &str, url: &str) -> Result<(), String> {
    let Some(data) = url.strip_prefix("data:") else { return https_url(name, url) };
    let is_image = data.starts_with("image/")
        && data.split_once(";base64,").is_some_and(|(_, data)| !data.is_empty())
        && data.bytes().all(|byte| byte.is_ascii_graphic());
    if is_image {
        return Ok(());
    }
    Err(format!("{name} is a data URL of something else; write data:image/png;base64,… or an https URL"))
}

/// No URL is repeated in an error: it may have a secret.
fn https_url(name: &str, url: &str) -> Result<(), String> {
    at_most(name, url.len(), LONGEST_URL)?;
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    match Url::parse(url) {
        Ok(parsed) if is_plain && parsed.scheme() == "https" && parsed.has_host() => Ok(()),
        _ => Err(format!("{name} is no https URL; OpenRouter fetches it from a public server")),
    }
}

/// The values of parameters.
fn values(model: &VideoModel, video: &VideoRequest) -> Result<(), String> {
    if let Some(seconds) = video.duration {
        one_of(model, "duration", &seconds, u32::to_string, model.durations.as_deref())?;
    }
    for (name, given, allowed) in [
        ("resolution", &video.resolution, &model.resolutions),
        ("aspect_ratio", &video.aspect_ratio, &model.aspect_ratios),
        ("size", &video.size, &model.sizes),
    ] {
        if !given.is_empty() {
            one_of(model, name, given, |given| quoted(given), allowed.as_deref())?;
        }
    }
    for (name, given) in [("first_frame", &video.first_frame), ("last_frame", &video.last_frame)] {
        let allowed = model.frame_images.as_deref().unwrap_or_default();
        if !given.is_empty() && !allowed.is_empty() && !allowed.iter().any(|allowed| allowed == name) {
            return Err(format!(
                "{} takes no {name}, only {}; leave it out, or take another model",
                model.id,
                allowed.join(" and ")
            ));
        }
    }
    Ok(())
}

fn one_of<T: PartialEq + Display>(
    model: &VideoModel,
    name: &str,
    given: &T,
    show: impl Fn(&T) -> String,
    allowed: Option<&[T]>,
) -> Result<(), String> {
    match allowed {
        Some(allowed) if !allowed.contains(given) => {
            let allowed: Vec<String> = allowed.iter().map(T::to_string).collect();
            Err(format!(
                "{name} is {}, and {} takes {}; write one of these, or take another model",
                show(given),
                model.id,
                allowed.join(", ")
            ))
        }
        _ => Ok(()),
    }
}

/// Parameters that only some models have.
fn features(model: &VideoModel, video: &VideoRequest) -> Result<(), String> {
    let lacks = |name: &str| Err(format!("{} has no {name}; leave it out, or take another model", model.id));
    // Without sound is what a model without sound does.
    if video.generate_audio == Some(true) && !model.takes_audio() {
        return lacks("generate_audio");
    }
    if video.seed.is_some() && model.seed != Some(true) {
        return lacks("seed");
    }
    if let Some(factor) = video.upscale_factor {
        let Some((least, most)) = model.upscale_factor else { return lacks("upscale_factor") };
        if !(least..=most).contains(&factor) {
            return Err(format!("upscale_factor is {factor}, and {} takes {least} to {most}", model.id));
        }
    }
    if let Some(creativity) = video.creativity {
        if model.creativity.is_none() {
            return lacks("creativity");
        }
        one_of(model, "creativity", &creativity, i32::to_string, model.creativity.as_deref())?;
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", quote(text))
}

#[cfg(test)]
mod tests;
