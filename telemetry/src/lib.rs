//! Reports of the services to their operator: spans of a trace, counters by tenant, and log lines at a bounded rate.
//!
//! - [`trace`]: spans, and the W3C `traceparent` that ties the services together.
//! - [`TenantCounter`]: a metric whose series end with their tenant.
//! - [`LogLimiter`]: bounds how often one line is written.

mod log_limiter;
mod tenant_counter;
pub mod trace;

pub use log_limiter::LogLimiter;
pub use tenant_counter::{OTHER, TenantCounter, UNKNOWN};
