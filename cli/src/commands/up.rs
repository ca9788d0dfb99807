//! `talaria up`: ingress and relay in one process.

use crate::{Failure, args::Up, reload::Source, service};
use std::path::Path;
use talaria_core::config::Role;

pub(crate) async fn run(config: &Path, args: Up) -> Result<(), Failure> {
    service::run(Source { tunnel: args.tunnel, ..Source::new(config, Role::Both) }).await
}
