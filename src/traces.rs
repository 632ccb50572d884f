//! Traces of the process: spans go to an OpenTelemetry collector, if one is named.

use anyhow::{Context as _, Result};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{IdGenerator as _, RandomIdGenerator, Sampler, SamplingResult, SdkTracerProvider, ShouldSample},
};
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

/// Where traces go.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "traces")]
pub(crate) struct Config {
    /// OpenTelemetry collector to send traces to (OTLP over HTTP), like http://127.0.0.1:4318
    #[arg(long, env = "CLOUDPOSE_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Share of the frames to trace, 0 to 1, whatever their clients ask for
    #[arg(long, env = "CLOUDPOSE_TRACE_SHARE", value_name = "SHARE", default_value = "0.01", value_parser = share)]
    trace_share: f64,
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1"),
    }
}

/// Which traces are collected: a share of those that begin here or come from clients, who neither ask for more by a
/// flag nor by a well chosen id; and those that another part of ours collects.
#[derive(Debug, Clone)]
struct Share {
    share: Sampler,
    ours: Sampler,
}

impl Share {
    fn new(share: f64) -> Self {
        let share = Sampler::TraceIdRatioBased(share);
        Self { ours: Sampler::ParentBased(Box::new(share.clone())), share }
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let of_client = parent.is_some_and(|parent| {
            parent.span().span_context().trace_state().get(cloudpose_bus::trace::FROM_CLIENT).is_some()
        });
        if !of_client {
            return self.ours.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        let drawn = RandomIdGenerator::default().new_trace_id();
        let decided = self.share.should_sample(None, drawn, name, kind, attributes, links);
        // What follows from the span is decided with it.
        SamplingResult { trace_state: TraceState::default(), ..decided }
    }
}

/// Sends what is left when dropped.
#[derive(Debug)]
pub(crate) struct Exporter(SdkTracerProvider);

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Starts exporting for the process `name`, and answers what has to see the spans; nothing if no collector is named.
///
/// # Errors
/// If the address is none.
pub(crate) fn start<S>(name: &str, config: &Config) -> Result<Option<(impl Layer<S>, Exporter)>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .with_context(|| {
            format!("cannot send traces to {endpoint:?}; write it like http://127.0.0.1:4318")
        })?;
    let resource = Resource::builder().with_service_name(format!("cloudpose-{}", name)).build();
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Share::new(config.trace_share))
        .with_batch_exporter(exporter)
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("cloudpose"));
    Ok(Some((layer, Exporter(provider))))
}
