//! NATS subjects, built here only.
//!
//! | subject | carries |
//! |---|---|
//! | `<prefix>.<stage>.<kind>.<stream>` | frames waiting for a stage |
//! | `<prefix>.<stage>.<kind>.tenants.<tenant>` | those of a tenant that is not the default one |
//! | `<prefix>.lanes` | somebody says that a tenant has frames |
//! | `<prefix>.poses.<stream>` | events of tasks that find persons |
//! | `<prefix>.classes.<stream>` | events of classifiers |
//! | `<prefix>.models` | workers say which models they serve |
//! | `<prefix>.models.ask` | somebody wants to know |
//! | `<prefix>.results.<gateway>.<session>` | results to the gateway that holds the session |
//! | `<prefix>.jobs.<job>.<seq>` | results of jobs, kept until they are taken |
//! | `<prefix>.gateways` | gateways say which streams they hold, and which their clients watch |
//! | `<prefix>.tickets.<gateway>` | a gateway is asked what a ticket of its is good for |
//! | `<prefix>.watch.<stream>` | frames of a stream that clients of other gateways watch |
//!
//! The events and watched frames of a [`Tenant`] that is not the default one have `<prefix>.tenants.<tenant>` in the place of `<prefix>`, so
//! that who may listen to one tenant hears no other. Frames are not among them, for only workers may have those; each
//! tenant's wait under a subject of their own, so that workers can take them in turn. Results are addressed to who asked.

use crate::{GatewayId, JobId, Lane, Output, Prefix, SessionId, StreamName, Tenant};

/// First token of every subject unless configured otherwise.
pub const DEFAULT_PREFIX: &str = "cloudpose";

/// What the subjects of what is a tenant's own begin with.
fn root(prefix: &Prefix, tenant: &Tenant) -> String {
    if tenant.is_default() { prefix.to_string() } else { format!("{prefix}.tenants.{tenant}") }
}

/// Where a frame waits for `lane`'s workers.
pub fn frame(prefix: &Prefix, lane: Lane, tenant: &Tenant, stream: &StreamName) -> String {
    if tenant.is_default() { format!("{prefix}.{lane}.{stream}") } else { tenant_lane(prefix, lane, tenant) }
}

/// All of the default tenant that waits for `lane`'s workers.
pub fn lane(prefix: &Prefix, lane: Lane) -> String {
    format!("{prefix}.{lane}.*")
}

/// What of another tenant waits for `lane`'s workers.
pub fn tenant_lane(prefix: &Prefix, lane: Lane, tenant: &Tenant) -> String {
    format!("{prefix}.{lane}.tenants.{tenant}")
}

/// All of other tenants that waits for `lane`'s workers.
pub fn tenant_lanes(prefix: &Prefix, lane: Lane) -> String {
    format!("{prefix}.{lane}.tenants.*")
}

/// Whose frames wait under `subject`, one of [`tenant_lanes`].
pub fn tenant_of_lane(subject: &str) -> Option<Tenant> {
    subject.rsplit('.').next()?.parse().ok()
}

/// Where it is said that a tenant has frames on its lanes.
pub fn lanes_news(prefix: &Prefix) -> String {
    format!("{prefix}.lanes")
}

/// Where the events of a tenant's stream go that have such an output.
pub fn event(prefix: &Prefix, tenant: &Tenant, stream: &StreamName, output: &Output) -> String {
    format!("{}.{}.{stream}", root(prefix, tenant), output.kind())
}

/// The events of all streams: by task those of the default tenant, then those of the others.
pub fn all_events(prefix: &Prefix) -> Vec<String> {
    let of = |root: String| Output::KINDS.map(|kind| format!("{root}.{kind}.*"));
    [of(prefix.to_string()), of(format!("{prefix}.tenants.*"))].concat()
}

/// Whose event came on `subject`, one of [`all_events`].
pub fn tenant_of_event(prefix: &Prefix, subject: &str) -> Option<Tenant> {
    let path = subject.strip_prefix(prefix.as_str())?.strip_prefix('.')?;
    match path.strip_prefix("tenants.") {
        Some(rest) => rest.split('.').next()?.parse().ok(),
        None => Some(Tenant::default()),
    }
}

/// Where workers say which models they serve.
pub fn models(prefix: &Prefix) -> String {
    format!("{prefix}.models")
}

/// Where they are asked to.
pub fn models_ask(prefix: &Prefix) -> String {
    format!("{prefix}.models.ask")
}

/// Where gateways say which streams they hold and watch.
pub fn gateways(prefix: &Prefix) -> String {
    format!("{prefix}.gateways")
}

/// Where a gateway is asked what a ticket of its is good for.
pub fn tickets(prefix: &Prefix, gateway: &GatewayId) -> String {
    format!("{prefix}.tickets.{gateway}")
}

/// Where the frames of a tenant's stream go while clients of other gateways watch it.
pub fn watch(prefix: &Prefix, tenant: &Tenant, stream: &StreamName) -> String {
    format!("{}.watch.{stream}", root(prefix, tenant))
}

/// Where a session's results go.
pub fn results(prefix: &Prefix, gateway: &GatewayId, session: &SessionId) -> String {
    format!("{prefix}.results.{gateway}.{session}")
}

/// The results of all sessions of a gateway.
pub fn all_results(prefix: &Prefix, gateway: &GatewayId) -> String {
    format!("{prefix}.results.{gateway}.*")
}

/// Where the result of a job's frame `seq` is kept.
pub fn job_result(prefix: &Prefix, job: &JobId, seq: u64) -> String {
    format!("{prefix}.jobs.{job}.{seq}")
}

/// The results of all jobs.
pub fn all_job_results(prefix: &Prefix) -> String {
    format!("{prefix}.jobs.*.*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Stage};

    #[test]
    fn subjects_are_the_documented_ones() {
        let (gateway, session) = (GatewayId::new("g1").unwrap(), SessionId::new("s1").unwrap());
        let prefix = Prefix::new(DEFAULT_PREFIX).unwrap();
        let events = [
            "cloudpose.poses.*",
            "cloudpose.classes.*",
            "cloudpose.tenants.*.poses.*",
            "cloudpose.tenants.*.classes.*",
        ];
        assert_eq!(all_events(&prefix), events);
        let (nobody, acme) = (Tenant::default(), Tenant::new("acme").unwrap());
        let (x, cam) = (Prefix::new("x").unwrap(), StreamName::new("cam").unwrap());
        let poses = Output::Poses { skeleton: "s".parse().unwrap(), persons: Vec::new() };
        assert_eq!(event(&x, &nobody, &cam, &poses), "x.poses.cam");
        assert_eq!(event(&x, &acme, &cam, &poses), "x.tenants.acme.poses.cam");
        assert_eq!(event(&x, &nobody, &cam, &Output::Classes(Vec::new())), "x.classes.cam");
        for tenant in [&nobody, &acme] {
            assert_eq!(tenant_of_event(&x, &event(&x, tenant, &cam, &poses)).as_ref(), Some(tenant));
        }
        assert_eq!(tenant_of_event(&x, "y.poses.cam"), None);
        assert_eq!(gateways(&x), "x.gateways");
        assert_eq!(tickets(&x, &gateway), "x.tickets.g1");
        assert_eq!(watch(&x, &nobody, &cam), "x.watch.cam");
        assert_eq!(watch(&x, &acme, &cam), "x.tenants.acme.watch.cam");
        assert_eq!(results(&prefix, &gateway, &session), "cloudpose.results.g1.s1");
        assert_eq!(all_results(&prefix, &gateway), "cloudpose.results.g1.*");
        assert_eq!(job_result(&prefix, &JobId::new("j").unwrap(), 7), "cloudpose.jobs.j.7");
        assert_eq!(all_job_results(&prefix), "cloudpose.jobs.*.*");
        assert_eq!((models(&x), models_ask(&x)), ("x.models".to_owned(), "x.models.ask".to_owned()));
        let lane = Lane { stage: Stage::Infer, kind: Kind::Live };
        assert_eq!(frame(&prefix, lane, &nobody, &cam), "cloudpose.infer.live.cam");
        assert_eq!(super::lane(&prefix, lane), "cloudpose.infer.live.*");
        assert_eq!(frame(&prefix, lane, &acme, &cam), "cloudpose.infer.live.tenants.acme");
        assert_eq!(tenant_lanes(&prefix, lane), "cloudpose.infer.live.tenants.*");
        assert_eq!(tenant_of_lane(&tenant_lane(&prefix, lane, &acme)), Some(acme));
        assert_eq!(lanes_news(&prefix), "cloudpose.lanes");
    }
}
