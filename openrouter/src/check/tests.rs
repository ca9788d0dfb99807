use super::*;
use std::collections::BTreeMap;

fn veo() -> VideoModel {
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    VideoModel {
        id: "google/veo-3.1".into(),
        durations: Some(vec![4, 6, 8]),
        resolutions: texts(&["720p", "1080p", "4K"]),
        aspect_ratios: texts(&["16:9", "9:16"]),
        sizes: texts(&["1280x720"]),
        frame_images: texts(&["first_frame"]),
        generate_audio: Some(true),
        seed: Some(true),
        pricing_skus: BTreeMap::from([
            ("duration_seconds_with_audio".into(), "0.40".into()),
            ("duration_seconds_without_audio".into(), "0.20".into()),
        ]),
        ..VideoModel::default()
    }
}

fn request() -> VideoRequest {
    VideoRequest {
        model: "google/veo-3.1".into(),
        prompt: "a lighthouse at dusk".into(),
        ..VideoRequest::default()
    }
}

fn reference(kind: ReferenceKind, url: &str) -> Reference {
    Reference { kind: kind.into(), url: url.into() }
}

#[test]
fn a_request_that_fits_has_an_estimate() {
    let full = VideoRequest {
        duration: Some(6),
        resolution: "1080p".into(),
        aspect_ratio: "9:16".into(),
        first_frame: "https://a.example/1.png?sig=abc".into(),
        generate_audio: Some(false),
        seed: Some(7),
        provider_options: r#"{"google-vertex":{"parameters":{}}}"#.into(),
        ..request()
    };
    assert_eq!(check(&veo(), &full), Ok(Some(1_200_000)));
    assert_eq!(check(&veo(), &request()), Ok(Some(3_200_000)), "the longest, with sound");
    let unpriced = VideoModel { pricing_skus: BTreeMap::new(), ..veo() };
    assert_eq!(check(&unpriced, &full), Ok(None));
}

#[test]
fn what_a_model_does_not_name_is_left_to_openrouter() {
    let unnamed = VideoModel { id: "new/model".into(), ..VideoModel::default() };
    let any = VideoRequest {
        duration: Some(17),
        resolution: "3K".into(),
        aspect_ratio: "5:4".into(),
        last_frame: "data:image/png;base64,AAAA".into(),
        generate_audio: Some(false),
        ..request()
    };
    assert_eq!(check(&unnamed, &any), Ok(None));
}

#[test]
fn sound_is_always_said_to_models_that_have_it_and_never_to_others() {
    let silent = VideoModel { generate_audio: None, seed: Some(false), ..veo() };
    for (model, given, sent) in [
        (veo(), None, Some(true)),
        (veo(), Some(false), Some(false)),
        (veo(), Some(true), Some(true)),
        (silent.clone(), None, None),
        (silent.clone(), Some(false), None),
        (VideoModel { generate_audio: Some(false), ..silent }, Some(false), None),
    ] {
        let given = VideoRequest { generate_audio: given, ..request() };
        assert!(check(&model, &given).is_ok());
        assert_eq!(fit(&model, &given).generate_audio, sent);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of faults")]
fn a_fault_is_named_with_what_is_allowed_and_what_to_do() {
    let silent = VideoModel { generate_audio: Some(false), seed: None, ..veo() };
    let upscaler = VideoModel {
        upscale_factor: Some((1.0, 4.0)),
        creativity: Some(vec![0, 1]),
        ..VideoModel { id: "an/upscaler".into(), ..VideoModel::default() }
    };
    let png = "https://a.example/1.png";
    for (model, video, expected) in [
        (
            veo(),
            VideoRequest { duration: Some(7), ..request() },
            "duration is 7, and google/veo-3.1 takes 4, 6, 8; write one of these, or take another model",
        ),
        (
            veo(),
            VideoRequest { resolution: "4k\u{202e}".into(), ..request() },
            "resolution is \"4k\\u{202e}\", and google/veo-3.1 takes 720p, 1080p, 4K; write one of these, or take another \
             model",
        ),
        (
            veo(),
            VideoRequest { aspect_ratio: "1:1".into(), ..request() },
            "aspect_ratio is \"1:1\", and google/veo-3.1 takes 16:9, 9:16; write one of these, or take another model",
        ),
        (
            veo(),
            VideoRequest { size: "1x1".into(), ..request() },
            "size is \"1x1\", and google/veo-3.1 takes 1280x720; write one of these, or take another model",
        ),
        (
            veo(),
            VideoRequest { last_frame: png.into(), ..request() },
            "google/veo-3.1 takes no last_frame, only first_frame; leave it out, or take another model",
        ),
        (
            silent.clone(),
            VideoRequest { generate_audio: Some(true), ..request() },
            "google/veo-3.1 has no generate_audio; leave it out, or take another model",
        ),
        (
            silent,
            VideoRequest { seed: Some(0), ..request() },
            "google/veo-3.1 has no seed; leave it out, or take another model",
        ),
        (
            veo(),
            VideoRequest { upscale_factor: Some(2.0), ..request() },
            "google/veo-3.1 has no upscale_factor; leave it out, or take another model",
        ),
        (
            upscaler.clone(),
            VideoRequest { upscale_factor: Some(8.0), ..request() },
            "upscale_factor is 8, and an/upscaler takes 1 to 4",
        ),
        (
            upscaler,
            VideoRequest { creativity: Some(9), ..request() },
            "creativity is 9, and an/upscaler takes 0, 1; write one of these, or take another model",
        ),
        (
            veo(),
            VideoRequest { prompt: " \n".into(), ..request() },
            "the request has neither a prompt nor an image; give at least one of them",
        ),
        (
            veo(),
            VideoRequest { model: String::new(), ..request() },
            "model must be a model's id, of at most 200 characters",
        ),
        (
            veo(),
            VideoRequest { duration: Some(0), ..request() },
            "duration is 0; write seconds, from 1 to 3600",
        ),
        (
            veo(),
            VideoRequest { size: "720p".into(), ..request() },
            "size is \"720p\"; write WIDTHxHEIGHT, as in 1280x720",
        ),
        (
            veo(),
            VideoRequest { size: "1280x720".into(), aspect_ratio: "16:9".into(), ..request() },
            "size stands instead of resolution and aspect_ratio; leave one or the other out",
        ),
        (
            veo(),
            VideoRequest { prompt: "x".repeat(40_000), ..request() },
            "prompt has 40000 bytes, and at most 32768 are allowed; shorten it",
        ),
        (
            veo(),
            VideoRequest { provider_options: "[]".into(), ..request() },
            "provider_options is JSON, and not an object; write an object by provider, as in {\"google-vertex\": {…}}",
        ),
        (
            veo(),
            VideoRequest { upscale_factor: Some(f64::NAN), ..request() },
            "upscale_factor must be a number above 0",
        ),
        (
            veo(),
            VideoRequest {
                first_frame: png.into(),
                references: vec![reference(ReferenceKind::Image, png)],
                ..request()
            },
            "with a first or a last frame, OpenRouter ignores all references; leave one or the other out",
        ),
        (
            veo(),
            VideoRequest {
                first_frame: format!("data:image/png;base64,{}", "A".repeat(800_000)),
                ..request()
            },
            "the request has 800064 bytes, and at most 786432 are allowed; give images as https URLs",
        ),
    ] {
        assert_eq!(check(&model, &video).unwrap_err(), expected);
    }
}

#[test]
fn urls_are_https_or_images_as_data_and_never_repeated() {
    let secret = "the-secret-in-a-url";
    for (kind, url, expected) in [
        (ReferenceKind::Image, format!("http://a.example/{secret}"), "reference 1 is no https URL; "),
        (ReferenceKind::Image, format!("file:///{secret}"), "reference 1 is no https URL; "),
        (ReferenceKind::Image, format!("https://a b/{secret}"), "reference 1 is no https URL; "),
        (
            ReferenceKind::Image,
            format!("https://a.example/\u{202e}{secret}"),
            "reference 1 is no https URL; ",
        ),
        (ReferenceKind::Image, secret.to_owned(), "reference 1 is no https URL; "),
        (
            ReferenceKind::Image,
            format!("data:text/html;base64,{secret}"),
            "reference 1 is a data URL of something else",
        ),
        (
            ReferenceKind::Image,
            format!("data:image/png,{secret}"),
            "reference 1 is a data URL of something else",
        ),
        (
            ReferenceKind::Video,
            format!("data:video/mp4;base64,{secret}"),
            "reference 1 is a data URL, and OpenRouter takes",
        ),
        (ReferenceKind::Audio, format!("http://a.example/{secret}"), "reference 1 is no https URL; "),
        (
            ReferenceKind::Unspecified,
            format!("https://a.example/{secret}"),
            "reference 1 must be an image, sound or",
        ),
        (
            ReferenceKind::Video,
            format!("https://a.example/{}", secret.repeat(300)),
            "reference 1 has 5718 bytes",
        ),
    ] {
        let video = VideoRequest { references: vec![reference(kind, &url)], ..request() };
        let why = check(&veo(), &video).unwrap_err();
        assert!(why.starts_with(expected) && !why.contains(secret), "{why}");
    }
    let allowed = [
        (ReferenceKind::Image, "https://a.example/i.png"),
        (ReferenceKind::Image, "data:image/png;base64,AA=="),
        (ReferenceKind::Audio, "https://a.example/a.mp3"),
        (ReferenceKind::Video, "https://a.example:8443/v.mp4?x=1#t"),
    ];
    let references = allowed.map(|(kind, url)| reference(kind, url)).to_vec();
    assert!(check(&veo(), &VideoRequest { references, ..request() }).is_ok());
    let many = vec![reference(ReferenceKind::Image, "https://a.example/i.png"); 17];
    let why = check(&veo(), &VideoRequest { references: many, ..request() }).unwrap_err();
    assert_eq!(why, "there are 17 references; give at most 16");
    let only =
        VideoRequest { prompt: String::new(), first_frame: "https://a.example/i.png".into(), ..request() };
    assert!(check(&veo(), &only).is_ok(), "an image alone is enough");
}
