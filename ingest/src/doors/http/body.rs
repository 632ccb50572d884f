//! Request bodies: read within bounds, and the image taken out of them.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Multipart, Request},
    http::{HeaderMap, header},
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{doors::Problem, shared::Shared, unfinished::Budget};

/// For what stands around the image: field names, boundaries, an id.
const SLACK: usize = 64 << 10;
/// How much of a body that is too large is read and thrown away. The answer to a client that is still
/// sending is easily lost, because the connection is reset.
const DISCARD: usize = 64 << 20;
/// How long nothing may come of a body.
const PAUSE: Duration = Duration::from_secs(15);
/// When stopping, how long a body may still take.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Standard base64, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// An image, and the id its sender gave it.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: Option<String>,
    pub(crate) image: Bytes,
}

#[derive(Deserialize)]
struct Encoded<'a> {
    id: Option<String>,
    #[serde(borrow)]
    image: Option<Cow<'a, str>>,
}

/// The content type without its parameters, in lower case.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// How long a body is, if its head says so.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Room for an image of `max_image_bytes` in base64 and the JSON around it.
pub(crate) const fn json_limit(max_image_bytes: usize) -> usize {
    max_image_bytes.div_ceil(3).saturating_mul(4).saturating_add(SLACK)
}

/// Within what bodies are read.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) max_image_bytes: usize,
    /// For a whole body.
    pub(crate) patience: Duration,
    pub(crate) unfinished: Budget,
    pub(crate) stopping: CancellationToken,
}

impl Bounds {
    pub(crate) fn of(shared: &Shared) -> Self {
        Self {
            max_image_bytes: shared.config.max_image_bytes,
            patience: shared.config.receive_timeout,
            unfinished: shared.unfinished.clone(),
            stopping: shared.stopping.clone(),
        }
    }
}

/// Takes the image out of a request of any of the three forms: raw, multipart field `file`, JSON.
pub(crate) async fn upload(request: Request, bounds: &Bounds) -> Result<Upload, Problem> {
    let max_image_bytes = bounds.max_image_bytes;
    let (parts, body) = request.into_parts();
    let upload = match content_type(&parts.headers).as_deref() {
        Some("image/jpeg" | "image/jpg" | "image/png" | "image/webp") => {
            Upload { id: None, image: read(&parts.headers, body, max_image_bytes, bounds).await? }
        }
        Some("multipart/form-data") => {
            let whole = read(&parts.headers, body, max_image_bytes.saturating_add(SLACK), bounds).await?;
            from_multipart(Request::from_parts(parts, Body::from(whole))).await?
        }
        Some("application/json") => {
            let whole = read(&parts.headers, body, json_limit(max_image_bytes), bounds).await?;
            from_json(&whole)?
        }
        other => {
            return Err(Problem::unsupported_content_type(format!(
                "content type is {}; use image/jpeg, image/png, image/webp, multipart/form-data or application/json",
                other.unwrap_or("missing")
            )));
        }
    };
    if upload.image.len() > max_image_bytes {
        return Err(too_large(max_image_bytes));
    }
    Ok(upload)
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    bounds: &Bounds,
) -> Result<Bytes, Problem> {
    let announced = announced(headers).map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    // A client that waits for our go-ahead has sent nothing yet: it need not.
    let waits = headers.contains_key(header::EXPECT);
    if announced.is_some_and(|length| length > limit && (waits || length > DISCARD)) {
        return Err(too_large(limit));
    }
    let collect = async {
        let mut chunks = body.into_data_stream();
        let mut whole = BytesMut::with_capacity(announced.unwrap_or(0).min(limit));
        let mut share = bounds.unfinished.share();
        let mut received = 0usize;
        while let Some(chunk) =
            timeout(PAUSE, chunks.next()).await.map_err(|_| slow("nothing came", PAUSE))?
        {
            let chunk = chunk.map_err(|error| Problem::bad_body(format!("the body broke off: {error}")))?;
            received = received.saturating_add(chunk.len());
            if received <= limit {
                if !share.hold(received as u64) {
                    return Err(Problem::unavailable(
                        "too much is being sent at once; try again in a moment",
                    ));
                }
                whole.extend_from_slice(&chunk);
            } else {
                whole = BytesMut::new();
                share.hold(0);
                if received > DISCARD {
                    break;
                }
            }
        }
        if received > limit { Err(too_large(limit)) } else { Ok(whole.freeze()) }
    };
    let stopping = async {
        bounds.stopping.cancelled().await;
        sleep(LAST_CALL).await;
    };
    tokio::select! {
        read = timeout(bounds.patience, collect) => {
            read.unwrap_or_else(|_| Err(slow("not complete", bounds.patience)))
        }
        () = stopping => Err(Problem::shutting_down()),
    }
}

fn slow(what: &str, after: Duration) -> Problem {
    Problem::slow_body(format!("{what} after {} s", after.as_secs()))
}

/// Decodes base64: line breaks and a `data:` URL's head are allowed, padding need not be there.
pub(crate) fn decode_base64(text: &str) -> Result<Bytes, Problem> {
    let text = match text.strip_prefix("data:").and_then(|url| url.split_once(";base64,")) {
        Some((_, data)) => data,
        None => text,
    };
    // Most clients send no line breaks, and looking for them would be another pass over megabytes.
    let decoded = BASE64.decode(text).or_else(|error| {
        let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        if packed.len() < text.len() { BASE64.decode(packed) } else { Err(error) }
    });
    decoded.map(Bytes::from).map_err(|error| Problem::bad_base64(error.to_string()))
}

/// Appends base64 as the existing API has it: standard alphabet, padded.
pub(crate) fn encode_base64(bytes: &[u8], into: &mut String) {
    base64::engine::general_purpose::STANDARD.encode_string(bytes, into);
}

async fn from_multipart(request: Request) -> Result<Upload, Problem> {
    let mut fields = Multipart::from_request(request, &())
        .await
        .map_err(|rejection| Problem::bad_body(rejection.body_text()))?;
    while let Some(field) = fields.next_field().await.map_err(|e| Problem::bad_body(e.body_text()))? {
        if field.name() == Some("file") {
            let image = field.bytes().await.map_err(|e| Problem::bad_body(e.body_text()))?;
            return Ok(Upload { id: None, image });
        }
    }
    Err(Problem::missing_image("the form has no field `file`"))
}

fn from_json(body: &[u8]) -> Result<Upload, Problem> {
    let encoded: Encoded<'_> =
        serde_json::from_slice(body).map_err(|error| Problem::bad_body(error.to_string()))?;
    let image = encoded.image.ok_or_else(|| Problem::missing_image("the JSON has no `image`"))?;
    Ok(Upload { id: encoded.id, image: decode_base64(&image)? })
}

fn too_large(limit: usize) -> Problem {
    Problem::too_large(format!("more than {limit} bytes; scale the image down or compress it more"))
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use axum::http::HeaderName;
    use futures_util::stream;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn bounds(max_image_bytes: usize) -> Bounds {
        Bounds {
            max_image_bytes,
            patience: Duration::from_secs(60),
            unfinished: Budget::new(100 << 20),
            stopping: CancellationToken::new(),
        }
    }

    /// A body of `count` chunks of one byte, each after a pause of `pause`.
    fn trickle(count: usize, pause: Duration) -> Body {
        let chunks = stream::iter(vec![Bytes::from_static(b"x"); count]);
        Body::from_stream(chunks.then(move |chunk| async move {
            sleep(pause).await;
            Ok::<_, Infallible>(chunk)
        }))
    }

    /// A body of `count` chunks of a mebibyte, and how many of them were taken.
    fn large(count: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let mebibyte = Bytes::from(vec![0; 1 << 20]);
        let chunks = stream::iter(0..count).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(mebibyte.clone())
        });
        (Body::from_stream(chunks), taken)
    }

    fn headers<const N: usize>(headers: [(HeaderName, &str); N]) -> HeaderMap {
        headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn body_that_is_too_large_is_thrown_away_up_to_a_bound() {
        let mebibytes = |count: usize| (count << 20).to_string();
        let (much, more) = (mebibytes(64), mebibytes(65));
        let (length, expect) = (header::CONTENT_LENGTH, (header::EXPECT, "100-continue"));
        for (headers, sent, status, taken) in [
            // Who sends all of it and then reads the answer must get that far.
            (headers([]), 3, 413, 3),
            (headers([(length.clone(), &mebibytes(3))]), 3, 413, 3),
            (headers([(length.clone(), &much)]), 64, 413, 64),
            (headers([(length.clone(), &more)]), 65, 413, 0),
            (headers([]), 1000, 413, 65),
            // Who asks first is told before anything is sent.
            (headers([(length.clone(), &mebibytes(3)), expect.clone()]), 3, 413, 0),
            (headers([(length.clone(), &mebibytes(2)), expect.clone()]), 2, 200, 2),
            (headers([expect]), 2, 200, 2),
        ] {
            let (body, counted) = large(sent);
            let read = read(&headers, body, 2 << 20, &bounds(0)).await;
            assert_eq!(read.map_or_else(|problem| problem.status, |_| 200), status, "{headers:?}, {sent}");
            assert_eq!(counted.load(Ordering::Relaxed), taken, "{headers:?}, {sent}");
        }
    }

    #[tokio::test]
    async fn largest_image_fits_in_every_form_and_a_larger_one_in_none() {
        const MOST: usize = 1000;
        let json = |image: &[u8]| {
            let mut text = r#"{"image":""#.to_owned();
            encode_base64(image, &mut text);
            (text + r#""}"#).into_bytes()
        };
        let form = |image: &[u8]| {
            let mut form = b"--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nhello\r\n".to_vec();
            form.extend(b"--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n");
            form.extend(image);
            form.extend(b"\r\n--b--\r\n");
            form
        };
        type Write = fn(&[u8]) -> Vec<u8>;
        let raw: Write = <[u8]>::to_vec;
        for (kind, written) in
            [("image/png", raw), ("multipart/form-data; boundary=b", form), ("application/json", json)]
        {
            let upload = async |image: &[u8]| {
                let request = Request::builder().header(header::CONTENT_TYPE, kind);
                upload(request.body(Body::from(written(image))).unwrap(), &bounds(MOST)).await
            };
            assert_eq!(upload(&[7; MOST]).await.unwrap().image, vec![7; MOST], "{kind}");
            assert_eq!(upload(&[7; MOST + 1]).await.unwrap_err().status, 413, "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_body_is_given_up_after_its_time_though_it_goes_on() {
        let begun = Instant::now();
        let refused = read(&HeaderMap::new(), trickle(1000, Duration::from_secs(1)), 1000, &bounds(0)).await;
        let told = r#"{"type":"urn:cloudpose:problem:slow-body","title":"The body took too long to arrive","status":408,"detail":"not complete after 60 s"}"#;
        assert_eq!(serde_json::to_string(&refused.unwrap_err()).unwrap(), told);
        assert_eq!(begun.elapsed().as_secs(), 60);
        let taken = read(&HeaderMap::new(), trickle(58, Duration::from_secs(1)), 1000, &bounds(0)).await;
        assert_eq!(taken.unwrap().len(), 58);
    }

    #[tokio::test(start_paused = true)]
    async fn body_of_which_nothing_comes_is_given_up() {
        let begun = Instant::now();
        let refused = read(&HeaderMap::new(), trickle(2, Duration::from_secs(16)), 1000, &bounds(0)).await;
        assert_eq!(refused.unwrap_err().detail, "nothing came after 15 s");
        assert_eq!(begun.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_room_there_is() {
        let mut bounds = bounds(0);
        bounds.unfinished = Budget::new(3 << 20);
        let mebibytes = async |count| read(&HeaderMap::new(), large(count).0, 10 << 20, &bounds).await;
        let waiting = stream::once(async { Ok::<_, Infallible>(Bytes::from(vec![0; 2 << 20])) }).chain(
            stream::once(async {
                sleep(Duration::from_secs(10)).await;
                Ok(Bytes::new())
            }),
        );
        let waiting = async { read(&HeaderMap::new(), Body::from_stream(waiting), 10 << 20, &bounds).await };
        let beside = async {
            sleep(Duration::from_secs(1)).await;
            [mebibytes(1).await.is_ok(), mebibytes(2).await.is_ok()]
        };
        let (waiting, beside) = tokio::join!(waiting, beside);
        assert_eq!((waiting.unwrap().len(), beside), (2 << 20, [true, false]));
        assert!(mebibytes(3).await.is_ok(), "it is given back");
        // Who stops tells those who are still sending.
        bounds.stopping.cancel();
        let refused = read(&HeaderMap::new(), trickle(9, Duration::from_secs(1)), 10, &bounds).await;
        assert_eq!(refused.unwrap_err().status, 503);
    }

    #[test]
    fn base64_in_the_forms_that_clients_send() {
        for text in ["aGVsbG8=", "aGVsbG8", "aGVs\r\nbG8=\n", "data:image/png;base64,aGVsbG8="] {
            assert_eq!(decode_base64(text).as_deref(), Ok(&b"hello"[..]), "{text:?}");
        }
        for text in ["aGVsbG8*", "a", "data:image/png,aGVsbG8=", "aGVs=bG8"] {
            assert!(decode_base64(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn content_type_is_found_under_its_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(content_type(&headers), None);
        headers.insert(header::CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
        assert_eq!(content_type(&headers).as_deref(), Some("application/json"));
    }

    proptest! {
        #[test]
        fn json_limit_holds_the_largest_image(size in 0usize..100_000) {
            let mut text = String::new();
            encode_base64(&vec![0; size], &mut text);
            prop_assert!(text.len() + SLACK <= json_limit(size));
        }

        #[test]
        fn any_json_body_is_taken_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let upload = from_json(&body);
            prop_assert!(upload.is_ok() || upload.is_err_and(|problem| problem.status < 500));
        }
    }
}
