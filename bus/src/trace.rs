//! The trace that an event belongs to, from OpenRouter's request to Hermes'.
//!
//! A trace goes along as a W3C `traceparent`: in HTTP's headers, in the event, and so over every bus. Source: W3C Trace
//! Context, section 3.2: `00-<32 hex: trace>-<16 hex: parent>-<2 hex: flags>`, in lower case, and neither id all zeros.
//!
//! Where no traces are collected, spans record nothing and the parent is passed on unchanged.

use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedSpan, BoxedTracer},
    trace::{
        Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, Tracer as _,
    },
};
use std::time::SystemTime;

pub use opentelemetry::trace::SpanKind as Kind;

/// The header.
pub const HEADER: &str = "traceparent";

/// Begins spans.
#[derive(Debug)]
pub struct Tracer(BoxedTracer);

impl Default for Tracer {
    /// As the process collects them by now.
    fn default() -> Self {
        Self(global::tracer("talaria"))
    }
}

impl Tracer {
    /// Begins a span below a `traceparent`; a trace of its own where that is none.
    pub fn span(&self, name: &'static str, kind: SpanKind, parent: &str, start: SystemTime) -> Span {
        let builder = self.0.span_builder(name).with_kind(kind).with_start_time(start);
        let parent = match read(parent) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        Span(self.0.build_with_context(builder, &parent))
    }
}

/// A piece of work. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(BoxedSpan);

impl Span {
    /// What goes along, so that what follows belongs below this span; `None` where there is no trace.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.0.span_context();
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        context.is_valid().then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags))
    }

    /// Adds attributes, if the span is exported.
    pub fn say(&mut self, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if self.0.is_recording() {
            self.0.set_attributes(attributes());
        }
    }

    /// It failed, in a word out of a small set.
    pub fn fail(&mut self, what: &'static str) {
        if self.0.is_recording() {
            self.0.set_attribute(KeyValue::new("error.type", what));
            self.0.set_status(Status::error(what));
        }
    }
}

/// A `traceparent` that begins nowhere.
pub fn invented(trace: u128, parent: u64) -> String {
    format!("00-{:032x}-{:016x}-00", trace.max(1), parent.max(1))
}

/// The trace's id.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    read(traceparent).and_then(|_| traceparent.get(3..35))
}

fn read(traceparent: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let ["00", trace, parent, flags] = parts.as_slice() else { return None };
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !(hex(trace, 32) && hex(parent, 16) && hex(flags, 2)) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(parent).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn passed_on(parent: &str) -> Option<String> {
        Tracer::default().span("test", SpanKind::Server, parent, SystemTime::now()).traceparent()
    }

    #[test]
    fn a_valid_trace_goes_on_though_nobody_collects_it() {
        assert_eq!(passed_on(THEIRS).as_deref(), Some(THEIRS));
        assert_eq!(trace_id(THEIRS), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn what_is_no_trace_is_none() {
        let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let nobody = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for header in ["", "x", &THEIRS[1..], &zeros, &nobody, &THEIRS.to_uppercase(), "00-é-1-2"] {
            assert_eq!((passed_on(header), trace_id(header)), (None, None), "{header:?}");
        }
    }

    #[test]
    fn an_invented_trace_is_valid() {
        assert_eq!(invented(5, 0), "00-00000000000000000000000000000005-0000000000000001-00");
        assert!(read(&invented(0, 7)).is_some());
    }
}
