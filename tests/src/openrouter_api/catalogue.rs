//! The models of the stand-in: one of each kind that OpenRouter has.

use super::answers::{refusal, schema_fault};
use axum::response::Response;
use serde_json::{Value, json};

/// The catalogue, in its documented form.
pub fn models() -> Value {
    let landscape = json!(["16:9", "9:16"]);
    json!({"data": [
        {
            "id": "google/veo-3.1", "canonical_slug": "google/veo-3.1-20260101", "name": "Google: Veo 3.1",
            "created": 1_767_225_600, "description": "With sound.", "hugging_face_id": null,
            "supported_resolutions": ["720p", "1080p", "4K"], "supported_aspect_ratios": landscape,
            "supported_sizes": ["1280x720", "720x1280", "1920x1080", "1080x1920", "3840x2160", "2160x3840"],
            "supported_durations": [8, 4, 6], "supported_frame_images": ["first_frame", "last_frame"],
            "upscale_factor": null, "creativity": null, "generate_audio": true, "seed": true,
            "allowed_passthrough_parameters": ["negativePrompt", "personGeneration"],
            "pricing_skus": {
                "duration_seconds_with_audio": "0.40", "duration_seconds_without_audio": "0.20",
                "duration_seconds_with_audio_4k": "0.60", "duration_seconds_without_audio_4k": "0.40",
            },
        },
        {
            "id": "bytedance/seedance-2.0", "canonical_slug": "bytedance/seedance-2.0", "name": "ByteDance: Seedance 2.0",
            "created": 1_767_225_600, "supported_resolutions": ["480p", "720p", "1080p"], "supported_aspect_ratios": landscape,
            "supported_sizes": ["864x480", "480x864", "1280x720", "720x1280"], "supported_durations": [4, 5, 10],
            "supported_frame_images": ["first_frame", "last_frame"], "upscale_factor": null, "creativity": null,
            "generate_audio": true, "seed": false, "allowed_passthrough_parameters": [],
            "pricing_skus": {"video_tokens": "0.000007", "video_tokens_without_audio": "0.000007"},
        },
        {
            "id": "runway/gen-4.5", "canonical_slug": "runway/gen-4.5", "name": "Runway: Gen-4.5",
            "created": 1_767_225_600, "supported_resolutions": ["720p"], "supported_aspect_ratios": landscape,
            "supported_sizes": ["1280x720", "720x1280"], "supported_durations": [2, 5, 10],
            "supported_frame_images": ["first_frame"], "upscale_factor": null, "creativity": null,
            "generate_audio": false, "seed": null, "allowed_passthrough_parameters": [],
            "pricing_skus": {"cents_per_second_output": "12", "minimum_cents_per_generation": "36"},
        },
        // As in older catalogues: without the members for upscalers, and with a price of an unknown unit.
        {
            "id": "new/model", "canonical_slug": "new/model", "name": "New: Model", "created": 1_767_225_600,
            "supported_resolutions": null, "supported_aspect_ratios": null, "supported_sizes": null,
            "supported_durations": null, "supported_frame_images": null, "generate_audio": null, "seed": null,
            "allowed_passthrough_parameters": [], "pricing_skus": {"per-video-moonbeam": "0.50"},
        },
        {
            "id": "black-forest-labs/flux-video-upscale", "canonical_slug": "black-forest-labs/flux-video-upscale",
            "name": "Black Forest Labs: FLUX Video Upscale", "created": 1_767_225_600, "supported_resolutions": null,
            "supported_aspect_ratios": null, "supported_sizes": null, "supported_durations": null,
            "supported_frame_images": null, "upscale_factor": {"min": 1, "max": 4}, "creativity": [0, 1, 2],
            "generate_audio": null, "seed": null, "allowed_passthrough_parameters": [],
            "pricing_skus": {"cents_per_megapixel_second_precise": "7.5"},
        },
    ]})
}

/// The refusal of a request that OpenRouter would refuse.
pub(super) fn refuse(models: &Value, request: &Value) -> Option<Response> {
    let Some(id) = request["model"].as_str() else {
        return Some(schema_fault(&json!(["model"]), "Required"));
    };
    let Some(model) = models["data"].as_array().unwrap().iter().find(|model| model["id"] == id) else {
        return Some(refusal(400, &format!("Model {id} does not exist"), &Value::Null));
    };
    for (index, frame) in request["frame_images"].as_array().into_iter().flatten().enumerate() {
        let is_documented = frame["type"] == "image_url"
            && frame["image_url"]["url"].is_string()
            && (frame["frame_type"] == "first_frame" || frame["frame_type"] == "last_frame");
        if !is_documented {
            return Some(schema_fault(&json!(["frame_images", index]), "Invalid input"));
        }
    }
    for reference in request["input_references"].as_array().into_iter().flatten() {
        let url = reference["video_url"]["url"].as_str().unwrap_or_default();
        if url.starts_with("data:") {
            return Some(refusal(400, "Invalid reference URL. Only HTTPS URLs are allowed", &Value::Null));
        }
    }
    for (name, allowed) in [
        ("duration", "supported_durations"),
        ("resolution", "supported_resolutions"),
        ("aspect_ratio", "supported_aspect_ratios"),
        ("size", "supported_sizes"),
    ] {
        let (given, allowed) = (&request[name], &model[allowed]);
        if !given.is_null() && allowed.as_array().is_some_and(|allowed| !allowed.contains(given)) {
            let message = format!("Unsupported {name}: {given}. Supported values: {allowed}");
            return Some(refusal(400, &message, &json!({"failed_routing_step": name, "routing_funnel": []})));
        }
    }
    for flag in ["generate_audio", "seed"] {
        if !request[flag].is_null() && model[flag] != true {
            return Some(refusal(400, &format!("Unsupported parameter: {flag}"), &Value::Null));
        }
    }
    None
}
