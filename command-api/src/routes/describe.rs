//! What every command has in common, written into the API's description once.

use utoipa::openapi::{
    Content, OpenApi, Ref, RefOr, Required, ResponseBuilder,
    header::{Header, HeaderBuilder},
    path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    schema::{ObjectBuilder, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

/// Adds the headers, the errors and the key that all commands share.
pub(super) fn describe(mut api: OpenApi) -> OpenApi {
    api.info.title = "Annals: commands".to_owned();
    api.info.description = Some("Commands and visits. Errors are problem+json (RFC 9457).".to_owned());
    api.info.license = None;
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("ann_<keyid>_<secret>")
        .build();
    components
        .security_schemes
        .insert("key".to_owned(), SecurityScheme::Http(bearer).into());
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            problem(operation);
            if path != "/api/event" {
                operation.security = Some(vec![SecurityRequirement::new("key", [""; 0])]);
            }
            if !path.starts_with("/api/v1/log/") && path != "/api/event" {
                command(operation);
            }
        }
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

/// Any error looks the same.
fn problem(operation: &mut Operation) {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let response = ResponseBuilder::new()
        .description("a problem: 400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503 or 500; 429 and 503 with Retry-After")
        .content("application/problem+json", content)
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), response.into());
}

/// What a command brings and what its answer carries.
fn command(operation: &mut Operation) {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let header = |name: &str, what: &str| -> RefOr<Parameter> {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(what))
            .schema(Some(text()))
            .build()
            .into()
    };
    operation.parameters.get_or_insert_default().extend([
        header(
            "Idempotency-Key",
            "at most 255 characters; for 24 hours the same key gives the first answer again",
        ),
        header("If-Match", "the version that is expected, in quotes"),
    ]);
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with('2') {
            let answer = |what: &str| -> RefOr<Header> {
                HeaderBuilder::new()
                    .schema(Some(text()))
                    .description(Some(what))
                    .build()
                    .into()
            };
            let position = answer("where this is in the log; a query that carries it waits for it");
            response.headers.insert("Annals-Position".to_owned(), position);
            response.headers.insert(
                "ETag".to_owned(),
                answer("the version, in quotes, of commands about one thing"),
            );
        }
    }
}
