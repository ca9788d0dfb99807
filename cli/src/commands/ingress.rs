//! `talaria ingress`: takes callbacks, without a relay.

use crate::{
    Failure,
    args::Ingress,
    reload::{Overrides, Source},
    service,
};
use std::path::Path;
use talaria_core::config::Role;

pub(crate) async fn run(config: &Path, args: Ingress) -> Result<(), Failure> {
    let overrides = Overrides { ingress: args.listen, admin: args.admin, ..Overrides::default() };
    service::run(Source { overrides, tunnel: args.tunnel, ..Source::new(config, Role::Ingress) }).await
}
