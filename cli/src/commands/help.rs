//! `talaria help`: a command's help, and the pages about errors, which are in the binary.

use crate::{Args, Failure, args::Help};
use clap::CommandFactory as _;
use std::io::{self, Write as _};

/// The pages in docs/errors, by name and in its order: made by the build script.
static PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/errors.rs"));

/// How alike a name is that may have been meant, from 0 to 1.
const NEAR: f64 = 0.8;

/// The most names that are offered.
const MOST: usize = 5;

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
    // The same as the command's own --help, which is told as an error.
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
    // As it is written where an error names its page.
    let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".md");
    match PAGES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok(io::stdout().lock().write_all(text.as_bytes())?),
        None => Err(Failure::Unknown(match &near(name)[..] {
            [] => format!("there is no page about {name}\n  help: talaria help error lists them"),
            near => format!(
                "there is no page about {name}; there is: {}\n  help: talaria help error lists them all",
                near.join(", ")
            ),
        })),
    }
}

/// The names that may have been meant, the likeliest first.
fn near(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let likeness = |known: &str| {
        let shares_a_word =
            name.split(['-', ' ', '_']).any(|word| word.len() > 2 && known.split('-').any(|of| of == word));
        strsim::jaro_winkler(&name, known) + if shares_a_word { 1.0 } else { 0.0 }
    };
    let mut found: Vec<_> = PAGES.iter().map(|(known, _)| (likeness(known), *known)).collect();
    found.retain(|(likeness, _)| *likeness >= NEAR);
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    found.into_iter().take(MOST).map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_there_with_its_title() {
        assert!(PAGES.len() > 30 && PAGES.is_sorted_by_key(|(name, _)| *name));
        for (name, text) in PAGES {
            assert!(text.starts_with("# ") && !title(text).is_empty(), "{name}");
        }
        assert!(!PAGES.iter().any(|(name, _)| *name == "README"));
    }

    #[test]
    fn a_name_that_is_nearly_one_finds_it() {
        assert_eq!(near("callbak-401")[0], "callback-401");
        assert_eq!(near("hermes-40l")[0], "hermes-401");
        assert!(near("nats").iter().all(|name| name.starts_with("nats")));
        assert!(near("qqqq").is_empty());
    }
}
