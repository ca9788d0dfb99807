//! Configurations that change while a process runs.
//!
//! - [`files`]: every way in which files come to say something else.
//! - [`routes`]: what becomes of what waits and of what is under way.
//! - [`running`]: `talaria check --running`, and what needs a restart.
//! - [`load`]: nothing is dropped meanwhile.

mod files;
mod load;
mod routes;
mod running;
