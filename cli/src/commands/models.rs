//! `talaria models`: the models that make videos, and the values that each one takes.

use crate::{
    Failure,
    args::Models,
    client,
    print::{self, BOLD, Cell, Column, DIM, Screen, one_line},
    select,
};
use std::{
    io::{self, Write},
    path::Path,
};
use talaria_core::money::decimal;
use talaria_proto::v1::{ListModelsRequest, ListModelsResponse, Model};

/// Similarity, from 0 to 1, from which a model is suggested.
const MIN_SIMILARITY: f64 = 0.7;

const COLUMNS: [Column; 6] = [
    Column::new("MODEL").whole(),
    Column::new("SECONDS").rank(1).at_least(8),
    Column::new("RESOLUTIONS").rank(2).at_least(10),
    Column::new("FRAMES").rank(4),
    Column::new("SOUND").rank(3),
    Column::new("PRICE"),
];

pub(crate) async fn run(config: &Path, args: &Models) -> Result<(), Failure> {
    let tenant = select::tenant_name(config, args.tenant.as_deref())?;
    let mut relay = client::jobs(&args.ask, config).await?;
    let mut answer = client::ask(relay.list_models(ListModelsRequest { tenant })).await?;
    if let Some(wanted) = &args.model {
        answer.models = chosen(&answer.models, wanted)?;
    }
    if args.ask.json {
        return Ok(print::json_document(&answer)?);
    }
    warn_if_stale(&answer)?;
    match answer.models.as_slice() {
        [] => Ok(writeln!(anstream::stdout(), "{DIM}No models.{DIM:#}")?),
        [only] if args.model.is_some() => {
            let screen = Screen::stdout(args.wide);
            Ok(print::write_wrapped(&mut anstream::stdout().lock(), screen, |text| show(text, only))?)
        }
        models => Ok(print::table(&COLUMNS, models.iter().map(row).collect(), Screen::stdout(args.wide))?),
    }
}

/// Warns that OpenRouter could not be asked again.
fn warn_if_stale(answer: &ListModelsResponse) -> io::Result<()> {
    if answer.stale_because.is_empty() {
        return Ok(());
    }
    let (at, why) = (print::time(answer.fetched_at.as_ref()), one_line(&answer.stale_because));
    print::warn(&format!("the list is of {at}: {why}"))
}

/// The model of this id, or those with this in their ids.
pub(super) fn chosen(models: &[Model], wanted: &str) -> Result<Vec<Model>, Failure> {
    if let Some(exact) = models.iter().find(|model| model.id == wanted) {
        return Ok(vec![exact.clone()]);
    }
    let lower = wanted.to_lowercase();
    let found: Vec<_> =
        models.iter().filter(|model| model.id.to_lowercase().contains(&lower)).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let likeness = |model: &Model| {
        let name = model.id.rsplit('/').next().unwrap_or(&model.id);
        strsim::jaro_winkler(&lower, &model.id).max(strsim::jaro_winkler(&lower, name))
    };
    let near = models
        .iter()
        .map(|model| (likeness(model), &model.id))
        .filter(|(likeness, _)| *likeness >= MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let near = near.map_or(String::new(), |(_, id)| format!("; there is {}", one_line(id)));
    Err(Failure::Unknown(format!(
        "OpenRouter has no video model {}{near}\n  help: talaria models lists all",
        one_line(wanted)
    )))
}

fn row(model: &Model) -> Vec<Cell> {
    let frames: Vec<_> =
        model.frame_images.iter().map(|frame| frame.strip_suffix("_frame").unwrap_or(frame)).collect();
    vec![
        Cell::from(&model.id),
        Cell::from(or_none(&seconds(&model.durations))),
        Cell::from(or_none(&model.resolutions.join(" "))),
        Cell::from(or_none(&frames.join(" "))),
        Cell::from(if model.audio { "yes" } else { "-" }),
        Cell::from(per_second(model)),
    ]
}

/// Every value, a line each.
fn show(out: &mut impl Write, model: &Model) -> io::Result<()> {
    writeln!(out, "{BOLD}{}{BOLD:#}  {}", one_line(&model.id), one_line(&model.name))?;
    let yes = |is: bool, options: &str| if is { format!("yes: {options}") } else { String::new() };
    for (name, value) in [
        ("seconds", seconds(&model.durations)),
        ("resolutions", model.resolutions.join(", ")),
        ("aspect ratios", model.aspect_ratios.join(", ")),
        ("sizes", model.sizes.join(", ")),
        ("frames", model.frame_images.join(", ")),
        ("sound", yes(model.audio, "--audio, --no-audio")),
        ("seed", yes(model.seed, "--seed")),
        ("upscales", yes(model.upscales, "--upscale-factor, --creativity")),
        ("provider options", model.passthrough.join(", ")),
        ("price", per_second(model)),
    ] {
        writeln!(out, "  {name:<16}  {}", one_line(&or_none(&value)))?;
    }
    Ok(())
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// "4, 6, 8", "4–15": three numbers or more in a row are a range.
pub(super) fn seconds(durations: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for second in durations {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*second) => *last = *second,
            _ => runs.push((*second, *second)),
        }
    }
    let text = |(first, last): (u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}–{last}"),
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// "0.20–0.40 $/s"; "-" for a price that is not understood.
pub(super) fn per_second(model: &Model) -> String {
    let price = |micros: i64| decimal(micros.unsigned_abs());
    match (model.second_micros_from, model.second_micros_to) {
        (Some(from), Some(to)) if from != to => format!("{}–{} $/s", price(from), price(to)),
        (Some(only), _) | (None, Some(only)) => format!("{} $/s", price(only)),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(id: &str) -> Model {
        Model {
            id: id.into(),
            name: "A name".into(),
            durations: vec![4, 6, 8],
            resolutions: vec!["720p".into(), "4K".into()],
            frame_images: vec!["first_frame".into(), "last_frame".into()],
            audio: true,
            second_micros_from: Some(200_000),
            second_micros_to: Some(400_000),
            ..Model::default()
        }
    }

    #[test]
    fn numbers_in_a_row_are_a_range() {
        for (durations, text) in [
            (&[][..], ""),
            (&[5], "5"),
            (&[5, 6], "5, 6"),
            (&[4, 6, 8], "4, 6, 8"),
            (&[4, 5, 6, 7, 10], "4–7, 10"),
            (&[u32::MAX], "4294967295"),
        ] {
            assert_eq!(seconds(durations), text);
        }
    }

    #[test]
    fn a_model_is_chosen_by_its_id_or_a_part_of_it() {
        let models = ["google/veo-3.1", "google/veo-3.1-lite", "kling/v2"].map(model);
        let ids = |wanted: &str| {
            chosen(&models, wanted)
                .map(|found| found.into_iter().map(|model| model.id).collect::<Vec<_>>())
                .map_err(|failure| (failure.code(), failure.to_string()))
        };
        assert_eq!(ids("google/veo-3.1").unwrap(), ["google/veo-3.1"], "and not the other one too");
        assert_eq!(ids("Veo").unwrap(), ["google/veo-3.1", "google/veo-3.1-lite"]);
        let (code, text) = ids("goggle/veo-3.1").unwrap_err();
        assert!(code == 4 && text.contains("; there is google/veo-3.1\n"), "{text}");
        assert!(!ids("zzz").unwrap_err().1.contains("there is"));
    }

    #[test]
    fn a_price_is_an_amount_or_a_range() {
        let price = |from, to| {
            per_second(&Model { second_micros_from: from, second_micros_to: to, ..Model::default() })
        };
        assert_eq!(price(Some(200_000), Some(400_000)), "0.20–0.40 $/s");
        assert_eq!(price(Some(81_700), Some(81_700)), "0.0817 $/s");
        assert_eq!(price(Some(50_000), None), "0.05 $/s");
        assert_eq!(price(None, None), "-");
    }

    #[test]
    fn a_model_has_a_line_for_each_value() {
        let mut out = anstream::StripStream::new(Vec::new());
        show(&mut out, &model("google/veo-3.1")).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        assert!(text.starts_with("google/veo-3.1  A name\n  seconds           4, 6, 8\n"), "{text}");
        assert!(
            text.contains("  sound             yes: --audio, --no-audio\n  seed              -\n"),
            "{text}"
        );
        assert!(text.ends_with("  price             0.20–0.40 $/s\n"), "{text}");
        assert_eq!(text.lines().count(), 11);
    }
}
