//! `talaria help`: the help of commands, and the pages about errors.

use crate::{Args, Failure, args::Help};
use clap::CommandFactory as _;
use std::io::{self, Write as _};

/// The pages in docs/errors, sorted by name, from the build script.
static PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/errors.rs"));

/// Similarity, from 0 to 1, from which a name is suggested.
const MIN_SIMILARITY: f64 = 0.8;

const MAX_SUGGESTIONS: usize = 5;

pub(crate) fn run(args: &Help) -> Result<(), Failure> {
    match args.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["error" | "errors"] => Ok(list()?),
        ["error" | "errors", name] => page(name),
        _ => command(&args.words),
    }
}

fn command(words: &[String]) -> Result<(), Failure> {
    let mut command = Args::command();
    let mut known = &command;
    for word in words {
        let Some(next) = known.find_subcommand(word) else {
            let help = "help: talaria --help lists the commands; talaria help error NAME shows an error";
            return Err(match words {
                [_] => Failure::Unknown(format!("there is no command {word}\n  {help}")),
                _ => Failure::Usage(format!("there is no command {}\n  {help}", words.join(" "))),
            });
        };
        known = next;
    }
    // As with the command's own --help, which clap returns as an error.
    let line = ["talaria"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    match command.try_get_matches_from_mut(line) {
        Ok(_) => Ok(()),
        Err(help) => Ok(write!(anstream::stdout(), "{}", help.render().ansi())?),
    }
}

fn list() -> io::Result<()> {
    let width = PAGES.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut out = io::stdout().lock();
    for (name, text) in PAGES {
        writeln!(out, "{name:width$}  {}", title(text))?;
    }
    Ok(())
}

fn title(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("# ")
}

fn page(name: &str) -> Result<(), Failure> {
    // Errors name their page with its path.
    let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".md");
    match PAGES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok(io::stdout().lock().write_all(text.as_bytes())?),
        None => Err(Failure::Unknown(match &similar(name)[..] {
            [] => format!("there is no page about {name}\n  help: talaria help error lists them"),
            near => format!(
                "there is no page about {name}; there is: {}\n  help: talaria help error lists them all",
                near.join(", ")
            ),
        })),
    }
}

/// Similar names, the most similar first.
fn similar(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let likeness = |known: &str| {
        let shares_a_word =
            name.split(['-', ' ', '_']).any(|word| word.len() > 2 && known.split('-').any(|of| of == word));
        strsim::jaro_winkler(&name, known) + if shares_a_word { 1.0 } else { 0.0 }
    };
    let mut found: Vec<_> = PAGES.iter().map(|(known, _)| (likeness(known), *known)).collect();
    found.retain(|(likeness, _)| *likeness >= MIN_SIMILARITY);
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    found.into_iter().take(MAX_SUGGESTIONS).map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_a_title() {
        assert!(PAGES.len() > 30 && PAGES.is_sorted_by_key(|(name, _)| *name));
        for (name, text) in PAGES {
            assert!(text.starts_with("# ") && !title(text).is_empty(), "{name}");
        }
        assert!(!PAGES.iter().any(|(name, _)| *name == "README"));
    }

    #[test]
    fn a_similar_name_is_suggested() {
        assert_eq!(similar("callbak-401")[0], "callback-401");
        assert_eq!(similar("hermes-40l")[0], "hermes-401");
        assert!(similar("nats").iter().all(|name| name.starts_with("nats")));
        assert!(similar("qqqq").is_empty());
    }
}
