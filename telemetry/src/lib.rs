//! Reports of the services to their operator: spans of a trace, and log lines at a bounded rate.
//!
//! - [`trace`]: spans, and the W3C `traceparent` that ties the services together.
//! - [`LogLimiter`]: bounds how often one line is written.

mod log_limiter;
pub mod trace;

pub use log_limiter::LogLimiter;
