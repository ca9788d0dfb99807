//! Why a request has no estimate, and which option gives it one.

use crate::{args::Submit, client::JobClient, print::one_line};
use talaria_proto::v1::{ListModelsRequest, Model};
use tonic::{Code, Status};

/// Whether a request was refused because a budget needs an estimate, and there is none.
pub(super) fn is_missing(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && status.message().contains("without_estimate")
}

/// What to add to the command line, if anything makes the cost known.
pub(super) async fn advice(relay: &mut JobClient, tenant: &str, args: &Submit) -> Option<String> {
    let request = ListModelsRequest { tenant: tenant.to_owned() };
    let models = relay.list_models(request).await.ok()?.into_inner().models;
    missing(models.iter().find(|model| model.id == args.model)?, args)
}

/// A model whose price for a second is known is priced by the length, and some also by the size of the frames.
fn missing(model: &Model, args: &Submit) -> Option<String> {
    model.second_micros_from?;
    if args.duration.is_none() && model.durations.is_empty() {
        return Some("--duration makes the cost known, which depends on the length".to_owned());
    }
    if args.size.is_some() || model.sizes.is_empty() {
        return None;
    }
    let sizes = one_line(&model.sizes.join(", "));
    Some(format!(
        "--size, instead of --resolution and --aspect-ratio, makes the cost known, which depends on the size: {sizes}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    #[test]
    fn the_length_and_the_size_may_be_missing() {
        let given = |more: &[&str]| {
            let line = [&["talaria", "submit", "--model", "m", "p"], more].concat();
            match Args::try_parse_from(line).unwrap().command {
                Command::Submit(submit) => *submit,
                _ => panic!(),
            }
        };
        let model = Model {
            second_micros_from: Some(68_040),
            durations: vec![4, 5],
            sizes: vec!["864x480".into(), "1280x720".into()],
            ..Model::default()
        };
        let advice = missing(&model, &given(&[])).unwrap();
        assert!(advice.starts_with("--size, ") && advice.ends_with(": 864x480, 1280x720"), "{advice}");
        assert_eq!(missing(&model, &given(&["--size", "864x480"])), None);
        let any_length = Model { durations: vec![], ..model.clone() };
        assert!(missing(&any_length, &given(&[])).unwrap().starts_with("--duration "));
        assert!(missing(&any_length, &given(&["--duration", "5"])).unwrap().starts_with("--size, "));
        let not_understood = Model { second_micros_from: None, ..model };
        assert_eq!(missing(&not_understood, &given(&[])), None, "no option helps");
    }
}
