//! `talaria man`: the manual pages, from the definition of the command line.

use crate::{Args, Failure, args::Man};
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::{
    fs,
    io::{self, Write as _},
};

pub(crate) fn run(args: &Man) -> Result<(), Failure> {
    let write = || -> io::Result<usize> {
        fs::create_dir_all(&args.directory)?;
        let mut command = Args::command();
        // Gives each page its full name and the global options.
        command.build();
        clap_mangen::generate_to(command.clone(), &args.directory)?;
        Ok(1 + command.get_subcommands().count())
    };
    let count = write().with_context(|| format!("cannot write in {}", args.directory.display()))?;
    Ok(writeln!(io::stdout().lock(), "Wrote {count} pages into {}.", args.directory.display())?)
}
