//! Owns which paths the admin endpoint has: the methods of each, who may ask it what, and the page that lists them.
//! `openapi.json` describes them to programs; a test holds it against this.

use hyper::Method;

use super::access::What;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Index,
    OpenApi,
    Metrics,
    Health,
    Ready,
    Config,
    Reload,
    Routes,
    Services,
    Canaries,
    Events,
}

impl Endpoint {
    pub fn of(path: &str) -> Option<Endpoint> {
        TABLE.iter().find(|row| row.path == path).map(|row| row.endpoint)
    }

    pub fn what(self) -> What {
        match self {
            Endpoint::Health | Endpoint::Ready => What::Health,
            Endpoint::Metrics => What::Metrics,
            _ => What::Control,
        }
    }

    pub fn allows(self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD => true,
            Method::POST => self.takes_posts(),
            _ => false,
        }
    }

    pub fn methods(self) -> &'static str {
        if self.takes_posts() { "GET, HEAD, POST" } else { "GET, HEAD" }
    }

    fn takes_posts(self) -> bool {
        TABLE.iter().any(|row| row.endpoint == self && row.post.is_some())
    }
}

struct Row {
    endpoint: Endpoint,
    path: &'static str,
    /// What a GET shows.
    get: &'static str,
    /// What a POST does.
    post: Option<&'static str>,
}

const fn row(endpoint: Endpoint, path: &'static str, get: &'static str, post: Option<&'static str>) -> Row {
    Row { endpoint, path, get, post }
}

const TABLE: &[Row] = &[
    row(Endpoint::Index, "/", "this page", None),
    row(Endpoint::OpenApi, "/openapi.json", "all of this for programs, as OpenAPI 3.1", None),
    row(Endpoint::Metrics, "/metrics", "Prometheus metrics", None),
    row(Endpoint::Health, "/healthz", "200 while the process lives", None),
    row(Endpoint::Ready, "/readyz", "200 while traffic is wanted, 503 while starting or draining", None),
    row(
        Endpoint::Config,
        "/config",
        "the configuration in force, with the defaults and without secrets",
        None,
    ),
    row(
        Endpoint::Reload,
        "/reload",
        "what came of the last reload",
        Some("reload the configuration; 422 with all errors if it is refused"),
    ),
    row(Endpoint::Routes, "/routes", "all routes in the order in which they are tried", None),
    row(
        Endpoint::Services,
        "/services",
        "how all endpoints and breakers stand, and how long answers take",
        Some(
            "{\"service\": NAME, \"endpoint\": ADDRESS, \"drained\": true} takes one out, or back in; \
             {\"service\": NAME, \"breaker\": \"reset\"} lets all requests through again",
        ),
    ),
    row(
        Endpoint::Canaries,
        "/canaries",
        "the shares of all canaries, now and as configured",
        Some("{\"route\": NAME, \"percent\": 25} sets one, until the configuration says another"),
    ),
    row(Endpoint::Events, "/events", "what has happened lately, newest last", None),
];

/// The page that lists them.
pub fn index(generation: u64) -> String {
    let mut page = format!("Tidegate admin, configuration generation {generation}\n\n");
    for Row { path, get, post, .. } in TABLE {
        page.push_str(&format!("GET  {path:<13} {get}\n"));
        if let Some(post) = post {
            page.push_str(&format!("POST {path:<13} {post}\n"));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::EventKind;

    #[test]
    fn each_has_one_row() {
        for (number, row) in TABLE.iter().enumerate() {
            assert_eq!(TABLE.iter().position(|other| other.endpoint == row.endpoint), Some(number));
            assert_eq!(Endpoint::of(row.path), Some(row.endpoint));
        }
    }

    /// What cannot be made to happen at will in a test of the running gateway.
    #[test]
    fn the_description_knows_all_kinds_of_events() {
        let described: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let kinds = described["components"]["schemas"]["Event"]["properties"]["kind"]["enum"].as_array();
        let kinds: Vec<&str> = kinds.unwrap().iter().filter_map(|kind| kind.as_str()).collect();
        let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(kinds, known);
    }
}
