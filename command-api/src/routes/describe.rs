//! What every command has in common, written into the API's description once.

use utoipa::openapi::{
    Content, OpenApi, Ref, RefOr, Required, ResponseBuilder,
    header::{Header, HeaderBuilder},
    path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    schema::{Object, ObjectBuilder, Type},
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
        if let Some(question) = &mut item.get {
            problem(question);
            signed(question);
        }
        for operation in commands(item) {
            problem(operation);
            if path != "/api/event" {
                signed(operation);
            }
            match path.as_str() {
                "/api/event" => {}
                view if view == "/api/v1/visits" || view.ends_with("/view") => {
                    parameters(operation, [VISIT_KEY, KNOWN_POSITION]);
                    answered(operation, [POSITION]);
                }
                _ => {
                    parameters(operation, [KEY, IF_MATCH, KNOWN_POSITION]);
                    answered(operation, [POSITION, ETAG]);
                }
            }
        }
    }
    api
}

fn signed(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new("key", [""; 0])]);
}

fn commands(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
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

/// A header: its name, and what it says.
type Described = (&'static str, &'static str);

const KEY: Described = (
    "Idempotency-Key",
    "at most 255 characters; for 24 hours (or what is configured) the same key gives the first answer again, and with another request 422",
);
/// Nobody decides visits, so no log remembers what came with a key: key and request together make the visits' ids.
const VISIT_KEY: Described = (
    "Idempotency-Key",
    "at most 255 characters; the same request with the same key counts once; another request with it is 422 where the first is remembered (by the process that took it, for a while), else other visits",
);
const IF_MATCH: Described = ("If-Match", "the version that is expected, in quotes");
const KNOWN_POSITION: Described = (
    "Annals-Position",
    "where the caller is; of another log or beyond its end it is 400",
);
const POSITION: Described = (
    "Annals-Position",
    "where this is in the log; a query that carries it waits for it",
);
const ETAG: Described = ("ETag", "the version, in quotes, of commands about one thing");

/// Headers that a request may bring.
fn parameters<const N: usize>(operation: &mut Operation, headers: [Described; N]) {
    let header = |(name, what): Described| -> RefOr<Parameter> {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(what))
            .schema(Some(text()))
            .build()
            .into()
    };
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend(headers.map(header));
}

/// Headers of an answer that says yes.
fn answered<const N: usize>(operation: &mut Operation, headers: [Described; N]) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with('2') {
            for (name, what) in headers {
                let header: RefOr<Header> = HeaderBuilder::new()
                    .schema(Some(text()))
                    .description(Some(what))
                    .build()
                    .into();
                response.headers.insert(name.to_owned(), header);
            }
        }
    }
}

fn text() -> Object {
    ObjectBuilder::new().schema_type(Type::String).build()
}
