//! The pass of a request that the gate has admitted.

use super::{
    Caller,
    decide::{Transport, identify},
};
use std::{future::pending, sync::Arc};
use talaria_core::{config::Config, token::TokenHash};
use tokio::sync::watch;
use tonic::{Request, Status};

/// The caller, and the credentials to identify it again.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(super) caller: Caller,
    pub(super) token: Option<TokenHash>,
    pub(super) transport: Transport,
    pub(super) config: watch::Receiver<Arc<Config>>,
}

/// The pass of a request. A request that did not come through the gate has none, and is refused.
pub(crate) fn pass<T>(request: &Request<T>) -> Result<Pass, Status> {
    let pass = request.extensions().get().cloned();
    pass.ok_or_else(|| Status::internal("the request was not authenticated"))
}

pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    pass(request).map(|pass| pass.caller)
}

impl Pass {
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns once the caller's credentials are removed or have another meaning.
    pub(crate) async fn revoked(mut self) {
        loop {
            let now = identify(&self.config.borrow_and_update().relay, &self.transport, self.token);
            if now.as_ref() != Ok(&self.caller) {
                return;
            }
            if self.config.changed().await.is_err() {
                // The configuration never changes again.
                pending::<()>().await;
            }
        }
    }
}
