//! Owns the stage that finds a request's route and service in its snapshot. Changes nothing.

use std::sync::Arc;

use crate::config::snapshot::{Service, ServiceId, Snapshot};
use crate::error::{Error, Kind};
use crate::http::head::Method;
use crate::runtime::core::{Held, SnapshotRef};

use super::authorizer::Authorizer;
use super::canary::Canary;
use super::cors::{self, Asked};
use super::exchange::Exchange;
use super::input::{RequestView, Values};
use super::rule::{Action, Route, Target, To};

/// A request's route, and the service it goes to if the route forwards.
pub struct Routed {
    snapshot: SnapshotRef,
    rule: Rule,
    service: Option<ServiceId>,
    is_shadow: bool,
}

/// By what a request goes.
#[derive(Clone)]
enum Rule {
    /// Of the snapshot.
    Route(usize),
    /// It asks this one.
    Authorizer(Arc<Authorizer>),
}

impl Routed {
    pub fn snapshot(&self) -> &Held {
        &self.snapshot
    }

    pub fn held(&self) -> SnapshotRef {
        SnapshotRef::clone(&self.snapshot)
    }

    /// Notes the route and the service.
    pub fn seen_by(&self, exchange: &Exchange) {
        if let Rule::Route(index) = self.rule {
            exchange.saw_route(index);
        }
        self.service.iter().for_each(|service| exchange.saw_service(*service));
    }

    pub fn rule(&self) -> &Route {
        match &self.rule {
            Rule::Route(index) => &self.snapshot.routes.routes()[*index],
            Rule::Authorizer(authorizer) => &authorizer.route,
        }
    }

    /// The same request's shadow, which goes there.
    pub fn towards(&self, service: ServiceId) -> Routed {
        Routed { rule: self.rule.clone(), snapshot: self.held(), service: Some(service), is_shadow: true }
    }

    /// For another request on behalf of the same one.
    pub fn again(&self) -> Routed {
        let Routed { rule, service, is_shadow, .. } = self;
        Routed { snapshot: self.held(), rule: rule.clone(), service: *service, is_shadow: *is_shadow }
    }

    /// A question about it.
    pub fn asking(&self, authorizer: Arc<Authorizer>) -> Routed {
        let service = Some(authorizer.to);
        Routed { rule: Rule::Authorizer(authorizer), snapshot: self.held(), service, is_shadow: false }
    }

    /// The route's canary, and whether the request goes to it. A shadow is on neither side.
    pub fn canary(&self) -> Option<(&Canary, bool)> {
        let canary = self.rule().canary.as_deref().filter(|_| !self.is_shadow)?;
        Some((canary, self.service == Some(canary.to)))
    }

    pub fn service(&self) -> Option<&Arc<Service>> {
        self.service.map(|id| self.snapshot.service(id))
    }
}

/// First match in file order, then the service that its `to` names for this request.
pub fn route(exchange: &Exchange) -> Result<Routed, Error> {
    let Some(snapshot) = exchange.snapshot() else { return Err(Kind::Internal.into()) };
    let seen = view(exchange);
    // A preflight goes where what it asks for would go, if that route has an answer to it.
    let asked = cors::preflight(exchange)
        .and_then(|method| snapshot.routes.select_index(&Asked { input: &seen, method }))
        .filter(|&found| snapshot.routes.routes()[found].cors.is_some());
    let found = asked.or_else(|| snapshot.routes.select_index(&seen)).ok_or(Kind::NoRoute)?;
    exchange.saw_route(found);
    let rule = &snapshot.routes.routes()[found];
    let service = match &rule.action {
        // A tunnel carries requests that no route sees: only a route that asks for CONNECT opens one.
        Action::Forward(_) if exchange.head.method == Method::Connect && !names_connect(rule) => {
            return Err(Kind::MethodNotAllowed.into());
        }
        Action::Forward(target) => {
            let values = values(exchange, rule);
            let service = destination(&snapshot, rule, target, &values).ok_or(Kind::NoService)?.service();
            exchange.saw_service(service);
            Some(service)
        }
        Action::Redirect { .. } | Action::Respond { .. } => None,
    };
    Ok(Routed { snapshot, rule: Rule::Route(found), service, is_shadow: false })
}

fn names_connect(rule: &Route) -> bool {
    rule.conditions.methods.iter().any(|method| &**method == "CONNECT")
}

/// Why a request goes to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// By `to`, which names one.
    Named(ServiceId),
    /// By `to`, whose template has found one.
    Found(ServiceId),
    Otherwise(ServiceId),
    Canary(ServiceId),
}

impl Destination {
    pub fn service(self) -> ServiceId {
        match self {
            Destination::Named(id)
            | Destination::Found(id)
            | Destination::Otherwise(id)
            | Destination::Canary(id) => id,
        }
    }
}

/// Where a route sends a request; also asked by `tidegate explain`. Who has asked for a version gets it, and no canary.
pub fn destination(
    snapshot: &Snapshot,
    rule: &Route,
    target: &Target,
    values: &Values<'_>,
) -> Option<Destination> {
    let found = match &target.to {
        To::Service(id) => Some(Destination::Named(*id)),
        To::Template(template) => {
            let mut name = Vec::new();
            let rendered = template.render_service_name(values, &mut name);
            let name = rendered.then(|| std::str::from_utf8(&name).ok()).flatten();
            name.and_then(|name| snapshot.service_by_name.get(name)).copied().map(Destination::Found)
        }
    };
    if let Some(Destination::Found(_)) = found {
        return found;
    }
    let canary = rule.canary.as_ref().filter(|canary| canary.takes(values));
    canary
        .map(|canary| Destination::Canary(canary.to))
        .or(found)
        .or(target.otherwise.map(Destination::Otherwise))
}

pub fn view(exchange: &Exchange) -> RequestView<'_> {
    RequestView {
        head: &exchange.head,
        bytes: exchange.bytes(),
        path: exchange.path(),
        listener: &exchange.client.listener,
        model: exchange.model.as_deref(),
        identity: exchange,
    }
}

pub fn values<'a>(exchange: &'a Exchange, route: &'a Route) -> Values<'a> {
    Values {
        view: view(exchange),
        route,
        client: exchange.client_ip(),
        scheme: exchange.client.scheme(),
        request_id: exchange.id.as_bytes(),
    }
}
