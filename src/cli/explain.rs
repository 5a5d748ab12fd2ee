//! Owns `tidegate explain`: which route a request takes and why not the ones before it. Makes a real head of
//! the arguments and uses the gateway's own parser, matcher and templates, so that it cannot disagree.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::snapshot::{AuthId, Listener, Snapshot};
use crate::config::{Registry, Resolutions};
use crate::control;
use crate::http::h1_parse::{Progress, parse_request};
use crate::http::head::{HeadLimits, RequestHead};
use crate::policy::identity::{Identified, Verified};
use crate::proxy::identify::now;
use crate::proxy::input::{Identity, RequestView, Values};
use crate::proxy::inspection::Inspection;
use crate::proxy::path::{Normalised, normalise};
use crate::proxy::peek::model_of;
use crate::proxy::route::claim_holds;
use crate::proxy::routed::{Destination, destination};
use crate::proxy::rule::{Action, Route, To};

pub fn explain(arguments: &[String]) -> ExitCode {
    let question = match Question::parse(arguments) {
        Ok(question) => question,
        Err(message) => return super::usage_error(&message),
    };
    let mut registry = Registry::new();
    let blueprint = match control::read_config(&question.file, &mut registry) {
        Ok((blueprint, _)) => blueprint,
        Err(diagnostics) => {
            eprintln!("{}", diagnostics.trim_end());
            return ExitCode::FAILURE;
        }
    };
    let snapshot = blueprint.snapshot(None, &mut registry, &Resolutions::new());
    match question.answer(&snapshot) {
        Ok((text, found)) => {
            print!("{text}");
            if found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            eprintln!("tidegate: {message}");
            ExitCode::FAILURE
        }
    }
}

struct Question {
    file: PathBuf,
    head: Vec<u8>,
    listener: Option<String>,
    body: Option<Vec<u8>>,
}

impl Question {
    fn parse(arguments: &[String]) -> Result<Question, String> {
        let (mut file, mut listener, mut headers, mut plain) = (None, None, Vec::new(), Vec::new());
        let mut body = None;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().cloned().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "-c" | "--config" => file = Some(PathBuf::from(value()?)),
                "-H" | "--header" => headers.push(value()?),
                "-l" | "--listener" => listener = Some(value()?),
                "-d" | "--data" => body = Some(body_of(&value()?)?),
                flag if flag.starts_with('-') => return Err(format!("unknown option `{flag}`")),
                _ => plain.push(argument.clone()),
            }
        }
        let file = file.ok_or("which configuration? add `-c FILE`")?;
        let [method, url] = plain.as_slice() else {
            return Err("expected METHOD and URL, for example `GET http://localhost/v2/models`".into());
        };
        Ok(Question { file, head: head_of(method, url, &headers)?, listener, body })
    }

    /// The explanation, and whether a route matched.
    fn answer(&self, snapshot: &Snapshot) -> Result<(String, bool), String> {
        let mut head = RequestHead::default();
        let parsed = parse_request(&self.head, &mut Progress::default(), &HeadLimits::default(), &mut head);
        match parsed {
            Ok(true) => {}
            Ok(false) => return Err("the request is refused with 400: a header is incomplete".into()),
            Err(error) => return Err(format!("the request is refused before routing: {error}")),
        }
        let mut normal = Vec::new();
        let path = match normalise(head.path.of(&self.head), &mut normal) {
            Normalised::Same => head.path.of(&self.head),
            Normalised::Changed => &normal,
            Normalised::Invalid => {
                return Err("the request is refused with 400: its path is malformed".into());
            }
        };
        let first = snapshot.listeners.first().map_or("", |listener| &listener.name);
        let listener = self.listener.as_deref().unwrap_or(first);
        let model = self.body.as_deref().and_then(|body| model_of(snapshot, body));
        let model = model.as_deref();
        let shown = Shown { snapshot, head: &head, bytes: &self.head };
        let view = || RequestView { head: &head, bytes: &self.head, path, listener, model, identity: &shown };
        Ok(describe(snapshot, &view, self.body.as_deref()))
    }
}

/// A body as it is written, or `@FILE`.
fn body_of(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read(file).map_err(|error| format!("{file} cannot be read: {error}")),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Who the request would be from.
struct Shown<'a> {
    snapshot: &'a Snapshot,
    head: &'a RequestHead,
    bytes: &'a [u8],
}

impl Identity for Shown<'_> {
    fn identified(&self, auth: AuthId) -> Identified {
        let fields = self.head.fields.iter();
        let presented = fields.map(|field| (field.name.of(self.bytes), field.value.of(self.bytes)));
        self.snapshot.auth(auth).identify(presented, None, now(), &mut Verified::default(), true)
    }
}

/// An HTTP/1.1 head as a client would send it. A URL may be a path only: the host is then "localhost".
fn head_of(method: &str, url: &str, headers: &[String]) -> Result<Vec<u8>, String> {
    let without_scheme = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let (authority, target) = match without_scheme {
        Some(rest) => match rest.find(['/', '?']) {
            Some(at) => (&rest[..at], rest[at..].to_owned()),
            None => (rest, "/".to_owned()),
        },
        None => ("localhost", url.to_owned()),
    };
    let target = if target.starts_with('?') { format!("/{target}") } else { target };
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    let has_host = headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:"));
    if !has_host {
        let _ = write!(head, "host: {authority}\r\n");
    }
    for header in headers {
        if !header.contains(':') {
            return Err(format!("`{header}` is no header; write 'Name: value'"));
        }
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

fn describe<'a>(
    snapshot: &Snapshot,
    view: &dyn Fn() -> RequestView<'a>,
    body: Option<&[u8]>,
) -> (String, bool) {
    let mut text = String::new();
    for (at, unmet) in snapshot.routes.explain(&view()) {
        let route = &snapshot.routes.routes()[at];
        match unmet {
            Some(unmet) => {
                let _ = writeln!(text, "  {:<24} no: {unmet}", route.name);
            }
            None => {
                let _ = writeln!(text, "> {:<24} matches", route.name);
                describe_identity(route, &view(), &mut text);
                if let Some(authorizer) = &route.authorizer {
                    let to = &snapshot.service(authorizer.to).name;
                    let _ = writeln!(
                        text,
                        "  if the authorizer {} lets it, which service {to} is",
                        authorizer.name
                    );
                }
                describe_check(route, &view(), body, &mut text);
                describe_action(snapshot, route, view(), &mut text);
                if let Some(shadow) = &route.shadow {
                    let (share, to) = (f64::from(shadow.share) / 10_000.0, &snapshot.service(shadow.to).name);
                    let _ = writeln!(text, "  {share} % of its requests have a shadow at service {to}");
                }
                return (text, true);
            }
        }
    }
    text.push_str("no route matches: the gateway answers 404\n");
    (text, false)
}

/// Who is let in, and whether that is who asks.
fn describe_identity(route: &Route, view: &RequestView<'_>, text: &mut String) {
    let Some(auth) = route.conditions.auth else { return };
    let _ = match view.identity.identified(auth) {
        Err(unknown) => writeln!(text, "  but is answered 401: {unknown}"),
        Ok(claims) => match route.allow.iter().find(|field| !claim_holds(field, &claims)) {
            Some(field) => writeln!(text, "  but is answered 403: claim {field}"),
            None => writeln!(
                text,
                "  asked by {}",
                claims.text("sub").as_deref().unwrap_or("somebody without `sub`")
            ),
        },
    };
}

/// Whether the body is what the route takes.
fn describe_check(route: &Route, view: &RequestView<'_>, body: Option<&[u8]>, text: &mut String) {
    let (Some(check), Some(body)) = (&route.check, body) else { return };
    let inspected = Inspection::of(check, view);
    let judged = inspected.and_then(|inspection| inspection.map_or(Ok(()), |found| found.take(body, true)));
    if let Err(error) = judged {
        let _ = writeln!(text, "  but is answered {}: {error}", error.status());
    }
}

fn describe_action(snapshot: &Snapshot, route: &Route, view: RequestView<'_>, text: &mut String) {
    let is_secure = |listener: &Listener| *listener.name == *view.listener && listener.tls.is_some();
    let scheme = if snapshot.listeners.iter().any(is_secure) { "https" } else { "http" };
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let values = Values { view, route, client, scheme, request_id: b"(made per request)" };
    let _ = match &route.action {
        Action::Respond { status, .. } => writeln!(text, "  answers {status} by itself"),
        Action::Redirect { status, location } => {
            let mut to = Vec::new();
            location.render(&values, &mut to);
            writeln!(text, "  redirects with {status} to {}", String::from_utf8_lossy(&to))
        }
        Action::Forward(target) => {
            let mut name = Vec::new();
            let wanted = match &target.to {
                To::Service(_) => None,
                To::Template(template) => {
                    let complete = template.render_service_name(&values, &mut name);
                    Some((String::from_utf8_lossy(&name).into_owned(), complete))
                }
            };
            match destination(snapshot, route, target, &values) {
                Some(found) => {
                    let service = snapshot.service(found.service());
                    let why = why_service(wanted, found);
                    let endpoints: Vec<String> =
                        service.endpoints.iter().map(|endpoint| endpoint.label.to_string()).collect();
                    writeln!(
                        text,
                        "  goes to service {}{why}\n  endpoints: {}",
                        service.name,
                        endpoints.join(", ")
                    )
                }
                None => writeln!(text, "  names no service that exists and has no `otherwise`: 404"),
            }
        }
    };
}

/// Why it is this service.
fn why_service(wanted: Option<(String, bool)>, found: Destination) -> String {
    match (found, wanted) {
        (Destination::Canary(_), _) => " (the route's canary)".into(),
        (Destination::Found(_), _) => " (named by its template)".into(),
        (_, None) => String::new(),
        (_, Some((name, true))) => format!(" (by `otherwise`: there is no service `{name}`)"),
        (_, Some((_, false))) => " (by `otherwise`: the request lacks what the template asks for)".into(),
    }
}
