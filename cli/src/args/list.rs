//! Options of commands that print a list.

use clap::Args as ClapArgs;

/// The page of a list, and its width.
#[derive(ClapArgs, Debug)]
pub struct List {
    /// Entries on a page
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// The page after the one that gave this token; with --json, its nextPageToken
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOKEN")]
    pub page: String,
    /// Show whole ids and every column, however wide the terminal is
    #[arg(long)]
    pub wide: bool,
}
