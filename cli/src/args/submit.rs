//! The arguments of `talaria submit`.

use super::{Ask, control::duration, of_job::OfJob, path::path};
use clap::Args;
use std::{path::PathBuf, time::Duration};
use talaria_proto::v1::ReferenceKind;

/// `talaria submit`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  talaria submit --model google/veo-3.1 'a lighthouse at dusk'
  talaria submit --model google/veo-3.1 --duration 8 --prompt-file prompt.txt --wait
  talaria submit --model google/veo-3.1 --first-frame lighthouse.png 'the light turns' --wait=10min
  talaria submit --model google/veo-3.1 'a storm' --context chat_id=-100123 --route video

A job costs money. The request id makes it certain that a request makes one job at most: where the answer is lost, ask again with \
the same --request-id. Values are compared with the model's before anything is sent: talaria models MODEL.

Without --wait the exit code is 0 once OpenRouter has the job, 5 if it may have it or could not be asked now, and otherwise 1. \
With --wait it is 0 for a \
COMPLETED job, 5 if its end is not known in time, and otherwise 1. Ctrl-C ends the command and not the job.")]
pub struct Submit {
    /// The prompt, or - for standard input; some models work from an image alone
    #[arg(conflicts_with = "prompt_file")]
    pub prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub prompt_file: Option<PathBuf>,
    /// The model's id, such as google/veo-3.1
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// The length in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<u32>,
    /// Such as 720p or 1080p
    #[arg(long, value_name = "RESOLUTION", conflicts_with = "size")]
    pub resolution: Option<String>,
    /// Such as 16:9
    #[arg(long, value_name = "RATIO", conflicts_with = "size")]
    pub aspect_ratio: Option<String>,
    /// Width and height, such as 1280x720, instead of resolution and aspect ratio
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub size: Option<String>,
    /// The image to begin with: a URL, or a file
    #[arg(long, value_name = "IMAGE")]
    pub first_frame: Option<String>,
    /// The image to end with: a URL, or a file
    #[arg(long, value_name = "IMAGE")]
    pub last_frame: Option<String>,
    /// A reference: image:, audio: or video:, and a URL; a file for an image, which is meant without a kind. May be repeated
    #[arg(long, value_name = "[KIND:]URL", value_parser = reference)]
    pub reference: Vec<Reference>,
    /// With sound
    #[arg(long, conflicts_with = "no_audio")]
    pub audio: bool,
    /// Without sound
    #[arg(long)]
    pub no_audio: bool,
    /// The seed, for a result that can be repeated
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub seed: Option<i64>,
    /// Options for the model's provider: a JSON object, or @ and a file with it
    #[arg(long, value_name = "JSON|@FILE")]
    pub provider_options: Option<String>,
    /// For upscalers: how many times larger
    #[arg(long, value_name = "NUMBER")]
    pub upscale_factor: Option<f64>,
    /// For upscalers: how much is made up
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub creativity: Option<i32>,
    #[command(flatten)]
    pub of: OfJob,
    /// The request's id: the same one twice is the same job. A random one where it is left out, which is printed
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Submit it also if its cost cannot be estimated and the tenant has a budget
    #[arg(long)]
    pub without_estimate: bool,
    /// Wait for its end, at most this long; a day where no time is given
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1d", value_parser = duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub ask: Ask,
}

/// A reference, with its URL or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The kind.
    pub kind: ReferenceKind,
    /// A URL, or for an image a file.
    pub location: String,
}

/// "8" or "8s".
fn seconds(text: &str) -> Result<u32, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "expected whole seconds, such as 8".to_owned())
}

fn reference(text: &str) -> Result<Reference, String> {
    let kinds = [
        ("image:", ReferenceKind::Image),
        ("audio:", ReferenceKind::Audio),
        ("video:", ReferenceKind::Video),
    ];
    let named = kinds.iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, *kind)));
    let (location, kind) = named.unwrap_or((text, ReferenceKind::Image));
    if location.is_empty() {
        return Err("expected a URL, such as https://example.com/cat.png, or the file of an image".to_owned());
    }
    Ok(Reference { kind, location: location.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;

    fn parse(arguments: &[&str]) -> Result<Submit, clap::Error> {
        let line = [&["talaria", "submit", "--model", "m"], arguments].concat();
        Args::try_parse_from(line).map(|args| match args.command {
            Command::Submit(submit) => *submit,
            _ => panic!(),
        })
    }

    #[test]
    fn a_reference_has_a_kind_or_is_an_image() {
        let read = |text: &str| reference(text).map(|it| (it.kind, it.location)).ok();
        let is = |kind, location: &str| Some((kind, location.to_owned()));
        assert_eq!(read("cat.png"), is(ReferenceKind::Image, "cat.png"));
        assert_eq!(read("image:cat.png"), is(ReferenceKind::Image, "cat.png"));
        assert_eq!(read("audio:https://h/a.mp3"), is(ReferenceKind::Audio, "https://h/a.mp3"));
        assert_eq!(read("video:https://h/v.mp4"), is(ReferenceKind::Video, "https://h/v.mp4"));
        assert_eq!(read("https://h/cat.png"), is(ReferenceKind::Image, "https://h/cat.png"));
        assert_eq!(read("audio:"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_job_has_one_prompt_one_size_and_sound_or_none() {
        for wrong in [
            &["p", "--prompt-file", "f"][..],
            &["p", "--size", "1x1", "--resolution", "720p"],
            &["p", "--audio", "--no-audio"],
            &["p", "--duration", "0"],
            &["p", "--duration", "8.5"],
            &["p", "--context", "chat"],
            &["p", "q"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let submit = parse(&["-", "--duration", "8s", "--seed", "-1", "--context", "a=b"]).unwrap();
        assert_eq!((submit.prompt.as_deref(), submit.duration, submit.seed), (Some("-"), Some(8), Some(-1)));
        assert!(parse(&[]).unwrap().prompt.is_none(), "some models work from an image alone");
        assert!(Args::try_parse_from(["talaria", "submit", "p"]).is_err(), "which model?");
    }

    #[test]
    fn a_wait_may_have_an_end() {
        assert_eq!(parse(&["p"]).unwrap().wait, None);
        let day = parse(&["--wait", "p"]).unwrap();
        assert_eq!((day.wait, day.prompt.as_deref()), (Some(Duration::from_secs(86_400)), Some("p")));
        assert_eq!(parse(&["p", "--wait=10min"]).unwrap().wait, Some(Duration::from_secs(600)));
        assert!(parse(&["p", "--wait=soon"]).is_err());
    }
}
