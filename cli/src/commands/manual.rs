//! `talaria completions` and `talaria man`: from the definition of the command line itself.

use crate::{
    Args, Failure,
    args::{Completions, Man},
};
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::{
    fs,
    io::{self, Write as _},
};

pub(crate) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "talaria", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

pub(crate) fn pages(args: &Man) -> Result<(), Failure> {
    let write = || -> io::Result<usize> {
        fs::create_dir_all(&args.directory)?;
        let mut command = Args::command();
        // So that each page has its whole name and the options of all.
        command.build();
        clap_mangen::generate_to(command.clone(), &args.directory)?;
        Ok(1 + command.get_subcommands().count())
    };
    let count = write().with_context(|| format!("cannot write in {}", args.directory.display()))?;
    Ok(writeln!(io::stdout().lock(), "Wrote {count} pages into {}.", args.directory.display())?)
}
