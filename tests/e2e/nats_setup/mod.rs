//! The setup of NATS as in `docs/nats.md`: names, permissions and faults.
//!
//! - [`users`]: users by key, which `talaria secrets --nats-users` makes. [`bundled`]: the configurations of compose, of the Helm chart
//!   and of the values for NATS' own chart, with these users.
//! - [`credentials`]: users that show a JWT, and files that are not good or not good any more.
//! - [`set_up`]: streams that are missing, that are out of date, and that are something else.
//! - [`connecting`]: servers that are missing, foreign or insufficient.
//! - [`limits`]: a stream that is full, repeats, messages that are too large.
//! - [`permissions`]: the users of the page, and their limits.
//! - [`questions`]: what relays ask ingresses, with these users.
//! - [`page`]: the page names everything on the server.
//! - [`process`]: `talaria ingress` and `talaria relay` as processes of their own.

mod bundled;
mod connecting;
mod credentials;
mod limits;
mod page;
mod permissions;
mod process;
mod questions;
mod set_up;
mod users;

use async_nats::jetstream::{self, Context, stream};
use talaria_tests::stack::{Builder, stack};

/// A name that no other test has.
fn prefix(what: &str) -> String {
    format!("{what}-{:016x}", rand::random::<u64>())
}

/// A configuration with these keys under `bus.nats`, a line each.
fn on_nats(url: &str, keys: &str) -> Builder {
    let keys: String = keys.lines().map(|line| format!("\n    {}", line.trim())).collect();
    stack().with(&format!("bus:\n  nats:\n    servers: [\"{url}\"]{keys}"))
}

async fn jetstream(url: &str) -> Context {
    jetstream::new(async_nats::connect(url).await.unwrap())
}

/// The streams of a prefix, by name.
fn streams(prefix: &str) -> [String; 2] {
    [format!("{prefix}-events"), format!("{prefix}-journal")]
}

async fn config(jetstream: &Context, stream: &str) -> stream::Config {
    jetstream
        .get_stream(stream)
        .await
        .unwrap_or_else(|error| panic!("{stream}: {error}"))
        .cached_info()
        .config
        .clone()
}

async fn state(jetstream: &Context, stream: &str) -> stream::State {
    jetstream.get_stream(stream).await.unwrap().cached_info().state.clone()
}
