//! One run against a service: from the options to what was measured.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Error,
    calls::HttpService,
    config::{HttpOptions, StreamOptions, Target},
    http,
    range::Range,
    ready,
    record::{CallName, Recorder, Window},
    schedule::Ramp,
    screen::Screen,
    stage::Stage,
    stream::{self, Streams},
    summary::{Load, Run},
};

/// How much, for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) volume: Volume,
    /// From when on it counts.
    pub(crate) from: Duration,
    /// When the last request is due.
    pub(crate) until: Duration,
}

/// Closed or open loop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Volume {
    Users(Ramp),
    /// Requests a second.
    Rate(Range<f64>),
}

/// Who uses the service, and how.
pub(crate) struct Driver {
    users: Users,
    url: String,
    timeout: Duration,
    lag_limit: Duration,
}

enum Users {
    Http { service: Arc<HttpService>, think: Range<Duration> },
    Stream(Arc<Streams>),
}

impl Driver {
    /// Users who post single images.
    pub(crate) fn http(
        url: &str,
        target: &Target,
        options: &HttpOptions,
        pictures: &[Bytes],
    ) -> Result<Self, Error> {
        let service = Arc::new(HttpService::new(check(url)?, pictures, target)?);
        Ok(Self::new(url, target, Users::Http { service, think: options.think }))
    }

    /// Users who stream.
    pub(crate) fn stream(
        url: &str,
        target: &Target,
        options: &StreamOptions,
        pictures: &[Bytes],
    ) -> Result<Self, Error> {
        let streams = Streams::new(check(url)?, pictures.to_vec(), options.clone(), target);
        Ok(Self::new(url, target, Users::Stream(Arc::new(streams))))
    }

    fn new(url: &str, target: &Target, users: Users) -> Self {
        Self { users, url: url.into(), timeout: target.timeout, lag_limit: target.max_send_lag }
    }

    /// What its users do, in words.
    pub(crate) fn workload(&self) -> String {
        match &self.users {
            Users::Http { think, .. } => format!(
                "http: three /api/pose_detection to one /api/pose_detection_annotation; users think {:?} to {:?}",
                think.from, think.to
            ),
            Users::Stream(streams) => {
                let options = &streams.options;
                format!("stream: {} fps each, {:?}, {:?}", options.fps, options.want, options.mode)
                    .to_lowercase()
            }
        }
    }

    /// Waits until the service answers.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        match &self.users {
            Users::Http { service, .. } => ready::service(&**service, &self.url).await,
            Users::Stream(_) => ready::gateway(&self.url).await,
        }
    }

    fn calls(&self) -> &'static [CallName] {
        match &self.users {
            Users::Http { .. } => &http::CALLS,
            Users::Stream(_) => &stream::CALLS,
        }
    }

    /// Makes one run, and shows it on `screen`.
    pub(crate) async fn run(&self, plan: Plan, screen: &mut Screen) -> Run {
        let load = match plan.volume {
            Volume::Users(ramp) => Load::Users(ramp.users.to),
            Volume::Rate(rate) => Load::Rate(rate.to),
        };
        let recorder = Recorder::new(self.calls(), Window { from: plan.from, until: plan.until });
        let stage = Arc::new(Stage::new(recorder, fastrand::u64(..)));
        screen.begin(&load.to_string(), plan.until);
        let shared = Arc::clone(&stage);
        let users = async {
            match (&self.users, plan.volume) {
                (Users::Http { service, think }, Volume::Users(ramp)) => {
                    http::closed(Arc::clone(service), shared, ramp, *think, self.timeout).await;
                }
                (Users::Http { service, .. }, Volume::Rate(rate)) => {
                    http::open(Arc::clone(service), shared, rate, self.timeout).await;
                }
                (Users::Stream(streams), Volume::Users(ramp)) => {
                    stream::run(Arc::clone(streams), shared, ramp).await;
                }
                (Users::Stream(_), Volume::Rate(_)) => unreachable!("the command line refuses it"),
            }
        };
        stage.play(users, |point| screen.update(point)).await;
        screen.end();
        stage.recorder.summary(load, matches!(self.users, Users::Stream(_)), self.lag_limit)
    }
}

/// No TLS, and no path: the paths are ours.
fn check(url: &str) -> Result<&str, Error> {
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?']) => Ok(url),
        _ => Err(Error::Url(url.into())),
    }
}
