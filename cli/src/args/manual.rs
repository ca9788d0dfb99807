//! The arguments of `talaria help`, `talaria man` and `talaria completions`.

use super::path::path;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// `talaria help`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria help pause
  talaria help error                    the pages about errors, by name
  talaria help error callback-401       its meaning, its causes and its remedy")]
pub struct Help {
    /// A command; or `error`, and the name of a page about one
    #[arg(value_name = "COMMAND")]
    pub words: Vec<String>,
}

/// `talaria man`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria man ~/.local/share/man/man1       then: man talaria-status
  sudo talaria man /usr/local/share/man/man1

Writes talaria.1 and a page for each command, and replaces existing ones.")]
pub struct Man {
    /// The directory to write into, which is created if need be
    #[arg(value_name = "DIR", value_parser = path())]
    pub directory: PathBuf,
}

/// `talaria completions`
#[derive(ClapArgs, Debug)]
#[command(after_help = "\
Examples:
  talaria completions bash > ~/.local/share/bash-completion/completions/talaria
  talaria completions zsh > ~/.zfunc/_talaria             with that directory in fpath
  talaria completions fish > ~/.config/fish/completions/talaria.fish")]
pub struct Completions {
    /// For this shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
