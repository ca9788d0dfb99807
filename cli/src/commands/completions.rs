//! `talaria completions`: a shell's completion script, from the definition of the command line.

use crate::{Args, Failure, args::Completions};
use clap::CommandFactory as _;
use std::io::{self, Write as _};

pub(crate) fn run(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "talaria", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}
