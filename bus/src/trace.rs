//! Spans of the work on a frame, joined to its client's trace (W3C Trace Context).

use cloudpose_wire::{FrameHeader, Stage, TraceParent};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The span of a stage's work on a frame.
pub(crate) fn stage(stage: Stage, header: &FrameHeader) -> Span {
    let name = stage.as_str();
    let (stream, seq) = (&header.stream, header.seq);
    // Of this level, so that no filter of the log but `off` takes it out of the traces.
    let span = tracing::error_span!("work", otel.name = name, stage = name, %stream, seq, trace_id = Empty);
    // What the gateway has decided stands in its flags.
    within(&span, header.trace, TraceState::default());
    span
}

/// The entry of a trace's state that says that a client sent it: whether it is sampled is not for the client to say.
/// It goes no further than to the sampler of the process that reads it.
pub const FROM_CLIENT: &str = "cloudpose-client";

/// Makes `span` part of its client's trace, if that has one, and writes its id into the span's field `trace_id`.
/// Answers the trace to which what is asked of others within `span` belongs: the client's as it is where nobody
/// collects spans.
pub fn join(span: &Span, clients: Option<TraceParent>) -> Option<TraceParent> {
    let state = TraceState::from_key_value([(FROM_CLIENT, "1")]);
    within(span, clients, state.unwrap_or_default())
}

/// Makes `span` part of the trace of `parent`, in whose context there is `state`.
fn within(span: &Span, parent: Option<TraceParent>, state: TraceState) -> Option<TraceParent> {
    if let Some(TraceParent { trace_id, parent_id, flags }) = parent {
        let (trace_id, parent_id) = (TraceId::from(trace_id), SpanId::from(parent_id));
        let caller = SpanContext::new(trace_id, parent_id, TraceFlags::new(flags), true, state);
        if let Err(error) = span.set_parent(Context::new().with_remote_span_context(caller)) {
            tracing::trace!(%error, "the span is in no trace");
        }
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    let within = if own.is_valid() {
        Some(TraceParent {
            trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
            parent_id: u64::from_be_bytes(own.span_id().to_bytes()),
            flags: own.trace_flags().to_u8(),
        })
    } else {
        parent
    };
    if let Some(TraceParent { trace_id, .. }) = within {
        span.record("trace_id", format!("{trace_id:032x}"));
    }
    within
}
