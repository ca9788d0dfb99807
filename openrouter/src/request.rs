//! The body of a submit, as documented. A parameter that the request leaves out is left out.

use serde_json::{Map, Value, json};
use talaria_proto::v1::{Reference, ReferenceKind, VideoRequest};

/// The JSON of a request. Fails if `provider_options` is no JSON object.
pub(crate) fn body(video: &VideoRequest, callback_url: Option<&str>) -> Result<Vec<u8>, String> {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("model", json!(video.model));
    for (key, text) in [
        ("prompt", &video.prompt),
        ("resolution", &video.resolution),
        ("aspect_ratio", &video.aspect_ratio),
        ("size", &video.size),
    ] {
        if !text.is_empty() {
            put(key, json!(text));
        }
    }
    if let Some(duration) = video.duration {
        put("duration", json!(duration));
    }
    let frames: Vec<Value> = [("first_frame", &video.first_frame), ("last_frame", &video.last_frame)]
        .into_iter()
        .filter(|(_, url)| !url.is_empty())
        .map(|(frame, url)| json!({"type": "image_url", "image_url": {"url": url}, "frame_type": frame}))
        .collect();
    if !frames.is_empty() {
        put("frame_images", Value::Array(frames));
    }
    let references: Vec<Value> = video.references.iter().filter_map(reference).collect();
    if !references.is_empty() {
        put("input_references", Value::Array(references));
    }
    if let Some(audio) = video.generate_audio {
        put("generate_audio", json!(audio));
    }
    if let Some(seed) = video.seed {
        put("seed", json!(seed));
    }
    if let Some(factor) = video.upscale_factor {
        put("upscale_factor", json!(factor));
    }
    if let Some(creativity) = video.creativity {
        put("creativity", json!(creativity));
    }
    if !video.provider_options.is_empty() {
        put("provider", json!({"options": provider_options(&video.provider_options)?}));
    }
    if let Some(url) = callback_url {
        put("callback_url", json!(url));
    }
    Ok(Value::Object(body).to_string().into_bytes())
}

/// `None` for a kind that this version does not know.
fn reference(reference: &Reference) -> Option<Value> {
    let kind = match reference.kind() {
        ReferenceKind::Unspecified => return None,
        ReferenceKind::Image => "image_url",
        ReferenceKind::Audio => "audio_url",
        ReferenceKind::Video => "video_url",
    };
    Some(json!({"type": kind, kind: {"url": reference.url}}))
}

/// The object of `provider.options`.
pub(crate) fn provider_options(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(options)) => Ok(options),
        Ok(_) => Err("provider_options is JSON, and not an object".into()),
        Err(error) => {
            Err(format!("provider_options is not JSON (line {}, column {})", error.line(), error.column()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(video: &VideoRequest, callback_url: Option<&str>) -> Value {
        serde_json::from_slice(&body(video, callback_url).unwrap()).unwrap()
    }

    #[test]
    fn only_given_parameters_are_sent() {
        let video = VideoRequest { model: "google/veo-3.1".into(), ..VideoRequest::default() };
        assert_eq!(json_of(&video, None), json!({"model": "google/veo-3.1"}));
    }

    #[test]
    fn each_parameter_has_its_documented_form() {
        let reference = |kind: ReferenceKind, url: &str| Reference { kind: kind.into(), url: url.into() };
        let video = VideoRequest {
            model: "m".into(),
            prompt: "p \"q\"\n\u{1f600}".into(),
            duration: Some(8),
            resolution: "1080p".into(),
            aspect_ratio: "16:9".into(),
            size: "1920x1080".into(),
            first_frame: "https://a.example/1.png".into(),
            last_frame: "data:image/png;base64,AA==".into(),
            references: vec![
                reference(ReferenceKind::Image, "https://a.example/i.png"),
                reference(ReferenceKind::Audio, "https://a.example/a.mp3"),
                reference(ReferenceKind::Video, "https://a.example/v.mp4"),
                reference(ReferenceKind::Unspecified, "https://a.example/x"),
            ],
            generate_audio: Some(false),
            seed: Some(-7),
            provider_options: r#"{"google-vertex":{"parameters":{"negativePrompt":"rain"}}}"#.into(),
            upscale_factor: Some(1.5),
            creativity: Some(2),
        };
        assert_eq!(
            json_of(&video, Some("https://me.example/callbacks/me/abc")),
            json!({
                "model": "m", "prompt": "p \"q\"\n\u{1f600}", "duration": 8, "resolution": "1080p", "aspect_ratio": "16:9",
                "size": "1920x1080",
                "frame_images": [
                    {"type": "image_url", "image_url": {"url": "https://a.example/1.png"}, "frame_type": "first_frame"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}, "frame_type": "last_frame"},
                ],
                "input_references": [
                    {"type": "image_url", "image_url": {"url": "https://a.example/i.png"}},
                    {"type": "audio_url", "audio_url": {"url": "https://a.example/a.mp3"}},
                    {"type": "video_url", "video_url": {"url": "https://a.example/v.mp4"}},
                ],
                "generate_audio": false, "seed": -7, "upscale_factor": 1.5, "creativity": 2,
                "provider": {"options": {"google-vertex": {"parameters": {"negativePrompt": "rain"}}}},
                "callback_url": "https://me.example/callbacks/me/abc",
            })
        );
    }

    #[test]
    fn provider_options_that_are_no_object_are_refused_without_repeating_them() {
        for (text, why) in [
            ("[1]", "provider_options is JSON, and not an object"),
            ("{secret", "provider_options is not JSON (line 1, column 2)"),
        ] {
            let video = VideoRequest { provider_options: text.into(), ..VideoRequest::default() };
            assert_eq!(body(&video, None).unwrap_err(), why);
        }
    }
}
