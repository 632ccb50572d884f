//! What the span of a frame says.

use std::sync::{Arc, Mutex};

use tracing::{
    Event, Id, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};

use super::*;

/// Keeps the fields that are recorded in spans.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<String>>>);

impl Visit for Recorded {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push(format!("{field}={value:?}"));
    }
}

impl Subscriber for Recorded {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_frames_span_says_who_asks_unless_all_are_one() {
    let fields = |caller: &Caller| {
        let recorded = Recorded::default();
        let spans = recorded.clone();
        tracing::subscriber::with_default(spans, || {
            drop(frame_span(caller, &StreamName::new("cam").unwrap(), 7));
        });
        recorded.0.lock().unwrap().clone()
    };
    assert_eq!(fields(&Caller::default()), ["stream=cam", "seq=7"]);
    let caller = Caller {
        tenant: Tenant::new("acme").unwrap(),
        key: "door".parse().unwrap(),
        scopes: Default::default(),
    };
    assert_eq!(fields(&caller), ["stream=cam", "seq=7", r#"tenant="acme""#, r#"key="door""#]);
}
