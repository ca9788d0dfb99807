//! The catalogue of the models that make videos.
//!
//! A member that is missing, null or of another kind counts as missing, so that a change of one model hides no other.

use crate::{
    price::{self, Prices},
    quote::quote,
};
use std::collections::BTreeMap;
use talaria_core::json::{Value, parse};
use talaria_proto::v1::Model;

/// In characters. OpenRouter's ids have a few dozen.
pub(crate) const LONGEST_ID: usize = 200;

/// The most values of a parameter, and the longest of them, that are kept.
const MOST_VALUES: usize = 200;

/// The most models that are named in an error.
const MOST_NAMED: usize = 40;

/// A model. Lists are `None` where OpenRouter names no values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoModel {
    /// Such as "google/veo-3.1".
    pub id: String,
    /// Its permanent id.
    pub canonical_slug: Option<String>,
    /// Its name for people.
    pub name: Option<String>,
    /// Seconds, ascending.
    pub durations: Option<Vec<u32>>,
    /// Such as "720p".
    pub resolutions: Option<Vec<String>>,
    /// Such as "16:9".
    pub aspect_ratios: Option<Vec<String>>,
    /// "WIDTHxHEIGHT".
    pub sizes: Option<Vec<String>>,
    /// "first_frame", "last_frame".
    pub frame_images: Option<Vec<String>>,
    /// The least and the most `upscale_factor`, for upscalers.
    pub upscale_factor: Option<(f64, f64)>,
    /// The values of `creativity`, for upscalers.
    pub creativity: Option<Vec<i32>>,
    /// Whether the model takes `generate_audio`.
    pub generate_audio: Option<bool>,
    /// Whether the model takes `seed`.
    pub seed: Option<bool>,
    /// The options of providers that are passed on.
    pub passthrough: Vec<String>,
    /// The prices by their names.
    pub pricing_skus: BTreeMap<String, String>,
}

/// Reads the catalogue. Entries without an id are left out.
pub fn read(body: &[u8]) -> Result<Vec<VideoModel>, String> {
    let document =
        parse(body).map_err(|error| format!("OpenRouter's list of models is not JSON: {error}"))?;
    let models = document.root().get("data").and_then(Value::as_array);
    let models = models.ok_or("OpenRouter's list of models has no array `data`")?;
    Ok(models.iter().filter_map(VideoModel::read).collect())
}

/// The model of this id, or an error that names the ids.
pub fn find<'a>(models: &'a [VideoModel], id: &str) -> Result<&'a VideoModel, String> {
    let named = |model: &&VideoModel| model.id == id;
    let permanent = |model: &&VideoModel| model.canonical_slug.as_deref() == Some(id);
    models.iter().find(named).or_else(|| models.iter().find(permanent)).ok_or_else(|| {
        let mut ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).take(MOST_NAMED).collect();
        if ids.len() < models.len() {
            ids.push("and others");
        }
        format!(
            "OpenRouter has no video model {:?}; the models are {}",
            quote(id),
            if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
        )
    })
}

impl VideoModel {
    fn read(entry: &Value) -> Option<Self> {
        let id = text(entry.get("id")).filter(|id| is_word(id))?;
        let mut durations = list(entry.get("supported_durations"), |value| {
            integer(value).and_then(|seconds| u32::try_from(seconds).ok())
        });
        if let Some(durations) = &mut durations {
            durations.sort_unstable();
            durations.dedup();
        }
        let texts = |key: &str| list(entry.get(key), |value| text(Some(value)).filter(|text| is_word(text)));
        Some(Self {
            canonical_slug: text(entry.get("canonical_slug")).filter(|id| is_word(id)),
            name: text(entry.get("name")).map(|name| quote(&name)),
            durations,
            resolutions: texts("supported_resolutions"),
            aspect_ratios: texts("supported_aspect_ratios"),
            sizes: texts("supported_sizes"),
            frame_images: texts("supported_frame_images"),
            upscale_factor: entry.get("upscale_factor").and_then(range),
            creativity: list(entry.get("creativity"), |value| {
                integer(value).and_then(|value| i32::try_from(value).ok())
            }),
            generate_audio: flag(entry.get("generate_audio")),
            seed: flag(entry.get("seed")),
            passthrough: texts("allowed_passthrough_parameters").unwrap_or_default(),
            pricing_skus: skus(entry.get("pricing_skus")),
            id,
        })
    }

    pub(crate) fn takes_audio(&self) -> bool {
        self.generate_audio == Some(true)
    }

    pub(crate) fn upscales(&self) -> bool {
        self.upscale_factor.is_some()
    }

    /// `None` where a price is not understood.
    pub(crate) fn prices(&self) -> Option<Prices> {
        price::read(&self.pricing_skus)
    }
}

impl From<&VideoModel> for Model {
    fn from(model: &VideoModel) -> Self {
        let second = model.prices().and_then(|prices| prices.per_second(model));
        let all = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
        Self {
            id: model.id.clone(),
            name: model.name.clone().unwrap_or_else(|| model.id.clone()),
            durations: model.durations.clone().unwrap_or_default(),
            resolutions: all(&model.resolutions),
            aspect_ratios: all(&model.aspect_ratios),
            sizes: all(&model.sizes),
            frame_images: all(&model.frame_images),
            audio: model.takes_audio(),
            seed: model.seed == Some(true),
            passthrough: model.passthrough.clone(),
            second_micros_from: second.map(|(from, _)| from),
            second_micros_to: second.map(|(_, to)| to),
            upscales: model.upscales(),
        }
    }
}

/// Ids and values go into messages and bodies as they are.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

fn flag(value: Option<&Value>) -> Option<bool> {
    match value? {
        Value::Bool(flag) => Some(*flag),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(integer) => integer.as_str().parse().ok(),
        // 5.0 is 5 for a JSON writer without integers.
        Value::Float(float) if float.fract() == 0.0 => format!("{float:.0}").parse().ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(integer) => integer.as_str().parse().ok(),
        Value::Float(float) => Some(*float),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// `None` for null, and for an empty list.
fn list<T>(value: Option<&Value>, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    let values: Vec<T> = value?.as_array()?.iter().take(MOST_VALUES).filter_map(read).collect();
    (!values.is_empty()).then_some(values)
}

fn range(value: &Value) -> Option<(f64, f64)> {
    let (min, max) = (number(value.get("min")?)?, number(value.get("max")?)?);
    (min <= max).then_some((min, max))
}

fn skus(value: Option<&Value>) -> BTreeMap<String, String> {
    let Some(members) = value.and_then(Value::as_object) else { return BTreeMap::new() };
    let price = |value: &Value| match value {
        Value::String(price) => price.as_str().map(str::to_owned),
        Value::Integer(price) => Some(price.as_str().to_owned()),
        // Without an exponent, with the digits that identify it.
        Value::Float(price) => Some(price.to_string()),
        _ => None,
    };
    let members = members.iter().take(MOST_VALUES);
    // A price of another kind is kept as one that is not understood: without it, an estimate would be too low.
    members
        .filter(|(_, value)| !matches!(value, Value::Null))
        .map(|(name, value)| (name.to_str_lossy().into_owned(), price(value).unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = r#"{"data":[
      {"id":"google/veo-3.1","canonical_slug":"google/veo-3.1-20260101","name":"Google: Veo 3.1","created":1719792000,
       "supported_resolutions":["720p","1080p","4K"],"supported_aspect_ratios":["16:9","9:16"],
       "supported_sizes":["1280x720"],"supported_durations":[8,4,6],"supported_frame_images":["first_frame","last_frame"],
       "upscale_factor":null,"creativity":null,"generate_audio":true,"seed":true,
       "allowed_passthrough_parameters":["negativePrompt"],
       "pricing_skus":{"duration_seconds_with_audio":"0.40","duration_seconds_without_audio":"0.20"}},
      {"id":"an/upscaler","upscale_factor":{"min":1,"max":4.0},"creativity":[0,1,2],"supported_durations":null},
      {"id":"new/shape","supported_durations":"any","pricing_skus":[],"seed":"yes"},
      {"name":"without an id"}, 7
    ],"more":true}"#;

    #[test]
    fn the_documented_catalogue_is_read() {
        let models = read(CATALOGUE.as_bytes()).unwrap();
        assert_eq!(
            models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>(),
            ["google/veo-3.1", "an/upscaler", "new/shape"]
        );
        let veo = Model::from(&models[0]);
        assert_eq!(veo.durations, [4, 6, 8]);
        assert!(veo.audio && veo.seed && !veo.upscales);
        assert_eq!((veo.second_micros_from, veo.second_micros_to), (Some(200_000), Some(400_000)));
        assert_eq!(models[1].upscale_factor, Some((1.0, 4.0)));
        assert!(Model::from(&models[1]).upscales);
        let odd = Model::from(&models[2]);
        assert_eq!((odd.name.as_str(), odd.durations.len(), odd.second_micros_from), ("new/shape", 0, None));
    }

    #[test]
    fn a_model_is_found_by_either_id_and_an_error_names_the_ids() {
        let models = read(CATALOGUE.as_bytes()).unwrap();
        assert_eq!(find(&models, "google/veo-3.1-20260101").unwrap().id, "google/veo-3.1");
        assert_eq!(
            find(&models, "veo").unwrap_err(),
            "OpenRouter has no video model \"veo\"; the models are google/veo-3.1, an/upscaler, new/shape"
        );
        assert!(find(&[], "veo").unwrap_err().ends_with("the models are none"));
    }

    #[test]
    fn another_answer_is_an_error() {
        for (body, why) in [
            ("<html>", "OpenRouter's list of models is not JSON: byte 0: expected a JSON value"),
            ("[]", "OpenRouter's list of models has no array `data`"),
            (r#"{"data":{}}"#, "OpenRouter's list of models has no array `data`"),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap_err(), why);
        }
    }
}
