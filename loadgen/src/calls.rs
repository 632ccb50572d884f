//! The existing CloudPose API over HTTP: requests, and what their answers must look like.

use std::{borrow::Cow, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use cloudpose_wire::Skeleton;
use reqwest::{
    Client, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    Error,
    config::Target,
    failure::Failure,
    http::{CALLS, Call, Service},
    key::{self, Key},
};

/// How a JPEG and a PNG begin in base64.
const PICTURES: [&str; 2] = ["/9j/", "iVBORw0KGgo"];

/// A service that speaks that API.
pub(crate) struct HttpService {
    client: Client,
    urls: [String; CALLS.len()],
    /// In base64.
    pictures: Vec<String>,
    /// Of which each request shows one.
    keys: Vec<Key>,
}

impl HttpService {
    /// `url`: without a path. `pictures`: at least one, sent one after another.
    pub(crate) fn new(url: &str, pictures: &[Bytes], target: &Target) -> Result<Self, Error> {
        // Services close idle connections (uvicorn after 5 s): one that is about to go must not be used.
        let builder = Client::builder().pool_idle_timeout(Duration::from_secs(4));
        let client = builder.tcp_nodelay(true).connect_timeout(target.timeout).build();
        Ok(Self {
            client: client.map_err(Error::Client)?,
            urls: CALLS.map(|call| format!("{}{}", url.trim_end_matches('/'), call.path)),
            pictures: pictures.iter().map(|picture| STANDARD.encode(picture)).collect(),
            keys: target.keys.clone(),
        })
    }
}

/// Either answer, as far as it is looked at.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    count: Option<usize>,
    keypoints: Option<Vec<Vec<IgnoredAny>>>,
    #[serde(borrow)]
    image: Option<Cow<'a, str>>,
}

impl Service for HttpService {
    async fn call(&self, call: Call, id: u64) -> Result<u64, Failure> {
        let picture = &self.pictures[(id % self.pictures.len() as u64) as usize];
        let key = key::of_user(&self.keys, id);
        let id = format!("loadgen-{id}");
        let body = ["{\"id\":\"", &id, "\",\"image\":\"", picture, "\"}"].concat();
        let mut request =
            self.client.post(&self.urls[call as usize]).header(CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, key.bearer());
        }
        let response = request.body(body).send().await.map_err(failure)?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let body = response.bytes().await.map_err(failure)?;
        check(call, &id, &body)?;
        Ok(body.len() as u64)
    }
}

fn failure(error: reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else if error.is_timeout() {
        Failure::Timeout
    } else {
        Failure::Closed
    }
}

/// Whether `body` answers this call with this id.
fn check(call: Call, id: &str, body: &[u8]) -> Result<(), Failure> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| Failure::BadAnswer)?;
    if answer.id != id {
        return Err(Failure::WrongId);
    }
    let good = match call {
        Call::Pose => answer.keypoints.is_some_and(|persons| {
            let joints = Skeleton::coco_17().keypoints().len();
            answer.count == Some(persons.len()) && persons.iter().all(|points| points.len() == joints)
        }),
        Call::Annotation => {
            answer.image.is_some_and(|image| PICTURES.iter().any(|begin| image.starts_with(begin)))
        }
    };
    if good { Ok(()) } else { Err(Failure::BadAnswer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_looked_at() {
        let person = vec![[0.5, 0.5, 0.9]; 17];
        let pose = |id: &str, count: usize| {
            serde_json::json!({"id": id, "count": count, "boxes": [], "keypoints": [person]}).to_string()
        };
        let check = |call, body: &str| check(call, "a", body.as_bytes());
        assert_eq!(check(Call::Pose, &pose("a", 1)), Ok(()));
        assert_eq!(check(Call::Pose, &pose("b", 1)), Err(Failure::WrongId));
        assert_eq!(check(Call::Pose, &pose("a", 2)), Err(Failure::BadAnswer));
        assert_eq!(check(Call::Pose, r#"{"id":"a","count":1,"keypoints":[[1]]}"#), Err(Failure::BadAnswer));
        assert_eq!(check(Call::Pose, "no json"), Err(Failure::BadAnswer));
        assert_eq!(check(Call::Annotation, r#"{"id":"a","image":"/9j/4AAQ"}"#), Ok(()));
        assert_eq!(check(Call::Annotation, r#"{"id":"a","image":""}"#), Err(Failure::BadAnswer));
        assert_eq!(check(Call::Annotation, &pose("a", 1)), Err(Failure::BadAnswer));
    }
}
