//! A client of OpenRouter's video API. An ingress alone uses it, because ingresses alone have the keys.
//!
//! ```text
//! a request ─▶ check, against its model ─▶ request: the JSON body ─▶ client ─▶ OpenRouter
//!                       └▶ price: the estimate                         │
//!                 submit: was a job made? ◀── answer: what was said ◀──┤
//!                 poll: did it end, and with which event? ◀────────────┘
//! ```
//!
//! - [`client`]: the exchanges, through [`talaria_outbound`], and the files of jobs. The rest are decisions. Those that read
//!   OpenRouter's answers are public, so that they can be fed with any bytes.
//! - [`models`]: the catalogue. [`price`]: what a second costs, and a request. [`mod@check`]: whether a request fits its model.
//! - [`request`]: the body of a submit. [`submit`]: whether a job was made, and when to try again.
//! - [`poll`]: the status of a job, and the payload that its callback would have.
//! - [`answer`]: the forms of OpenRouter's errors. [`quote`]: its texts, shortened and without our secrets.
//!
//! OpenRouter adds statuses, models, parameters and members of answers at any time. So lists are open, every member of an answer
//! may be missing, and nothing that is not understood counts as a refusal.

mod answer;
mod check;
mod client;
mod models;
mod poll;
mod price;
mod quote;
mod request;
mod submit;

pub use check::{check, fit};
pub use client::{CallError, Client, Content, ContentError, is_job_id, known_type};
pub use models::{VideoModel, find, read as read_models};
pub use poll::{Job, Polling, Reading, Terminal, read as read_poll};
pub use quote::Hidden;
pub use submit::{Again, Try, read as read_submit};
