//! Every metric of the gateway.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use std::time::Duration;

use cloudpose_policy::quota::Resource;
use cloudpose_wire::{DropReason, Kind, Outcome, Tenant};
use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::cameras::CameraState;

const ACCEPTED: &str = "cloudpose_frames_accepted_total";
const ENDED: &str = "cloudpose_frames_total";
const IN_FLIGHT: &str = "cloudpose_frames_in_flight";
const LATENCY: &str = "cloudpose_frame_latency_seconds";
const SESSIONS: &str = "cloudpose_sessions";
const REFUSED: &str = "cloudpose_sessions_refused_total";
const TURNED_AWAY: &str = "cloudpose_connections_refused_total";
const REFUSALS: &str = "cloudpose_refusals_total";
const UNCLAIMED: &str = "cloudpose_results_unclaimed_total";
const KEYFRAMES_ASKED: &str = "cloudpose_keyframes_asked_total";
const WATCHERS: &str = "cloudpose_watchers";
const WATCHERS_REFUSED: &str = "cloudpose_watchers_refused_total";
const WATCHED_FRAMES: &str = "cloudpose_watched_frames_total";
const WATCHED_PICTURES: &str = "cloudpose_watched_pictures_total";
const CAMERAS: &str = "cloudpose_cameras";
const CAMERA_FRAMES: &str = "cloudpose_camera_frames_total";
const CAMERA_FAILURES: &str = "cloudpose_camera_failures_total";
const JOBS: &str = "cloudpose_jobs_total";
const JOB_CALLBACKS: &str = "cloudpose_job_callbacks_total";
const JOB_ITEMS: &str = "cloudpose_job_items_total";
const JOB_ITEMS_IN_FLIGHT: &str = "cloudpose_job_items_in_flight";
const STORE_FAILURES: &str = "cloudpose_store_failures_total";
const SHOWN_ELSEWHERE: &str = "cloudpose_watched_elsewhere_total";

/// Tells the installed recorder what each metric of the gateway means, and starts the counts that nothing has
/// happened to: a counter that is not there until it is 1 never rises.
pub fn describe() {
    describe_counter!(ACCEPTED, "Frames taken from clients, by kind.");
    describe_counter!(ENDED, "Frames that have ended, by kind and outcome.");
    describe_gauge!(IN_FLIGHT, "Frames taken that have not ended, by kind.");
    describe_histogram!(
        LATENCY,
        Unit::Seconds,
        "From a frame's arrival until the client had its result, by kind."
    );
    describe_gauge!(SESSIONS, "Open sessions: WebSockets, and stills being worked on.");
    describe_counter!(REFUSED, "Sessions refused because the gateway had no room.");
    describe_counter!(TURNED_AWAY, "Connections refused because there were too many, or no files left.");
    describe_counter!(REFUSALS, "What was refused, by reason: a quota, or a bound on connections.");
    for reason in Resource::ALL.map(reason).into_iter().chain(CONNECTIONS) {
        counter!(REFUSALS, "reason" => reason).increment(0);
    }
    describe_counter!(UNCLAIMED, "Results that came after their frame or session had ended.");
    for kind in [Kind::Live, Kind::Still] {
        counter!(ACCEPTED, "kind" => kind.as_str()).increment(0);
        gauge!(IN_FLIGHT, "kind" => kind.as_str()).increment(0.0);
        for outcome in
            DropReason::ALL.map(DropReason::as_str).into_iter().chain([Outcome::Delivered.as_str()])
        {
            counter!(ENDED, "kind" => kind.as_str(), "outcome" => outcome).increment(0);
        }
    }
    describe_counter!(KEYFRAMES_ASKED, "Times that a sender of video was asked for a key frame.");
    counter!(KEYFRAMES_ASKED).increment(0);
    describe_gauge!(WATCHERS, "Clients that watch a stream.");
    describe_counter!(WATCHERS_REFUSED, "Clients that could not watch because there was no room.");
    describe_counter!(WATCHED_FRAMES, "Frames for those who watch, by outcome: shown, or slow.");
    describe_counter!(WATCHED_PICTURES, "Pictures that were to be drawn for those who watch, by outcome.");
    describe_counter!(SHOWN_ELSEWHERE, "Frames for those who watch at other gateways, by outcome.");
    gauge!(WATCHERS).increment(0.0);
    counter!(WATCHERS_REFUSED).increment(0);
    for outcome in ["shown", "slow"] {
        counter!(WATCHED_FRAMES, "outcome" => outcome).increment(0);
    }
    for outcome in ["drawn", "late", "expired", "annotate_failed"] {
        counter!(WATCHED_PICTURES, "outcome" => outcome).increment(0);
    }
    for outcome in ["sent", "queue_full", "too_large", "bus_down"] {
        counter!(SHOWN_ELSEWHERE, "outcome" => outcome).increment(0);
    }
    describe_gauge!(CAMERAS, "Cameras that this gateway fetches, by state.");
    describe_counter!(CAMERA_FRAMES, "Frames that cameras sent, by outcome: taken, or why they were not.");
    describe_counter!(CAMERA_FAILURES, "Cameras that could not be fetched, or went: once for each attempt.");
    for state in CameraState::ALL {
        camera_state(state.as_str(), 0.0);
    }
    for outcome in ["taken", "paced", "busy", "superseded", "over_quota", "skipped", "damaged"] {
        counter!(CAMERA_FRAMES, "outcome" => outcome).increment(0);
    }
    counter!(CAMERA_FAILURES).increment(0);
    describe_counter!(JOBS, "Jobs, by what became of them: accepted, finished, expired.");
    describe_counter!(JOB_ITEMS, "Images of jobs that have a result, by outcome: done, or why not.");
    describe_gauge!(JOB_ITEMS_IN_FLIGHT, "Images of jobs that this gateway has offered to the workers.");
    describe_counter!(STORE_FAILURES, "Reads and writes of the store that failed.");
    describe_counter!(
        JOB_CALLBACKS,
        "Callbacks of jobs that were tried, by what became of them: delivered, tried_again, dead."
    );
    for event in ["delivered", "tried_again", "dead"] {
        counter!(JOB_CALLBACKS, "event" => event).increment(0);
    }
    for what in ["accepted", "finished", "expired"] {
        counter!(JOBS, "event" => what).increment(0);
    }
    for outcome in ["done", "undecodable", "infer_failed", "annotate_failed", "too_large"] {
        counter!(JOB_ITEMS, "outcome" => outcome).increment(0);
    }
    gauge!(JOB_ITEMS_IN_FLIGHT).increment(0.0);
    counter!(STORE_FAILURES).increment(0);
    gauge!(SESSIONS).increment(0.0);
    counter!(REFUSED).increment(0);
    counter!(TURNED_AWAY).increment(0);
    counter!(UNCLAIMED).increment(0);
}

/// Nothing is said of the default tenant.
fn of_tenant(tenant: &Tenant) -> Vec<Label> {
    (!tenant.is_default()).then(|| Label::new("tenant", tenant.to_string())).into_iter().collect()
}

fn labels(kind: Kind, tenant: &Tenant) -> Vec<Label> {
    [Label::new("kind", kind.as_str())].into_iter().chain(of_tenant(tenant)).collect()
}

pub(crate) fn frame_accepted(kind: Kind, tenant: &Tenant) {
    counter!(ACCEPTED, labels(kind, tenant)).increment(1);
    gauge!(IN_FLIGHT, labels(kind, tenant)).increment(1);
}

pub(crate) fn frame_ended(kind: Kind, tenant: &Tenant, outcome: Outcome) {
    let mut of = labels(kind, tenant);
    of.insert(1, Label::new("outcome", outcome.as_str()));
    counter!(ENDED, of).increment(1);
    gauge!(IN_FLIGHT, labels(kind, tenant)).decrement(1);
}

pub(crate) fn frame_latency(kind: Kind, tenant: &Tenant, latency: Duration) {
    histogram!(LATENCY, labels(kind, tenant)).record(latency);
}

pub(crate) fn session_opened(tenant: &Tenant) {
    gauge!(SESSIONS, of_tenant(tenant)).increment(1);
}

pub(crate) fn session_closed(tenant: &Tenant) {
    gauge!(SESSIONS, of_tenant(tenant)).decrement(1);
}

pub(crate) fn session_refused(tenant: &Tenant) {
    counter!(REFUSED, of_tenant(tenant)).increment(1);
}

/// Why connections are refused: there are too many, of all or of one address; no more files; no request in time, with
/// or without a head that had begun.
const CONNECTIONS: [&str; 5] = ["connections", "address_connections", "files", "half_head", "silence"];

pub(crate) fn connection_refused(reason: &'static str) {
    counter!(TURNED_AWAY).increment(1);
    connection_cut(reason);
}

/// One that was taken and asked for nothing in time.
pub(crate) fn connection_cut(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}

/// Why something is refused that a quota is for.
const fn reason(resource: Resource) -> &'static str {
    match resource {
        // The name alone is that of all the connections that there may be.
        Resource::Connections => "quota_connections",
        resource => resource.as_str(),
    }
}

/// A tenant has used up what it may of a resource, or its address has.
pub(crate) fn refused(resource: Resource, tenant: &Tenant) {
    let reason = Label::new("reason", reason(resource));
    counter!(REFUSALS, [reason].into_iter().chain(of_tenant(tenant)).collect::<Vec<_>>()).increment(1);
}

pub(crate) fn result_unclaimed() {
    counter!(UNCLAIMED).increment(1);
}

/// A sender of video was asked for a key frame.
pub(crate) fn keyframe_asked() {
    counter!(KEYFRAMES_ASKED).increment(1);
}

/// Somebody has begun to watch a stream.
pub(crate) fn watcher_came() {
    gauge!(WATCHERS).increment(1);
}

pub(crate) fn watcher_left() {
    gauge!(WATCHERS).decrement(1);
}

pub(crate) fn watcher_refused() {
    counter!(WATCHERS_REFUSED).increment(1);
}

/// A frame was taken by one who watches (`shown`), or was not in time (`slow`).
pub(crate) fn watched_frame(outcome: &'static str) {
    counter!(WATCHED_FRAMES, "outcome" => outcome).increment(1);
}

/// A picture that was to be drawn for those who watch was `drawn`, or what became of it.
pub(crate) fn watched_picture(outcome: &'static str) {
    counter!(WATCHED_PICTURES, "outcome" => outcome).increment(1);
}

/// A frame was `sent` to other gateways where it is watched, or why it was not.
pub(crate) fn shown_elsewhere(outcome: &'static str) {
    counter!(SHOWN_ELSEWHERE, "outcome" => outcome).increment(1);
}

/// There is one more camera in this state, or one less.
pub(crate) fn camera_state(state: &'static str, more: f64) {
    gauge!(CAMERAS, "state" => state).increment(more);
}

/// A camera sent a frame: it was `taken`, or comes faster than it is wanted (`paced`), or than it can be worked on
/// (`busy`, before it was decoded; `superseded`, before its session had it), or than its tenant may send (`over_quota`), or
/// is shown before another that came before it (`skipped`), or cannot be decoded (`damaged`).
pub(crate) fn camera_frame(outcome: &'static str) {
    counter!(CAMERA_FRAMES, "outcome" => outcome).increment(1);
}

/// A camera could not be fetched, or went.
pub(crate) fn camera_failed() {
    counter!(CAMERA_FAILURES).increment(1);
}

fn job(event: &'static str, tenant: Vec<Label>) {
    let labels: Vec<Label> = [Label::new("event", event)].into_iter().chain(tenant).collect();
    counter!(JOBS, labels).increment(1);
}

pub(crate) fn job_accepted(tenant: &Tenant) {
    job("accepted", of_tenant(tenant));
}

pub(crate) fn job_finished(tenant: &Tenant) {
    job("finished", of_tenant(tenant));
}

pub(crate) fn job_expired() {
    job("expired", Vec::new());
}

/// An image of a job has its result: `done`, or why nothing could be made of it.
pub(crate) fn job_item_ended(tenant: &Tenant, outcome: &'static str) {
    let labels: Vec<Label> = [Label::new("outcome", outcome)].into_iter().chain(of_tenant(tenant)).collect();
    counter!(JOB_ITEMS, labels).increment(1);
}

/// A callback of a job was tried: it is `delivered`, is to be `tried_again`, or is given up (`dead`).
pub(crate) fn job_called(event: &'static str, tenant: &Tenant) {
    let labels: Vec<Label> = [Label::new("event", event)].into_iter().chain(of_tenant(tenant)).collect();
    counter!(JOB_CALLBACKS, labels).increment(1);
}

pub(crate) fn job_items_in_flight(items: usize) {
    gauge!(JOB_ITEMS_IN_FLIGHT).set(items as f64);
}

/// The store could not be read or written.
pub(crate) fn store_failed() {
    counter!(STORE_FAILURES).increment(1);
}
