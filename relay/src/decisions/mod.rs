//! Decisions: pure functions, with time and chance as arguments. They know nothing of the other modules.
//!
//! - [`plan`]: the routes that an event goes to.
//! - [`step`]: the step of a delivery before a request and after one, by all modules that follow.
//! - [`admission`], of [`breaker`] and [`pace`]: whether a route's next request may go out, and otherwise when.
//! - [`prepare`] and [`guard`]: the request; [`rotation`]: the secret that signs it.
//! - [`exchange`]: a request and its answer; [`classify`]: the meaning of the answer.
//! - [`evidence`]: the kept part of a request and its answer; [`mask`]: texts without secrets.
//! - [`handshake`]: whether Hermes has a route's secret.
//! - [`retry`]: the time of the next attempt after a failed one.
//! - [`conclude`]: the result of a step, as a status and a record.
//! - [`fold`]: the status of a delivery, from the records about it.
//! - [`explain`]: why an event arrived or did not; [`route_block`]: the reason why a route sends nothing.
//! - [`job`]: the life of a job at OpenRouter.
//! - [`notice`]: notices to a tenant about Talaria's own work.
//! - [`run`]: the reports about the agent's runs.
//! - [`unmatched`]: why no route took an event, without its payload.
//! - [`pause`], [`probe`] and [`replay`]: operators' requests; [`audit`]: who made them, and why.

pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod breaker;
pub(crate) mod classify;
pub(crate) mod conclude;
pub(crate) mod evidence;
pub(crate) mod exchange;
pub(crate) mod explain;
pub(crate) mod fold;
pub(crate) mod guard;
pub(crate) mod handshake;
pub(crate) mod job;
pub(crate) mod mask;
pub(crate) mod notice;
pub(crate) mod pace;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod replay;
pub(crate) mod retry;
pub(crate) mod rotation;
pub(crate) mod route_block;
pub(crate) mod run;
pub(crate) mod step;
pub(crate) mod unmatched;
