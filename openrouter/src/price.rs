//! What a video costs, by a model's `pricing_skus`.
//!
//! A price's name says its unit and when it applies:
//!
//! ```text
//! [text_to_video_|image_to_video_]duration_seconds[_with_audio|_without_audio][_RESOLUTION]    dollars for a second
//! cents_per_second_output[_RESOLUTION], cents_per_video_output_second[_RESOLUTION]              cents for a second
//! video_tokens[_RESOLUTION][_without_audio][_with_video_input]                                  dollars for a token
//! reference_images, cents_per_image_input                                                       for an image that is given
//! minimum_cents_per_generation                                                                  at least
//! ```
//!
//! The list is open, and a price that is not understood could add to the others. So one unknown name leaves a model without an
//! estimate: none is better than a wrong one, because budgets trust it.
//!
//! Where a request leaves something to OpenRouter, such as the resolution, an estimate is for the dearest value. Where several
//! prices apply, the most specific one counts; of those that are equally specific, the dearest. An estimate is not a quote:
//! OpenRouter has charged twice as much.

use crate::models::VideoModel;
use std::collections::BTreeMap;
use talaria_proto::v1::{ReferenceKind, VideoRequest};

const MICROS: u128 = 1_000_000;

/// Frames in a second, and pixels in a token, of models that cost by the token.
const FRAMES: u128 = 24;
const PIXELS: u128 = 1024;

/// The most decimals of a price.
const MOST_DECIMALS: usize = 18;

/// The prices of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prices {
    rates: Vec<Rate>,
    /// For each image.
    images: Vec<Dollars>,
    /// For a reference video, of a length that is not known.
    by_reference_video: bool,
    minimum: Option<Dollars>,
}

/// A price for a second or a token, and when it applies. `None` applies always.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rate {
    unit: Unit,
    price: Dollars,
    from_image: Option<bool>,
    audio: Option<bool>,
    resolution: Option<String>,
    video_input: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Token,
}

/// Dollars: `digits` divided by 10 to the power of `decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dollars {
    digits: u128,
    decimals: u32,
}

impl Dollars {
    /// From decimal digits such as "0.0000107".
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > MOST_DECIMALS {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, decimals: u32::try_from(fraction.len()).ok()? })
    }

    fn from_cents(text: &str) -> Option<Self> {
        let cents = Self::parse(text)?;
        Some(Self { decimals: cents.decimals + 2, ..cents })
    }

    /// Times a fraction, in micros, rounded half up. `None` if it is too large.
    fn times(self, numerator: u128, denominator: u128) -> Option<i64> {
        let above = self.digits.checked_mul(numerator)?.checked_mul(MICROS)?;
        let below = 10_u128.checked_pow(self.decimals)?.checked_mul(denominator)?;
        let doubled = above.checked_mul(2)?.checked_add(below)?;
        i64::try_from(doubled / below.checked_mul(2)?).ok()
    }
}

/// The prices. `None` where there are none, or one is not understood.
pub(crate) fn read(skus: &BTreeMap<String, String>) -> Option<Prices> {
    let mut prices = Prices::default();
    for (name, value) in skus {
        match name.as_str() {
            "minimum_cents_per_generation" => prices.minimum = Some(Dollars::from_cents(value)?),
            "cents_per_image_input" => prices.images.push(Dollars::from_cents(value)?),
            "reference_images" => prices.images.push(Dollars::parse(value)?),
            "reference_duration_seconds" => prices.by_reference_video = true,
            // Of a job that goes on with another one, which no request asks for.
            name if name.ends_with("_video_continuation") => {}
            name => prices.rates.push(rate(name, value)?),
        }
    }
    (!prices.rates.is_empty()).then_some(prices)
}

fn rate(name: &str, value: &str) -> Option<Rate> {
    let (from_image, name) = if let Some(rest) = name.strip_prefix("text_to_video_") {
        (Some(false), rest)
    } else if let Some(rest) = name.strip_prefix("image_to_video_") {
        (Some(true), rest)
    } else {
        (None, name)
    };
    let (unit, price, mut rest) = if let Some(rest) = name.strip_prefix("duration_seconds") {
        (Unit::Second, Dollars::parse(value)?, rest)
    } else if let Some(rest) = name.strip_prefix("video_tokens") {
        (Unit::Token, Dollars::parse(value)?, rest)
    } else {
        let second = ["cents_per_second_output", "cents_per_video_output_second"];
        let rest = second.iter().find_map(|start| name.strip_prefix(start))?;
        (Unit::Second, Dollars::from_cents(value)?, rest)
    };
    let mut rate = Rate { unit, price, from_image, audio: None, resolution: None, video_input: None };
    while !rest.is_empty() {
        let strip = |qualifier: &str| {
            let after = rest.strip_prefix(qualifier)?;
            (after.is_empty() || after.starts_with('_')).then_some(after)
        };
        rest = if let Some(after) = strip("_with_audio") {
            rate.audio = Some(true);
            after
        } else if let Some(after) = strip("_without_audio") {
            rate.audio = Some(false);
            after
        } else if let Some(after) = strip("_with_video_input") {
            rate.video_input = Some(true);
            after
        } else if let Some(after) = strip("_without_video_input") {
            rate.video_input = Some(false);
            after
        } else {
            let name = rest.strip_prefix('_')?;
            let (name, after) = name.split_at(name.find('_').unwrap_or(name.len()));
            rate.resolution = Some(resolution(name)?);
            after
        };
    }
    Some(rate)
}

/// The number of lines as a word that is the same for all spellings: "4K" is "2160p". `None` if it is no resolution.
fn resolution(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let number = name.strip_suffix(['p', 'k'])?;
    if number.is_empty() || number.len() > 5 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(if name == "4k" { "2160p".into() } else { name })
}

/// Width and height.
pub(crate) fn size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once(['x', 'X'])?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten().filter(|number| (1..=100_000).contains(number))
    };
    Some((number(width)?, number(height)?))
}

/// The resolution of a size: its shorter side.
fn of_size((width, height): (u32, u32)) -> String {
    format!("{}p", width.min(height))
}

impl Prices {
    /// What a second costs at least and at most, in micros. `None` where a token's part in a second is not known.
    pub(crate) fn per_second(&self, model: &VideoModel) -> Option<(i64, i64)> {
        let mut seconds = Vec::new();
        for rate in &self.rates {
            match rate.unit {
                Unit::Second => seconds.push(rate.price.times(1, 1)?),
                Unit::Token => {
                    let sizes = model.sizes.iter().flatten().filter_map(|text| size(text));
                    let fits = |size: &(u32, u32)| {
                        rate.resolution.as_ref().is_none_or(|resolution| *resolution == of_size(*size))
                    };
                    for (width, height) in sizes.filter(fits) {
                        let pixels = u128::from(width) * u128::from(height);
                        seconds.push(rate.price.times(pixels * FRAMES, PIXELS)?);
                    }
                }
            }
        }
        Some((*seconds.iter().min()?, *seconds.iter().max()?))
    }

    /// What a request costs, in micros. `None` where it cannot be said.
    pub(crate) fn estimate(&self, model: &VideoModel, video: &VideoRequest) -> Option<i64> {
        let given = Given::new(model, video)?;
        if self.by_reference_video && given.videos > 0 {
            return None;
        }
        // The dearest of the values that are left to OpenRouter.
        let mut dearest: Option<i64> = None;
        for choice in &given.choices {
            dearest = dearest.max(Some(self.rate_of(&given, choice)?));
        }
        let mut sum = dearest?;
        for image in &self.images {
            sum = sum.checked_add(image.times(given.images, 1)?)?;
        }
        let minimum = match self.minimum {
            Some(minimum) => minimum.times(1, 1)?,
            None => 0,
        };
        Some(sum.max(minimum))
    }

    /// The dearest of the most specific rates, for all seconds.
    fn rate_of(&self, given: &Given, choice: &Choice) -> Option<i64> {
        let applying: Vec<&Rate> = self.rates.iter().filter(|rate| rate.applies(given, choice)).collect();
        let is_most_specific =
            |rate: &&&Rate| !applying.iter().any(|other| other.is_more_specific_than(rate));
        let mut dearest: Option<i64> = None;
        for rate in applying.iter().filter(is_most_specific) {
            let cost = match rate.unit {
                Unit::Second => rate.price.times(given.seconds, 1)?,
                Unit::Token => rate
                    .price
                    .times(choice.pixels?.checked_mul(given.seconds)?.checked_mul(FRAMES)?, PIXELS)?,
            };
            dearest = dearest.max(Some(cost));
        }
        dearest
    }
}

impl Rate {
    fn applies(&self, given: &Given, choice: &Choice) -> bool {
        self.from_image.is_none_or(|from_image| from_image == (given.images > 0))
            && self.audio.is_none_or(|audio| audio == given.audio)
            && self.video_input.is_none_or(|input| input == (given.videos > 0))
            && self.resolution.as_ref().is_none_or(|name| choice.resolution.as_ref() == Some(name))
    }

    /// Whether it says all that another one says, and more.
    fn is_more_specific_than(&self, other: &Self) -> bool {
        let says = |rate: &Self| {
            [
                rate.from_image.is_some(),
                rate.audio.is_some(),
                rate.resolution.is_some(),
                rate.video_input.is_some(),
            ]
        };
        let (ours, theirs) = (says(self), says(other));
        ours != theirs && ours.iter().zip(theirs).all(|(ours, theirs)| *ours || !theirs)
    }
}

/// What of a request counts for its price.
struct Given {
    seconds: u128,
    audio: bool,
    /// Frames and reference images.
    images: u128,
    /// Reference videos.
    videos: u128,
    /// At least one.
    choices: Vec<Choice>,
}

/// A resolution that the video may have.
#[derive(Debug)]
struct Choice {
    /// `None` if the model names none.
    resolution: Option<String>,
    /// Of a frame; `None` if no size of the model is known to be of this resolution and aspect ratio.
    pixels: Option<u128>,
}

impl Given {
    fn new(model: &VideoModel, video: &VideoRequest) -> Option<Self> {
        let longest = || model.durations.iter().flatten().max().copied();
        let seconds = video.duration.or_else(longest)?.into();
        let of_kind = |kind: ReferenceKind| {
            video.references.iter().filter(|reference| reference.kind() == kind).count() as u128
        };
        let frames = [&video.first_frame, &video.last_frame];
        let frames = frames.iter().filter(|frame| !frame.is_empty()).count() as u128;
        Some(Self {
            seconds,
            audio: video.generate_audio.unwrap_or(model.takes_audio()),
            images: frames + of_kind(ReferenceKind::Image),
            videos: of_kind(ReferenceKind::Video),
            choices: choices(model, video)?,
        })
    }
}

fn choices(model: &VideoModel, video: &VideoRequest) -> Option<Vec<Choice>> {
    let area = |(width, height): (u32, u32)| u128::from(width) * u128::from(height);
    if !video.size.is_empty() {
        let size = size(&video.size)?;
        return Some(vec![Choice { resolution: Some(of_size(size)), pixels: Some(area(size)) }]);
    }
    let names: Vec<&String> = match &video.resolution {
        given if !given.is_empty() => vec![given],
        _ => model.resolutions.iter().flatten().collect(),
    };
    let sizes: Vec<(u32, u32)> = model
        .sizes
        .iter()
        .flatten()
        .filter_map(|text| size(text))
        .filter(|size| video.aspect_ratio.is_empty() || has_aspect(*size, &video.aspect_ratio))
        .collect();
    let choice = |name: &&String| {
        let resolution = resolution(name);
        let of_it = |size: &&(u32, u32)| resolution.as_ref() == Some(&of_size(**size));
        let pixels = sizes.iter().filter(of_it).map(|size| area(*size)).max();
        Choice { resolution, pixels }
    };
    let choices: Vec<Choice> = names.iter().map(choice).collect();
    if choices.is_empty() {
        let pixels = sizes.iter().map(|size| area(*size)).max();
        return Some(vec![Choice { resolution: None, pixels }]);
    }
    Some(choices)
}

/// Whether a size has an aspect ratio, but for the rounding of its sides to a multiple of 16.
fn has_aspect((width, height): (u32, u32), ratio: &str) -> bool {
    let Some((across, down)) = ratio.split_once(':') else { return false };
    let (Ok(across), Ok(down)) = (across.parse::<u32>(), down.parse::<u32>()) else { return false };
    let (ours, theirs) = (u64::from(width) * u64::from(down), u64::from(height) * u64::from(across));
    ours.abs_diff(theirs) * 25 <= theirs
}

#[cfg(test)]
mod tests;
