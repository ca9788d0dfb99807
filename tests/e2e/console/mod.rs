//! The console's pages, in a real browser. `make test-browser` runs these, and `make screenshots` keeps images of the pages.
//!
//! - [`setup`]: a process with something on each page.
//! - [`pages`]: what each page shows. [`actions`]: what its buttons do. [`live`]: news. [`keyboard`]: keys.
//! - [`looks`]: accessibility, dark and narrow, by axe.
//! - [`plain`]: without scripts.
//! - [`hostile`]: texts that try to break pages.
//! - [`safe`]: tokens, sessions, other sites, headers.
//! - [`outages`]: while NATS or a relay is gone.
//! - [`many`]: with very many deliveries.

mod actions;
mod hostile;
mod keyboard;
mod live;
mod looks;
mod many;
mod outages;
mod pages;
mod plain;
mod safe;
mod setup;
