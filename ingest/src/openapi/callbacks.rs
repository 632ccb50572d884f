//! What the server asks of those who want to be called.

use utoipa::openapi::{
    Content, HttpMethod, ObjectBuilder, OpenApi, PathItem, Ref, Required, Response, Type,
    path::{Callback, Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
};

/// Whose callback is described.
const CALL: &str = "/v1/jobs";
/// Where it goes, as OpenAPI writes it.
const ADDRESS: &str = "{$request.query.callback}";

/// Adds the callback to the call that asks for it.
pub(super) fn add(api: &mut OpenApi) {
    let hand_in = api.paths.paths.get_mut(CALL).and_then(|item| item.post.as_mut());
    let hand_in = hand_in.expect("jobs are handed in there, as a test sees");
    let callback: Callback =
        [(ADDRESS.to_owned(), PathItem::new(HttpMethod::Post, done()).into())].into_iter().collect();
    hand_in.callbacks.insert("job_done".into(), callback.into());
}

fn done() -> Operation {
    let body = Content::new(Some(Ref::from_schema_name("JobCallback")));
    let body = RequestBodyBuilder::new().required(Some(Required::True)).content("application/json", body);
    let headers = [
        ("webhook-id", "The same whenever it is sent again."),
        ("webhook-timestamp", "When this try was, in seconds since 1970."),
        (
            "webhook-signature",
            "`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body` by the tenant's key.",
        ),
    ];
    let call = OperationBuilder::new()
        .summary(Some("The job is done."))
        .description(Some(
            "Sent as [Standard Webhooks](https://www.standardwebhooks.com) have it, at least once, until it is taken or a day is over.",
        ))
        .request_body(Some(body.build()));
    let call = headers.into_iter().fold(call, |call, (name, description)| {
        let header = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        call.parameter(header)
    });
    let answers = [
        ("2XX", "It is taken."),
        ("410", "No more is wanted: it is not sent again."),
        ("default", "It is sent again later."),
    ];
    let call = answers
        .into_iter()
        .fold(call, |call, (status, description)| call.response(status, Response::new(description)));
    call.build()
}
