//! Configurations that change while a process runs.
//!
//! - [`files`]: every way to change files.
//! - [`routes`]: waiting deliveries and exchanges under way.
//! - [`running`]: `talaria check --running`, and settings that need a restart.
//! - [`load`]: nothing is dropped meanwhile.

mod files;
mod load;
mod routes;
mod running;
