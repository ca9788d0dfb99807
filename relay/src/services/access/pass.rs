//! What a request brings with it once it has come through the gate.

use super::{
    Caller,
    decide::{Wire, identify},
};
use std::{future::pending, sync::Arc};
use talaria_core::{config::Config, token::TokenHash};
use tokio::sync::watch;
use tonic::{Request, Status};

/// Who asks, and by what that is found out again.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(super) caller: Caller,
    pub(super) shown: Option<TokenHash>,
    pub(super) wire: Wire,
    pub(super) config: watch::Receiver<Arc<Config>>,
}

/// What a request brought with it. What did not come through the gate has none, and is not answered.
pub(crate) fn pass<T>(request: &Request<T>) -> Result<Pass, Status> {
    let pass = request.extensions().get().cloned();
    pass.ok_or_else(|| Status::internal("nobody looked who asks"))
}

/// Who asks this.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    pass(request).map(|pass| pass.caller)
}

impl Pass {
    /// Who asks.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns once they are not any more who they were: their token or their authority was removed, or means something
    /// else now.
    pub(crate) async fn revoked(mut self) {
        loop {
            let now = identify(&self.config.borrow_and_update().relay, &self.wire, self.shown);
            if now.as_ref() != Ok(&self.caller) {
                return;
            }
            if self.config.changed().await.is_err() {
                // It will never change again.
                pending::<()>().await;
            }
        }
    }
}
