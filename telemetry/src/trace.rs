//! Spans of the trace of an event, from OpenRouter's request to Hermes'.
//!
//! The trace context is a W3C `traceparent`: in HTTP headers, and in the event, so that it crosses the bus. Source: W3C Trace
//! Context, section 3.2: `00-<32 hex: trace>-<16 hex: parent>-<2 hex: flags>`, in lower case, and neither id all zeros.
//!
//! If no traces are collected, spans record nothing and the parent is passed on unchanged.

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

/// The header with the trace context.
pub const HEADER: &str = "traceparent";

/// Starts spans.
#[derive(Debug)]
pub struct Tracer(BoxedTracer);

impl Default for Tracer {
    /// With the process' current collector.
    fn default() -> Self {
        Self(global::tracer("talaria"))
    }
}

impl Tracer {
    /// Starts a span below a `traceparent`, or a new trace if that is invalid.
    pub fn span(&self, name: &'static str, kind: SpanKind, parent: &str, start: SystemTime) -> Span {
        let builder = self.0.span_builder(name).with_kind(kind).with_start_time(start);
        let parent = match read(parent) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        Span(self.0.build_with_context(builder, &parent))
    }
}

/// A span, which ends when it is dropped.
#[derive(Debug)]
pub struct Span(BoxedSpan);

impl Span {
    /// The `traceparent` for spans below this one; `None` if there is no trace.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.0.span_context();
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        context.is_valid().then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags))
    }

    /// Sets attributes, if the span is exported.
    pub fn set_attributes(&mut self, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if self.0.is_recording() {
            self.0.set_attributes(attributes());
        }
    }

    /// Marks the span as failed, with a word out of a small set.
    pub fn fail(&mut self, error: &'static str) {
        if self.0.is_recording() {
            self.0.set_attribute(KeyValue::new("error.type", error));
            self.0.set_status(Status::error(error));
        }
    }
}

/// A `traceparent` without spans, from random numbers.
pub fn unsampled(trace: u128, parent: u64) -> String {
    format!("00-{:032x}-{:016x}-00", trace.max(1), parent.max(1))
}

/// The trace id in a `traceparent`.
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
    fn a_valid_trace_is_passed_on_without_a_collector() {
        assert_eq!(passed_on(THEIRS).as_deref(), Some(THEIRS));
        assert_eq!(trace_id(THEIRS), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn an_invalid_header_has_no_trace() {
        let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let no_parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for header in ["", "x", &THEIRS[1..], &zeros, &no_parent, &THEIRS.to_uppercase(), "00-é-1-2"] {
            assert_eq!((passed_on(header), trace_id(header)), (None, None), "{header:?}");
        }
    }

    #[test]
    fn an_unsampled_trace_is_valid() {
        assert_eq!(unsampled(5, 0), "00-00000000000000000000000000000005-0000000000000001-00");
        assert!(read(&unsampled(0, 7)).is_some());
    }
}
