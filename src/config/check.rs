//! Owns what is wrong between the parts of a file: two of one name or address, references to what is not there,
//! routes that are never reached, services that are never used.
//! Every check is linear in the file (hash tables), so that 100,000 routes are checked in time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;

use crate::balance::pick::{Balance, HashKey};
use crate::config::diagnostic::{Problem, Report};
use crate::config::document::{Document, ListenerEntry, ProtocolWord, ServiceEntry};
use crate::config::document_route::{ActionEntry, RouteEntry, names_segment};
use crate::config::reach::Reach;
use crate::config::reader::Located;
use crate::config::suggest;
use crate::config::value::shown;
use crate::proxy::template::Source;

pub fn check(document: &Document<'_>, report: &Report<'_>) {
    let services: HashSet<&str> = document.services.iter().map(|service| service.name.value).collect();
    listeners(document, report);
    listener_services(document, &services, report);
    route_names(document, report);
    for route in &document.routes {
        listeners_of(route, document, report);
        services_of(route, &services, document, report);
        auth_of(route, document, report);
        authorizer_of(route, document, report);
        limits_of(route, document, report);
    }
    certificates_of(document, report);
    unreached(document, report);
    for authorizer in &document.authorizers {
        if let Some(to) = &authorizer.to {
            own_service_of(to, "authorizer.NAME.to", document, report);
        }
    }
    unused_services(document, report);
}

/// Listeners of one file: each is a socket on every worker.
const LISTENERS_MAX: usize = 1000;

fn listeners(document: &Document<'_>, report: &Report<'_>) {
    if document.listeners.is_empty() && !report.has_errors() {
        let help = "add a section `[listen.web]` with `address = \"0.0.0.0:8080\"`";
        report.absent(0..1, "listen", Problem::new("there is nothing to listen on").help(help));
    }
    if let Some(listener) = document.listeners.get(LISTENERS_MAX) {
        let problem = Problem::new(format!("a file has at most {LISTENERS_MAX} listeners"));
        report.error(listener.name.span.clone(), "listen", problem);
    }
    // TCP and UDP have ports of their own.
    let mut seen: HashMap<(bool, SocketAddr), String> = HashMap::new();
    if let Some(admin) = document.settings.admin {
        let asks = document.settings.admin_tls.as_ref().is_some_and(|tls| tls.verifier.is_some());
        if !admin.ip().is_loopback() && document.settings.admin_token.is_none() && !asks {
            let problem = Problem::new(format!("{admin} is no loopback address, and there is no token"));
            let help = "only /healthz and /readyz are served there; add `token_file`, or `client_roots` to its `tls`, or listen on 127.0.0.1";
            report.warning(document.start_only.admin.clone(), "admin.address", problem.help(help));
        }
        seen.insert((false, admin), "`admin`".to_owned());
    }
    for listener in &document.listeners {
        let Some(address) = &listener.address else { continue };
        let name = format!("`listen.{}`", listener.name.value);
        let is_udp = listener.protocol == ProtocolWord::Udp;
        if let Some(other) = seen.insert((is_udp, address.value), name) {
            let problem = Problem::new(format!("{other} has the address {} already", address.value));
            let key = format!("listen.{}.address", listener.name.value);
            report.error(address.span.clone(), key, problem.help("choose another port"));
        }
    }
}

/// The services that TCP and UDP listeners name: they must be there, and can use nothing that only a request, or
/// only a connection, has.
fn listener_services(document: &Document<'_>, services: &HashSet<&str>, report: &Report<'_>) {
    let by_name: HashMap<&str, _> =
        document.services.iter().map(|service| (service.name.value, service)).collect();
    for listener in document.listeners.iter().filter(|listener| listener.protocol.has_service()) {
        for (key, to) in destinations(listener) {
            known_service(to, &format!("listen.{}.{key}", listener.name.value), services, document, report);
            if let Some(service) = by_name.get(to.value) {
                listener_service(listener, to, service, report);
            }
        }
    }
}

/// The services that a listener itself names, each with the key that does.
fn destinations<'d, 'a>(
    listener: &'d ListenerEntry<'a>,
) -> impl Iterator<Item = (&'static str, &'d Located<&'a str>)> {
    let to = listener.to.iter().map(|to| ("to", to));
    to.chain(listener.sni.iter().map(|(_, service)| ("sni", service)))
}

fn listener_service(
    listener: &ListenerEntry<'_>,
    to: &Located<&str>,
    service: &ServiceEntry<'_>,
    report: &Report<'_>,
) {
    let (listener_name, service_name) = (listener.name.value, service.name.value);
    let is_udp = listener.protocol == ProtocolWord::Udp;
    let (protocol, one) = (listener.protocol.name(), if is_udp { "flow" } else { "connection" });
    let needs_request =
        matches!(&service.balance, Balance::ConsistentHash { key } if *key != HashKey::ClientAddress);
    if let (true, Some(hash_by)) = (needs_request, &service.hash_by) {
        let problem = Problem::new(format!(
            "a {one} of the {protocol} listener \"{listener_name}\" has nothing of this: its endpoint is drawn at random"
        ));
        let help = "write `hash_by = \"client\"`, or give the listener a service of its own";
        report.warning(hash_by.clone(), format!("service.{service_name}.hash_by"), problem.help(help));
    }
    if listener.protocol == ProtocolWord::TlsPassthrough && service.tls.is_some() {
        let problem = Problem::new(format!(
            "what is TLS already would be encrypted once more: \"{service_name}\" has `tls`"
        ));
        let help = "give the listener a service of its own, without `tls`";
        report.warning(to.span.clone(), format!("listen.{listener_name}.to"), problem.help(help));
    }
    if let (true, Some(_)) = (is_udp, &service.tls) {
        let problem = Problem::new(format!(
            "datagrams are sent as they are: the `tls` of \"{service_name}\" is for connections"
        ));
        let help = "give the listener a service of its own, without `tls`";
        report.warning(to.span.clone(), format!("listen.{listener_name}.to"), problem.help(help));
    }
    if let (true, Some(_)) = (is_udp, service.proxy_protocol) {
        let problem = Problem::new(format!(
            "datagrams carry no PROXY header: the endpoints of \"{service_name}\" are not told who the clients are"
        ));
        let help = "give the listener a service of its own, without `proxy_protocol`";
        report.warning(to.span.clone(), format!("listen.{listener_name}.to"), problem.help(help));
    }
}

/// Somebody must be asked for a certificate.
fn certificates_of(document: &Document<'_>, report: &Report<'_>) {
    let asks = |listener: &ListenerEntry<'_>| listener.tls.as_ref().is_some_and(|tls| tls.verifier.is_some());
    if document.listeners.iter().any(asks) {
        return;
    }
    for (auth, place) in document.auths.iter().filter_map(|auth| Some((auth, auth.certificate.as_ref()?))) {
        let problem = Problem::new("no listener asks its clients for a certificate");
        let help = "add `client_roots = \"clients.pem\"` to the `tls` of a listener";
        let key = format!("auth.{}.certificate", auth.name.value);
        report.warning(place.clone(), key, problem.help(help));
    }
}

fn route_names(document: &Document<'_>, report: &Report<'_>) {
    let mut seen: HashMap<&str, &Range<usize>> = HashMap::new();
    for name in document.routes.iter().filter_map(|route| route.name.as_ref()) {
        if let Some(earlier) = seen.insert(name.value, &name.span) {
            let line = report.source.position(earlier.start).0;
            let problem = Problem::new(format!("the route name \"{}\" is taken on line {line}", name.value));
            let help = "names keep metrics and logs apart; choose another";
            report.error(name.span.clone(), "route.name", problem.help(help));
        }
    }
}

fn listeners_of(route: &RouteEntry<'_>, document: &Document<'_>, report: &Report<'_>) {
    for wanted in &route.listeners {
        let names = || document.listeners.iter().map(|listener| listener.name.value);
        let known = document.listeners.iter().find(|listener| listener.name.value == wanted.value);
        match known.map(|listener| listener.protocol) {
            Some(protocol) if protocol.is_http() => continue,
            Some(other) => {
                let problem = Problem::new(format!(
                    "no route sees what comes to the {} listener \"{}\"",
                    other.name(),
                    wanted.value
                ));
                let help = "all of it goes where its `to` says; name HTTP listeners here";
                report.error(wanted.span.clone(), "route.match.listener", problem.help(help));
                continue;
            }
            None => {}
        }
        let meant = suggest::nearest(wanted.value, names());
        let help = did_you_mean(meant, || format!("add a section `[listen.{}]`", shown(wanted.value)));
        let problem = Problem::new(format!("there is no listener \"{}\"", shown(wanted.value)));
        report.absent(wanted.span.clone(), "route.match.listener", problem.help(help));
    }
}

fn services_of(
    route: &RouteEntry<'_>,
    services: &HashSet<&str>,
    document: &Document<'_>,
    report: &Report<'_>,
) {
    let Some(ActionEntry::Forward { to, text, otherwise }) = &route.action else { return };
    let known = |name: &Located<&str>, key: &str| known_service(name, key, services, document, report);
    match to.value.as_literal() {
        Some(name) => {
            known(&Located { span: to.span.clone(), value: name }, "route.to");
            if let Some(otherwise) = otherwise {
                let problem = Problem::new("`otherwise` is never used: `to` always names the same service");
                report.warning(otherwise.span.clone(), "route.otherwise", problem.help("remove it"));
            }
        }
        None => template_of(text, to, document, report),
    }
    if let Some(otherwise) = otherwise {
        known(otherwise, "route.otherwise");
    }
    if let Some(to) = route.canary.as_ref().and_then(|canary| canary.to.as_ref()) {
        known(to, "route.canary.to");
    }
    if let Some(to) = route.shadow.as_ref().and_then(|shadow| shadow.to.as_ref()) {
        own_service_of(to, "route.shadow.to", document, report);
        let answers = match &route.action {
            Some(ActionEntry::Forward { to, otherwise, .. }) => {
                [to.value.as_literal(), otherwise.as_ref().map(|found| found.value)]
            }
            _ => [None; 2],
        };
        if answers.contains(&Some(to.value)) {
            let what = format!(
                "service \"{}\" answers this route, too: what its shadows break, clients notice",
                shown(to.value)
            );
            let help = "name a service of its own, with the same endpoints if need be";
            report.warning(to.span.clone(), "route.shadow.to", Problem::new(what).help(help));
        }
    }
}

fn auth_of(route: &RouteEntry<'_>, document: &Document<'_>, report: &Report<'_>) {
    let Some(wanted) = &route.auth else { return };
    let names = || document.auths.iter().map(|auth| auth.name.value);
    if names().any(|name| name == wanted.value) {
        return;
    }
    unknown("auth", wanted, "route.auth", names(), report);
}

fn authorizer_of(route: &RouteEntry<'_>, document: &Document<'_>, report: &Report<'_>) {
    let Some(wanted) = &route.authorizer else { return };
    if let Some(found) = document.authorizers.iter().find(|found| found.name.value == wanted.value) {
        return for name in &found.says {
            if chooses_by(route, name) {
                let what = format!("the route is chosen by `{name}` before the authorizer says what it is");
                let help = "remove it from `match`, `to` or `canary`, or from `says`";
                report.error(wanted.span.clone(), "route.authorizer", Problem::new(what).help(help));
            }
        };
    }
    let names = document.authorizers.iter().map(|authorizer| authorizer.name.value);
    unknown("authorizer", wanted, "route.authorizer", names, report);
}

/// Says that there is no section of this kind by that name.
fn unknown<'n>(
    kind: &str,
    wanted: &Located<&str>,
    path: &str,
    names: impl Iterator<Item = &'n str>,
    report: &Report<'_>,
) {
    let name = shown(wanted.value);
    let help =
        did_you_mean(suggest::nearest(wanted.value, names), || format!("add a section `[{kind}.{name}]`"));
    let problem = Problem::new(format!("there is no {kind} \"{name}\""));
    report.absent(wanted.span.clone(), path, problem.help(help));
}

/// Whether the route, or its service, depends on this field of a request.
fn chooses_by(route: &RouteEntry<'_>, name: &str) -> bool {
    let is = |source: &Source| matches!(source, Source::Header(header) if header.eq_ignore_ascii_case(name));
    let to = match &route.action {
        Some(ActionEntry::Forward { to, .. }) => to.value.sources().any(is),
        _ => false,
    };
    let canary = route.canary.iter().any(|canary| {
        canary.by.as_ref().is_some_and(|by| is(&by.value))
            || canary.headers.iter().any(|field| *field.name == *name)
    });
    to || canary || route.conditions.headers.iter().any(|field| *field.name == *name)
}

/// Where requests of our own go: it must be there, and want to be told of no client's connection.
fn own_service_of(to: &Located<&str>, path: &'static str, document: &Document<'_>, report: &Report<'_>) {
    let Some(service) = document.services.iter().find(|service| service.name.value == to.value) else {
        let names = document.services.iter().map(|service| service.name.value);
        return unknown("service", to, path, names, report);
    };
    if service.proxy_protocol.is_some() {
        let what = "is told of connections by PROXY headers, and there is none here";
        let problem = Problem::new(format!("service \"{}\" {what}", shown(to.value)));
        report.error(to.span.clone(), path, problem.help("name a service without `proxy_protocol`"));
    }
}

/// They must be there, and can tell requests apart by nothing that the route's have not.
fn limits_of(route: &RouteEntry<'_>, document: &Document<'_>, report: &Report<'_>) {
    for wanted in &route.limits {
        let error = |problem: Problem| report.error(wanted.span.clone(), "route.limits", problem);
        let Some(limit) = document.limits.iter().find(|limit| limit.name.value == wanted.value) else {
            let names = document.limits.iter().map(|limit| limit.name.value);
            unknown("limit", wanted, "route.limits", names, report);
            continue;
        };
        for source in &limit.key {
            match source {
                Source::Claim(name) if route.auth.is_none() => {
                    let problem =
                        format!("the limit counts by the claim {name}, which nobody verifies in this route");
                    error(Problem::new(problem).help("add `auth = \"NAME\"` of an `[auth.NAME]`"));
                }
                Source::PathSegment(name) if !names_segment(&route.conditions.paths, name) => {
                    let problem = format!(
                        "the limit counts by the segment {name}, which not every path of this route names"
                    );
                    error(
                        Problem::new(problem)
                            .help(format!("write `{{{name}}}` for that segment in `match.path`")),
                    );
                }
                _ => {}
            }
        }
    }
}

fn known_service(
    name: &Located<&str>,
    key: &str,
    services: &HashSet<&str>,
    document: &Document<'_>,
    report: &Report<'_>,
) {
    if services.contains(name.value) {
        return;
    }
    unknown("service", name, key, document.services.iter().map(|service| service.name.value), report);
}

/// A template that no service's name fits is most likely misspelt.
fn template_of(text: &str, to: &Located<impl Sized>, document: &Document<'_>, report: &Report<'_>) {
    let start = text.split('{').next().unwrap_or("");
    let end = text.rsplit('}').next().unwrap_or("");
    let fits =
        |name: &str| name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end);
    if !document.services.iter().any(|service| fits(service.name.value)) {
        let problem = Problem::new(format!("no service has a name of the form \"{}\"", shown(text)));
        report.warning(to.span.clone(), "route.to", problem.help("check the part outside the braces"));
    }
}

fn did_you_mean(meant: Option<&str>, otherwise: impl FnOnce() -> String) -> String {
    meant.map_or_else(otherwise, |meant| format!("did you mean \"{meant}\"?"))
}

fn unreached(document: &Document<'_>, report: &Report<'_>) {
    let mut reach = Reach::default();
    for (index, route) in document.routes.iter().enumerate().filter(|(_, route)| route.sound) {
        let listeners = route.listeners.iter().map(|listener| listener.value);
        let Some(earlier) = reach.add(index, &route.conditions, listeners) else { continue };
        let earlier = &document.routes[earlier];
        let line = report.source.position(earlier.span.start).0;
        let named = earlier.name.as_ref().map(|name| format!(" \"{}\"", name.value)).unwrap_or_default();
        let problem = Problem::new(format!(
            "this route is never reached: the route{named} on line {line} takes all that it matches"
        ));
        let help = "the first match wins; move this route above that one, or remove it";
        report.warning(route.span.clone(), "route.match", problem.help(help));
    }
}

fn unused_services(document: &Document<'_>, report: &Report<'_>) {
    let direct = document.listeners.iter().filter(|listener| listener.protocol.has_service());
    let mut used: HashSet<&str> = direct.flat_map(destinations).map(|(_, to)| to.value).collect();
    used.extend(document.authorizers.iter().filter_map(|authorizer| Some(authorizer.to.as_ref()?.value)));
    for route in &document.routes {
        let Some(ActionEntry::Forward { to, otherwise, .. }) = &route.action else { continue };
        // A template may name any of them.
        let Some(name) = to.value.as_literal() else { return };
        used.insert(name);
        used.extend(otherwise.as_ref().map(|otherwise| otherwise.value));
        used.extend(route.canary.iter().filter_map(|canary| Some(canary.to.as_ref()?.value)));
        used.extend(route.shadow.iter().filter_map(|shadow| Some(shadow.to.as_ref()?.value)));
    }
    if report.has_errors() {
        return;
    }
    let has_http = document.listeners.iter().any(|listener| listener.protocol.is_http());
    if document.routes.is_empty() && has_http {
        let problem = Problem::new("there are no routes: every request is answered 404");
        report.warning(0..1, "route", problem.help("add a section `[[route]]` with `to = \"SERVICE\"`"));
        return;
    }
    if let Some(route) = document.routes.first().filter(|_| !has_http) {
        let problem = Problem::new("no request reaches the routes: no listener speaks HTTP");
        let help = "add a section `[listen.web]` with `address = \"0.0.0.0:8080\"`";
        report.warning(route.span.clone(), "route", problem.help(help));
    }
    for service in document.services.iter().filter(|service| !used.contains(service.name.value)) {
        let problem = Problem::new(format!("nothing uses the service \"{}\"", service.name.value));
        report.warning(service.name.span.clone(), format!("service.{}", service.name.value), problem);
    }
}
