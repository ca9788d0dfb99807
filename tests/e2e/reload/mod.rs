//! Configurations that change while a process runs.
//!
//! - [`files`]: every way in which files come to say something else.
//! - [`routes`]: waiting deliveries and exchanges under way.
//! - [`running`]: `talaria check --running`, and settings that need a restart.
//! - [`load`]: nothing is dropped meanwhile.

mod files;
mod load;
mod routes;
mod running;
