//! What an address of the API is: where it stands, who answers it, what it takes and gives. One table of them
//! (`endpoints`) makes both the routes and the OpenAPI document, so that neither can know of an address that the other
//! does not.

use std::collections::BTreeMap;

use actix_web::dev::HttpServiceFactory;
use actix_web::http::Method;
use actix_web::web;
use actix_web::{Resource, Route};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr, Required,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::http::problem::{self, not_allowed};
use crate::http::socket::handshake::COOKIE;
use crate::ids::{RoomId, UserId};
use crate::protocol::schemas;

/// Where the API stands.
pub const BASE: &str = "/api/v1";

/// A field of a body, or of a query.
pub struct Field {
    name: &'static str,
    required: bool,
    schema: RefOr<Schema>,
}

pub fn required(name: &'static str, schema: impl Into<RefOr<Schema>>) -> Field {
    Field { name, required: true, schema: schema.into() }
}

pub fn optional(name: &'static str, schema: impl Into<RefOr<Schema>>) -> Field {
    Field { name, required: false, schema: schema.into() }
}

/// What a call is answered with when it goes well.
struct Success {
    status: u16,
    says: &'static str,
    content: Option<(&'static str, RefOr<Schema>)>,
}

/// What a call brings.
struct Body {
    kind: &'static str,
    schema: RefOr<Schema>,
    required: bool,
}

type Components = BTreeMap<String, RefOr<Schema>>;

/// One method at one address.
pub struct Endpoint {
    method: Method,
    path: &'static str,
    route: fn() -> Route,
    summary: &'static str,
    /// Whether it needs no credentials.
    open: bool,
    query: Vec<Field>,
    headers: Vec<Field>,
    body: Option<Body>,
    successes: Vec<Success>,
    /// Statuses of 400 and above that it may give besides those every call may.
    refusals: Vec<u16>,
    components: Components,
}

/// An endpoint at `path` below [`BASE`].
fn endpoint(method: Method, path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
    Endpoint {
        method,
        path,
        route,
        summary,
        open: false,
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        successes: Vec::new(),
        refusals: Vec::new(),
        components: Components::new(),
    }
}

pub fn get(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
    endpoint(Method::GET, path, route, summary)
}

pub fn post(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
    endpoint(Method::POST, path, route, summary)
}

pub fn put(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
    endpoint(Method::PUT, path, route, summary)
}

pub fn patch(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
    endpoint(Method::PATCH, path, route, summary)
}

pub fn delete(path: &'static str, route: fn() -> Route, summary: &'static str) -> Endpoint {
    endpoint(Method::DELETE, path, route, summary)
}

impl Endpoint {
    /// Method and path, where it takes credentials.
    #[cfg(test)]
    pub fn signed_in(&self) -> Option<(&Method, &'static str)> {
        (!self.open).then_some((&self.method, self.path))
    }

    /// Needs no credentials.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// What may stand in the query.
    pub fn query<const N: usize>(mut self, fields: [Field; N]) -> Self {
        self.query.extend(fields);
        self
    }

    /// A header that must be there.
    pub fn header(mut self, name: &'static str, schema: Schema) -> Self {
        self.headers.push(required(name, schema));
        self
    }

    /// The fields of the body, a JSON object.
    pub fn takes<const N: usize>(mut self, fields: [Field; N]) -> Self {
        let required = fields.iter().any(|field| field.required);
        let object = fields.into_iter().fold(ObjectBuilder::new(), |object, Field { name, required, schema }| {
            if required {
                return object.property(name, schema).required(name);
            }
            // Null is the same as absent.
            object.property(name, schemas::nullable(schema))
        });
        self.body = Some(Body { kind: "application/json", schema: Schema::from(object).into(), required });
        self
    }

    /// Takes a body of any content.
    pub fn takes_bytes(mut self) -> Self {
        let schema = Schema::from(ObjectBuilder::new().schema_type(SchemaType::AnyValue)).into();
        self.body = Some(Body { kind: "application/octet-stream", schema, required: true });
        self
    }

    /// Answers with this.
    pub fn gives<T: ToSchema>(mut self, status: u16, says: &'static str) -> Self {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        self.components.extend(found);
        let content = ("application/json", Ref::from_schema_name(T::name()).into());
        self.successes.push(Success { status, says, content: Some(content) });
        self
    }

    /// Answers with a page of a list, read with `limit` and `cursor`.
    pub fn gives_page_of<T: ToSchema>(mut self, says: &'static str) -> Self {
        let limit = schemas::integer(1..=u64::from(crate::limits::PAGE_MAX));
        self.query.extend([optional("limit", limit), optional("cursor", schemas::text(0..=1_000))]);
        let mut described = self.gives::<T>(200, says);
        if let Some(Success { content: Some((_, schema)), .. }) = described.successes.last_mut() {
            let page = ObjectBuilder::new()
                .property("items", schemas::list_of(schema.clone()))
                .required("items")
                .property("next", schemas::nullable(schemas::text(1..=1_000)))
                .required("next");
            *schema = Schema::from(page).into();
        }
        described
    }

    /// Answers with nothing to say: 204.
    pub fn gives_nothing(self, says: &'static str) -> Self {
        self.gives_status(204, says)
    }

    /// Answers with a status alone.
    pub fn gives_status(mut self, status: u16, says: &'static str) -> Self {
        self.successes.push(Success { status, says, content: None });
        self
    }

    /// Answers with something of a type of its own.
    pub fn gives_content(mut self, status: u16, says: &'static str, kind: &'static str, schema: Schema) -> Self {
        self.successes.push(Success { status, says, content: Some((kind, schema.into())) });
        self
    }

    /// May be refused with these, besides what follows from its shape.
    pub fn refuses<const N: usize>(mut self, statuses: [u16; N]) -> Self {
        self.refusals.extend(statuses);
        self
    }

    /// The named schemas that it needs.
    #[cfg(test)]
    pub fn into_components(self) -> impl Iterator<Item = (String, RefOr<Schema>)> {
        self.components.into_iter()
    }

    /// The names in braces of its path.
    fn places(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name)
    }

    /// All statuses of refusals, each with what it means.
    fn all_refusals(&self) -> BTreeMap<u16, &'static str> {
        let mut statuses = vec![400, 429, 500, 503];
        if !self.open {
            // A cookie without its CSRF token, or a token without the scope, is refused with 403.
            statuses.extend([401, 403]);
        }
        if self.body.is_some() {
            statuses.push(413);
        }
        if self.places().next().is_some() {
            statuses.push(404);
        }
        statuses.extend(&self.refusals);
        statuses.into_iter().map(|status| (status, meaning(status))).collect()
    }

    fn operation(&self) -> OperationBuilder {
        let id: String = self.path.split(['/', '{', '}']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
        let mut operation = OperationBuilder::new()
            .operation_id(Some(format!("{}_{id}", self.method.as_str().to_ascii_lowercase())))
            .summary(Some(self.summary))
            .tag(self.path.split('/').nth(1).unwrap_or_default());
        for name in self.places() {
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
            let parameter = parameter.required(Required::True).schema(Some(place(name))).example(example(name));
            operation = operation.parameter(parameter);
        }
        let queries = self.query.iter().map(|field| (field, ParameterIn::Query));
        let headers = self.headers.iter().map(|field| (field, ParameterIn::Header));
        for (field, place) in queries.chain(headers) {
            let parameter = ParameterBuilder::new().name(field.name).parameter_in(place);
            let needed = if field.required { Required::True } else { Required::False };
            operation = operation.parameter(parameter.required(needed).schema(Some(field.schema.clone())));
        }
        if let Some(Body { kind, schema, required }) = &self.body {
            let content = ContentBuilder::new().schema(Some(schema.clone())).build();
            let needed = if *required { Required::True } else { Required::False };
            let body = RequestBodyBuilder::new().content(*kind, content).required(Some(needed));
            operation = operation.request_body(Some(body.build()));
        }
        for success in &self.successes {
            let mut response = ResponseBuilder::new().description(success.says);
            if let Some((kind, schema)) = &success.content {
                response = response.content(*kind, ContentBuilder::new().schema(Some(schema.clone())).build());
            }
            operation = operation.response(success.status.to_string(), response.build());
        }
        let problem = ContentBuilder::new().schema(Some(schemas::reference::<problem::Body<'static>>())).build();
        for (status, says) in self.all_refusals() {
            let response = ResponseBuilder::new().description(says);
            let response = response.content("application/problem+json", problem.clone());
            operation = operation.response(status.to_string(), response.build());
        }
        if self.open {
            return operation;
        }
        let (bearer, cookie) = (SecurityRequirement::new::<_, [&str; 0], &str>("bearer", []), "cookie");
        operation.security(bearer).security(SecurityRequirement::new::<_, [&str; 0], &str>(cookie, []))
    }
}

/// The schema of a part of a path, by its name.
fn place(name: &str) -> RefOr<Schema> {
    match name {
        "room" => schemas::reference::<RoomId>(),
        "user" => schemas::reference::<UserId>(),
        "seq" => schemas::seq().into(),
        _ => schemas::text(1..=200).into(),
    }
}

/// An example for a part of a path, where a word is as good as another.
fn example(name: &str) -> Option<serde_json::Value> {
    match name {
        "room" => Some("lobby".into()),
        "user" => Some("bob".into()),
        "seq" => Some(1.into()),
        _ => None,
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "A field is missing, wrong or too long; `detail` names it",
        401 => "No credentials, or bad ones",
        403 => "Not allowed, or a call with the cookie without its CSRF token",
        404 => "Not there, or hidden from the caller",
        409 => "At odds with how things are",
        410 => "Was there, and is no more",
        413 => "The body is too large",
        416 => "There is no such range",
        429 => "Over a rate; `Retry-After` says when to try again",
        500 => "A fault; `detail` holds an id that the log has too",
        503 => "Can't be done now; `Retry-After` says when to try again",
        _ => "Refused",
    }
}

/// The routes of all `endpoints`: one resource a path, which answers 405 to the methods that it does not have.
pub fn mount(scope: actix_web::Scope, endpoints: Vec<Endpoint>) -> actix_web::Scope {
    resources(endpoints).into_iter().fold(scope, |scope, resource| scope.service(resource))
}

fn resources(endpoints: Vec<Endpoint>) -> Vec<impl HttpServiceFactory + 'static> {
    let mut paths: Vec<(&'static str, Resource, Vec<&'static str>)> = Vec::new();
    for Endpoint { method, path, route, .. } in endpoints {
        let at = paths.iter().position(|(known, ..)| *known == path).unwrap_or_else(|| {
            paths.push((path, web::resource(path), Vec::new()));
            paths.len() - 1
        });
        let (_, resource, allowed) = &mut paths[at];
        let taken = std::mem::replace(resource, web::resource(path));
        *resource = taken.route(route().method(method.clone()));
        allowed.push(match method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            _ => "DELETE",
        });
    }
    paths.into_iter().map(|(_, resource, allowed)| resource.default_service(not_allowed(allowed.join(", ")))).collect()
}

/// The OpenAPI document of all `endpoints`.
pub fn document(endpoints: Vec<Endpoint>) -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = Components::new();
    components.insert("Problem".to_owned(), problem::Body::schema());
    components.insert(RoomId::name().into_owned(), RoomId::schema());
    components.insert(UserId::name().into_owned(), UserId::schema());
    for endpoint in endpoints {
        let method = match endpoint.method {
            Method::GET => HttpMethod::Get,
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::PATCH => HttpMethod::Patch,
            _ => HttpMethod::Delete,
        };
        paths = paths.path(format!("{BASE}{}", endpoint.path), PathItem::new(method, endpoint.operation()));
        components.extend(endpoint.components);
    }
    let schemes = ComponentsBuilder::new()
        .schemas_from_iter(components)
        .security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(COOKIE))));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Roundtable")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("The HTTP API. What a room promises, and the WebSocket: docs/protocol.md."))
                .build(),
        )
        .paths(paths)
        .components(Some(schemes.build()))
        .build()
}

/// A JSON object of any kind.
pub fn any_object() -> Schema {
    ObjectBuilder::new().build().into()
}
