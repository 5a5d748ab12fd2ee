//! Owns how routes are shown to programs, and to people through them: what each wants of a request, a line for each condition,
//! and what it does with it. Shows no secret.

use serde_json::{Value, json};

use crate::config::redact;
use crate::config::snapshot::{AuthId, Snapshot};
use crate::proxy::canary::Canary;
use crate::proxy::rule::{Action, Conditions, FieldMatch, Route, Target, To};
use crate::proxy::shadow::Shadow;
use crate::proxy::template::{Source, Template, TemplateValues};

use super::percent;

pub fn shown(snapshot: &Snapshot) -> Value {
    let routes = snapshot.routes.routes().iter().map(|route| one(snapshot, route));
    json!({ "routes": routes.collect::<Vec<_>>() })
}

fn one(snapshot: &Snapshot, route: &Route) -> Value {
    let auth = |AuthId(index)| snapshot.auth_names.get(index as usize).map(|name| &**name);
    let limits: Vec<&str> = route.limits.iter().map(|limit| &*limit.name).collect();
    json!({
        "name": &*route.name,
        "conditions": conditions(&route.conditions),
        "auth": route.conditions.auth.and_then(auth),
        "allow": fields("claim", &route.allow).collect::<Vec<_>>(),
        "authorizer": route.authorizer.as_ref().map(|authorizer| &*authorizer.name),
        "limits": limits,
        "canary": route.canary.as_deref().map(|canary| shown_canary(snapshot, canary)),
        "shadow": route.shadow.as_deref().map(|shadow| shown_shadow(snapshot, shadow)),
        "action": action(snapshot, &route.action),
    })
}

fn conditions(conditions: &Conditions) -> Vec<String> {
    let lists = [
        alternatives("listener", &conditions.listeners),
        alternatives("host", &conditions.hosts),
        alternatives("path", &conditions.paths),
        alternatives("method", &conditions.methods),
        alternatives("content type", &conditions.content_types),
        alternatives("model", &conditions.models),
    ];
    let headers = fields("header", &conditions.headers);
    let query = fields("query parameter", &conditions.query);
    let claims = fields("claim", &conditions.claims);
    lists.into_iter().flatten().chain(headers).chain(query).chain(claims).collect()
}

fn alternatives<T: ToString>(what: &str, wanted: &[T]) -> Option<String> {
    let words: Vec<String> = wanted.iter().map(T::to_string).collect();
    (!words.is_empty()).then(|| format!("{what}: {}", words.join(" or ")))
}

fn fields(what: &str, fields: &[FieldMatch]) -> impl Iterator<Item = String> {
    fields.iter().map(move |FieldMatch { name, test }| match redact::is_secret(name) {
        true => format!("{what} {name}: {}", redact::REDACTED),
        false => format!("{what} {name}: {test}"),
    })
}

fn shown_canary(snapshot: &Snapshot, canary: &Canary) -> Value {
    json!({
        "to": &*snapshot.service(canary.to).name,
        "percent": percent(canary.share.now()),
        "header": fields("header", &canary.headers).collect::<Vec<_>>(),
    })
}

fn shown_shadow(snapshot: &Snapshot, shadow: &Shadow) -> Value {
    json!({ "to": &*snapshot.service(shadow.to).name, "percent": percent(shadow.share) })
}

fn action(snapshot: &Snapshot, action: &Action) -> Value {
    match action {
        Action::Forward(Target { to, otherwise }) => {
            let to = match to {
                To::Service(id) => snapshot.service(*id).name.to_string(),
                To::Template(template) => written(template),
            };
            let otherwise = otherwise.map(|id| &*snapshot.service(id).name);
            json!({ "kind": "forward", "to": to, "otherwise": otherwise })
        }
        Action::Redirect { status, location } => {
            json!({ "kind": "redirect", "status": status, "to": redact::text(&written(location)) })
        }
        Action::Respond { status, content_type, .. } => {
            json!({ "kind": "respond", "status": status, "content_type": &**content_type })
        }
    }
}

/// A template as its author wrote it.
fn written(template: &Template) -> String {
    let mut text = Vec::new();
    template.render(&AsWritten, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

struct AsWritten;

impl TemplateValues for AsWritten {
    fn write(&self, source: &Source, out: &mut Vec<u8>) -> bool {
        let (kind, name) = match source {
            Source::Header(name) => ("header", Some(name)),
            Source::Query(name) => ("query", Some(name)),
            Source::PathSegment(name) => ("path", Some(name)),
            Source::Cookie(name) => ("cookie", Some(name)),
            Source::Claim(name) => ("claim", Some(name)),
            Source::Host => ("host", None),
            Source::Path => ("path", None),
            Source::Method => ("method", None),
            Source::Scheme => ("scheme", None),
            Source::ClientIp => ("client.ip", None),
            Source::RequestId => ("request.id", None),
            Source::Route => ("route", None),
            Source::Model => ("model", None),
            Source::Uri => ("uri", None),
        };
        let placeholder = match name {
            Some(name) => format!("{{{kind}:{name}}}"),
            None => format!("{{{kind}}}"),
        };
        out.extend_from_slice(placeholder.as_bytes());
        true
    }
}
