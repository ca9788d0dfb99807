use super::*;
use proptest::prelude::*;
use talaria_proto::v1::Reference;

fn skus(prices: &[(&str, &str)]) -> BTreeMap<String, String> {
    prices.iter().map(|(name, price)| ((*name).to_owned(), (*price).to_owned())).collect()
}

fn model(prices: &[(&str, &str)]) -> VideoModel {
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    VideoModel {
        id: "m".into(),
        durations: Some(vec![4, 8]),
        resolutions: texts(&["720p", "1080p", "4K"]),
        sizes: texts(&["1280x720", "720x1280", "960x720", "1920x1080", "3840x2160"]),
        generate_audio: Some(true),
        pricing_skus: skus(prices),
        ..VideoModel::default()
    }
}

fn estimate(prices: &[(&str, &str)], video: &VideoRequest) -> Option<i64> {
    let model = model(prices);
    model.prices()?.estimate(&model, video)
}

fn video(seconds: u32, resolution: &str, audio: bool) -> VideoRequest {
    VideoRequest {
        model: "m".into(),
        prompt: "p".into(),
        duration: Some(seconds),
        resolution: resolution.into(),
        generate_audio: Some(audio),
        ..VideoRequest::default()
    }
}

const VEO: &[(&str, &str)] = &[
    ("duration_seconds_with_audio", "0.40"),
    ("duration_seconds_without_audio", "0.20"),
    ("duration_seconds_with_audio_4k", "0.60"),
    ("duration_seconds_without_audio_4k", "0.40"),
    ("duration_seconds_without_audio_720p", "0.15"),
];

const KLING: &[(&str, &str)] = &[
    ("duration_seconds", "0.084"),
    ("duration_seconds_with_audio", "0.126"),
    ("text_to_video_duration_seconds_720p", "0.084"),
    ("image_to_video_duration_seconds_720p", "0.09"),
];

#[test]
fn the_most_specific_price_counts() {
    for (seconds, resolution, audio, expected) in [
        (8, "1080p", true, 3_200_000),
        (8, "1080p", false, 1_600_000),
        (8, "4K", true, 4_800_000),
        (4, "2160p", false, 1_600_000),
        (4, "720p", false, 600_000),
        (4, "720p", true, 1_600_000),
    ] {
        assert_eq!(estimate(VEO, &video(seconds, resolution, audio)), Some(expected), "{resolution} {audio}");
    }
    // Of two that say different things, the dearer one.
    assert_eq!(estimate(KLING, &video(8, "720p", true)), Some(1_008_000));
    assert_eq!(estimate(KLING, &video(8, "720p", false)), Some(672_000));
    let from_image =
        VideoRequest { first_frame: "https://a.example/i.png".into(), ..video(8, "720p", false) };
    assert_eq!(estimate(KLING, &from_image), Some(720_000));
}

#[test]
fn open_choices_cost_what_the_dearest_does() {
    let open = VideoRequest { model: "m".into(), prompt: "p".into(), ..VideoRequest::default() };
    assert_eq!(estimate(VEO, &open), Some(4_800_000), "8 s, 4K, with sound");
    let sized = VideoRequest { duration: Some(4), size: "1280x720".into(), ..open.clone() };
    assert_eq!(estimate(VEO, &sized), Some(1_600_000));
    // 4K has no price.
    let some = &[("duration_seconds_720p", "0.1"), ("duration_seconds_1080p", "0.2")];
    assert_eq!(estimate(some, &open), None);
    assert_eq!(estimate(some, &video(8, "1080p", true)), Some(1_600_000));
}

#[test]
fn cents_images_and_the_minimum_count() {
    let runway = &[("cents_per_second_output", "28"), ("minimum_cents_per_generation", "56")];
    assert_eq!(estimate(runway, &video(1, "720p", true)), Some(560_000));
    assert_eq!(estimate(runway, &video(4, "720p", true)), Some(1_120_000));
    let grok = &[("cents_per_video_output_second_720p", "7"), ("cents_per_image_input", "0.2")];
    assert_eq!(estimate(grok, &video(5, "720p", true)), Some(350_000));
    let image = Reference { kind: ReferenceKind::Image.into(), url: "https://a.example/i.png".into() };
    let with_images = VideoRequest { references: vec![image.clone(), image], ..video(5, "720p", true) };
    assert_eq!(estimate(grok, &with_images), Some(354_000));
    let hailuo = &[("duration_seconds", "0.13"), ("reference_images", "0.04")];
    assert_eq!(estimate(hailuo, &with_images), Some(730_000));
}

#[test]
fn tokens_are_counted_from_the_size() {
    let seedance = &[("video_tokens", "0.000007"), ("video_tokens_with_video_input", "0.000004")];
    // 1280 · 720 · 5 · 24 / 1024 = 108,000 tokens.
    let sized = VideoRequest { resolution: String::new(), size: "1280x720".into(), ..video(5, "", true) };
    assert_eq!(estimate(seedance, &sized), Some(756_000));
    // The largest of its resolution; of an aspect ratio, if it is given.
    assert_eq!(estimate(seedance, &video(5, "720p", true)), Some(756_000));
    let narrow = VideoRequest { aspect_ratio: "4:3".into(), ..video(5, "720p", true) };
    assert_eq!(estimate(seedance, &narrow), Some(567_000));
    let unknown = VideoRequest { aspect_ratio: "1:1".into(), ..video(5, "720p", true) };
    assert_eq!(estimate(seedance, &unknown), None, "no size is known to be that");
    let reference = Reference { kind: ReferenceKind::Video.into(), url: "https://a.example/v.mp4".into() };
    let from_video = VideoRequest { references: vec![reference], ..sized };
    assert_eq!(estimate(seedance, &from_video), Some(432_000));
    let by_length = &[("duration_seconds", "0.1"), ("reference_duration_seconds", "0.1")];
    assert_eq!(estimate(by_length, &from_video), None, "the reference has an unknown length");
}

#[test]
fn a_price_that_is_not_understood_leaves_none() {
    for (name, price) in [
        ("per-video-second", "0.5"),
        ("cents_per_megapixel_second_precise", "7.5"),
        ("duration_seconds_with_moonbeam", "0.5"),
        ("duration_seconds_", "0.5"),
        ("duration_secondsp", "0.5"),
        ("video_tokens_99999999p", "0.5"),
        ("duration_seconds_720p", ""),
        ("duration_seconds_720p", "-0.5"),
        ("duration_seconds_720p", "5e-1"),
        ("duration_seconds_720p", "NaN"),
        ("duration_seconds_720p", "1,5"),
        ("duration_seconds_720p", "0.1234567890123456789"),
        ("reference_images", "free"),
    ] {
        let prices = [VEO, &[(name, price)]].concat();
        assert_eq!(estimate(&prices, &video(8, "1080p", true)), None, "{name}: {price}");
        let model = model(&prices);
        assert_eq!(model.prices().and_then(|prices| prices.per_second(&model)), None, "{name}: {price}");
    }
    assert_eq!(estimate(&[], &video(8, "1080p", true)), None);
    assert_eq!(estimate(&[("minimum_cents_per_generation", "56")], &video(8, "1080p", true)), None);
    let free =
        [VEO, &[("cents_per_second_video_continuation", "x"), ("video_tokens_with_video_continuation", "1")]];
    assert_eq!(
        estimate(&free.concat(), &video(8, "1080p", true)),
        Some(3_200_000),
        "no request continues one"
    );
}

#[test]
fn a_second_has_a_range() {
    let range = |prices: &[(&str, &str)]| {
        let model = model(prices);
        model.prices().and_then(|prices| prices.per_second(&model))
    };
    assert_eq!(range(VEO), Some((150_000, 600_000)));
    assert_eq!(range(&[("cents_per_second_output", "12")]), Some((120_000, 120_000)));
    assert_eq!(range(&[("video_tokens_720p", "0.000007")]), Some((113_400, 151_200)));
    assert_eq!(range(&[("video_tokens_480p", "0.000007")]), None, "no size is known to be that");
}

#[test]
fn sums_that_are_too_large_are_none() {
    let huge = "99999999999999999999999999";
    assert_eq!(estimate(&[("duration_seconds", huge)], &video(u32::MAX, "720p", true)), None);
    assert_eq!(
        estimate(&[("duration_seconds", "9223372036854.775807")], &video(1, "720p", true)),
        Some(i64::MAX)
    );
    assert_eq!(estimate(&[("duration_seconds", "9223372036854.775808")], &video(1, "720p", true)), None);
}

proptest! {
    /// Prices of whole micros: the product of two integers.
    #[test]
    fn seconds_cost_their_number_times_the_price(micros in 0_u64..100_000_000, seconds in 1_u32..3600) {
        let price = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let expected = i64::try_from(micros * u64::from(seconds)).unwrap();
        prop_assert_eq!(estimate(&[("duration_seconds", &price)], &video(seconds, "720p", true)), Some(expected));
        let cents = format!("{}.{:04}", micros / 10_000, micros % 10_000);
        prop_assert_eq!(
            estimate(&[("cents_per_second_output", &cents)], &video(seconds, "720p", true)),
            Some(expected)
        );
    }

    /// Tokens, by floating point, within a micro.
    #[test]
    fn tokens_cost_what_floating_point_says(
        tenths in 1_u32..1_000, width in 1_u32..4096, height in 1_u32..4096, seconds in 1_u32..60,
    ) {
        let price = format!("0.{tenths:07}");
        let sized = VideoRequest { size: format!("{width}x{height}"), ..video(seconds, "", true) };
        let got = estimate(&[("video_tokens", &price)], &sized).unwrap();
        let tokens = f64::from(width) * f64::from(height) * f64::from(seconds) * 24.0 / 1024.0;
        let expected = tokens * f64::from(tenths) / 10.0;
        #[expect(clippy::cast_precision_loss, reason = "within a micro")]
        let difference = (got as f64 - expected).abs();
        prop_assert!(difference <= 0.51 + expected * 1e-12, "{} {}", got, expected);
    }

    /// A table by sound and resolution: the entry of both, or else the one of the sound.
    #[test]
    fn a_table_is_looked_up(
        base in prop::array::uniform2(1_i64..1_000_000), tall in prop::option::of(prop::array::uniform2(1_i64..1_000_000)),
        seconds in 1_u32..30, is_tall in any::<bool>(), audio in any::<bool>(),
    ) {
        let price = |micros: i64| format!("0.{micros:06}");
        let mut prices = vec![
            ("duration_seconds_without_audio".to_owned(), price(base[0])),
            ("duration_seconds_with_audio".to_owned(), price(base[1])),
        ];
        if let Some(tall) = tall {
            prices.push(("duration_seconds_without_audio_1080p".to_owned(), price(tall[0])));
            prices.push(("duration_seconds_with_audio_1080p".to_owned(), price(tall[1])));
        }
        let prices: Vec<(&str, &str)> = prices.iter().map(|(name, price)| (name.as_str(), price.as_str())).collect();
        let table = tall.filter(|_| is_tall).unwrap_or(base);
        let resolution = if is_tall { "1080p" } else { "720p" };
        let expected = table[usize::from(audio)] * i64::from(seconds);
        prop_assert_eq!(estimate(&prices, &video(seconds, resolution, audio)), Some(expected));
        // A dearer choice is never estimated lower than it.
        let open = VideoRequest { resolution: String::new(), ..video(seconds, "", audio) };
        prop_assert!(estimate(&prices, &open).unwrap() >= expected);
    }

    #[test]
    fn no_prices_panic(
        prices in prop::collection::btree_map(
            "(text_to_video_|image_to_video_)?(duration_seconds|video_tokens|cents_per_second_output|reference_images|minimum_cents_per_generation)(_with_audio|_720p|_4k|_with_video_input|_x){0,3}",
            r"[0-9]{0,30}\.?[0-9]{0,20}|.{0,5}", 0..6,
        ),
        seconds in any::<u32>(), size in "[0-9]{0,7}x[0-9]{0,7}|.{0,9}", resolution in "[0-9]{0,6}[pkPK]?|.{0,4}",
    ) {
        let model = VideoModel { pricing_skus: prices, ..model(&[]) };
        let request = VideoRequest { size, ..video(seconds, &resolution, true) };
        if let Some(prices) = model.prices() {
            let _ = prices.estimate(&model, &request);
            let _ = prices.per_second(&model);
        }
    }
}
