//! Pages for browsers, and JSON over HTTP for curl and programs without gRPC: the relay's services, in the relay's process.
//!
//! ```text
//! socket ▶ origin ▶ admit ▶ request ▶ body ▶ json ─┐                    ┌▶ json ▶ answer
//!           403      401     400       400    400  └▶ relay's services ─┴▶ frames: Connect, or server-sent events
//!   │        │       403     405, 415  429                ▲
//!   │        └▶ pages ────────────────────────────────────┤
//!   └▶ runs: signature ▶ body ────────────────────────────┘
//! ```
//!
//! The protocol of the JSON is Connect's (connectrpc.com/docs/protocol). It knows no single method: everything comes from the
//! descriptors of the contracts. Pages know the methods that they show.
//!
//! - [`server`]: the listening loop, and where a request goes.
//! - [`origin`]: whether a browser sent the request for another site. Pure.
//! - [`request`]: the method, the form and the deadline that a request asks for. Pure.
//! - [`call`]: reads a request's message, calls the method through the relay's gate, and answers.
//! - [`json`]: messages from JSON and to JSON. Pure. [`codec`]: the same messages as tonic's client takes them.
//! - [`envelope`]: messages of a Connect stream. Pure. [`stream`]: answers with more than one message.
//! - [`fault`]: errors in Connect's form. Pure.
//! - [`pages`]: the pages, and what their buttons do.
//! - [`runs`]: reports about the agent's runs, which their signature admits.
//! - [`contracts`]: the descriptors. [`openapi`]: the OpenAPI document, made from them. Pure.

mod call;
mod codec;
mod contracts;
mod envelope;
mod fault;
mod json;
mod openapi;
mod origin;
mod pages;
mod request;
mod runs;
mod server;
mod stream;

pub use server::Console;
