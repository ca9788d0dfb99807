//! Errors of a relay about a request, in the words of the command line.
//!
//! A relay names the fields of the gRPC request, such as `aspect_ratio`. Who typed `--aspect-ratio` knows no fields.

use std::error::Error as _;
use tonic::Status;

/// The fields with their options.
const OPTIONS: [(&str, &str); 18] = [
    ("model", "--model"),
    ("duration", "--duration"),
    ("resolution", "--resolution"),
    ("aspect_ratio", "--aspect-ratio"),
    ("size", "--size"),
    ("first_frame", "--first-frame"),
    ("last_frame", "--last-frame"),
    ("reference", "--reference"),
    ("generate_audio", "--audio"),
    ("seed", "--seed"),
    ("provider_options", "--provider-options"),
    ("upscale_factor", "--upscale-factor"),
    ("creativity", "--creativity"),
    ("context", "--context"),
    ("request_id", "--request-id"),
    ("without_estimate", "--without-estimate"),
    ("openrouter_id", "OPENROUTER_ID"),
    ("requested_by", "--as"),
];

/// A relay's status in these words. A broken connection names no fields.
pub(crate) fn translated(status: Status) -> Status {
    match status.source() {
        None => Status::new(status.code(), with_options(status.message())),
        Some(_) => status,
    }
}

/// The message with options instead of fields. A name with an underscore is a field wherever it stands outside quotes; a plain
/// word is one at the beginning alone, where a message names its subject.
fn with_options(message: &str) -> String {
    let mut text = String::new();
    // Values of the request are in quotes.
    for (index, part) in message.split('"').enumerate() {
        if index > 0 {
            text.push('"');
        }
        if index % 2 == 1 {
            text.push_str(part);
            continue;
        }
        for piece in part.split_inclusive(|c: char| !is_name(c)) {
            let word = piece.trim_end_matches(|c: char| !is_name(c) || c == '.');
            let known = OPTIONS.iter().find(|(field, _)| *field == word);
            match known.filter(|_| word.contains('_') || text.is_empty()) {
                Some((_, option)) => {
                    text.push_str(option);
                    text.push_str(piece.get(word.len()..).unwrap_or_default());
                }
                None => text.push_str(piece),
            }
        }
    }
    text
}

/// Of a field's name, or of one that only contains it, such as `openrouter.poll` or `a/first_frame`.
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::CommandFactory as _;
    use prost::Name as _;
    use prost_reflect::DescriptorPool;
    use std::collections::BTreeSet;
    use talaria_proto::{
        FILE_DESCRIPTOR_SET,
        v1::{SubmitJobRequest, TrackJobRequest, VideoRequest},
    };

    #[test]
    fn fields_are_named_as_they_were_typed() {
        for (said, shown) in [
            (
                "duration is 5, and google/veo-3.1 takes 4, 6, 8; write one of these, or take another model",
                "--duration is 5, and google/veo-3.1 takes 4, 6, 8; write one of these, or take another model",
            ),
            ("aspect_ratio is \"1:1\", and m takes 16:9", "--aspect-ratio is \"1:1\", and m takes 16:9"),
            ("m has no generate_audio; leave it out", "m has no --audio; leave it out"),
            ("m takes no first_frame, only last_frame", "m takes no --first-frame, only --last-frame"),
            ("reference 2 is no https URL", "--reference 2 is no https URL"),
            ("submit it with `without_estimate` if it may", "submit it with `--without-estimate` if it may"),
            ("resolution is \"last_frame\", and", "--resolution is \"last_frame\", and"),
            ("request_id has 1 to 128 characters", "--request-id has 1 to 128 characters"),
            ("it ends with first_frame.", "it ends with --first-frame."),
            // These are no fields.
            ("m has no seed; leave it out", "m has no seed; leave it out"),
            ("the context of a model", "the context of a model"),
            ("openrouter.first_frame and x/last_frame stay", "openrouter.first_frame and x/last_frame stay"),
            ("context.chat_id has 1025 bytes", "context.chat_id has 1025 bytes"),
            ("", ""),
        ] {
            assert_eq!(with_options(said), shown);
        }
    }

    #[test]
    fn every_field_has_an_option_and_every_option_is_there() {
        let contracts = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
        let fields = |name: String| {
            let message = contracts.get_message_by_name(&name).unwrap();
            message.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>()
        };
        let messages =
            [SubmitJobRequest::full_name(), TrackJobRequest::full_name(), VideoRequest::full_name()];
        let fields: BTreeSet<String> = messages.into_iter().flat_map(fields).collect();
        // What the command line calls the same, or has no option for.
        for same in ["prompt", "tenant", "route", "video", "references"] {
            assert!(fields.contains(same), "{same}");
        }
        let named = |field: &str| OPTIONS.iter().any(|(name, _)| *name == field);
        for field in &fields {
            let same = ["prompt", "tenant", "route", "video", "references"].contains(&field.as_str());
            assert!(named(field) != same, "{field}");
        }
        let command = Args::command();
        let submit = command.find_subcommand("submit").unwrap();
        let options: Vec<String> =
            submit.get_arguments().filter_map(|it| Some(format!("--{}", it.get_long()?))).collect();
        for (field, option) in OPTIONS {
            assert!(option == "OPENROUTER_ID" || options.iter().any(|it| it == option), "{field}: {option}");
        }
    }
}
