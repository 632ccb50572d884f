//! Headers that make an event a CloudEvent: specification 1.0, binary mode of its binding for NATS. The payload stays as
//! it is.

use std::time::{Duration, UNIX_EPOCH};

use async_nats::HeaderMap;
use cloudpose_wire::{Event, Prefix, Tenant, TraceParent};

/// Adds them to `headers`.
///
/// Source and id name a frame of a stream: if it is worked on twice, both events have the same.
pub(super) fn mark(
    headers: &mut HeaderMap,
    event: &Event,
    prefix: &Prefix,
    tenant: &Tenant,
    trace: Option<TraceParent>,
) {
    let taken = UNIX_EPOCH + Duration::from_millis(event.captured_at);
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-type", format!("cloudpose.{}", event.output.kind()));
    headers.insert("ce-source", format!("/{prefix}/{tenant}/{}", event.stream));
    headers.insert("ce-subject", event.stream.as_str());
    headers.insert("ce-id", format!("{}-{}", event.captured_at, event.seq));
    headers.insert("ce-time", humantime::format_rfc3339_millis(taken).to_string());
    if let Some(trace) = trace {
        headers.insert("ce-traceparent", trace.to_string());
    }
    headers.insert("content-type", "application/json");
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{Output, event::TimingsMs};

    use super::*;

    #[test]
    fn event_is_named_by_its_stream_and_frame() {
        let event = Event {
            stream: "door".parse().unwrap(),
            seq: 7,
            captured_at: 1_795_257_600_123,
            width: 1,
            height: 1,
            model: "fast".parse().unwrap(),
            device: "cpu".into(),
            output: Output::Classes(Vec::new()),
            timings_ms: TimingsMs::default(),
        };
        let trace: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        let mut headers = HeaderMap::new();
        mark(&mut headers, &event, &Prefix::default(), &"acme".parse().unwrap(), Some(trace));
        let mut told: Vec<_> =
            headers.iter().map(|(name, values)| format!("{name}: {}", values[0])).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "ce-id: 1795257600123-7",
                "ce-source: /cloudpose/acme/door",
                "ce-specversion: 1.0",
                "ce-subject: door",
                "ce-time: 2026-11-21T10:40:00.123Z",
                "ce-traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "ce-type: cloudpose.classes",
                "content-type: application/json",
            ]
        );
    }
}
