//! `talaria relay`: forwards events, without an ingress.

use crate::{
    Failure,
    args::Relay,
    reload::{Overrides, Source},
    service,
};
use std::path::{self, Path};
use talaria_core::config::Role;

pub(crate) async fn run(config: &Path, args: Relay) -> Result<(), Failure> {
    let data_dir = args.data_dir.map(path::absolute).transpose()?;
    let overrides = Overrides { grpc: args.grpc, admin: args.admin, data_dir, ..Overrides::default() };
    service::run(Source { overrides, ..Source::new(config, Role::Relay) }).await
}
