//! Waiting for a service.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Error,
    http::{Call, Service},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a service may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `url` answers 200. Whoever calls bounds the wait.
pub(crate) async fn path(url: &str) {
    while !answers(url).await {
        sleep(PAUSE).await;
    }
}

async fn answers(url: &str) -> bool {
    reqwest::get(url).await.is_ok_and(|response| response.status().is_success())
}

/// Waits until the service's `/ready` says so.
///
/// # Errors
/// If it does not.
pub(crate) async fn gateway(url: &str) -> Result<(), Error> {
    let ready = path_of(url, "/ready");
    let begin = Instant::now();
    while !answers(&ready).await {
        if begin.elapsed() > PATIENCE {
            return Err(Error::NoService { url: ready, why: "it does not answer 200".into() });
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Waits until the service answers one call rightly: works with any that speaks the API.
///
/// # Errors
/// If it does not.
pub(crate) async fn service(service: &impl Service, url: &str) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        match service.call(Call::Pose, 0).await {
            Ok(_) => return Ok(()),
            Err(failure) if begin.elapsed() > PATIENCE => {
                return Err(Error::NoService { url: url.into(), why: failure.to_string() });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn path_of(url: &str, path: &str) -> String {
    format!("{}{path}", url.trim_end_matches('/'))
}
