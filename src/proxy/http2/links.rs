//! Owns the HTTP/2 connections of one worker to endpoints: which has room for another stream, and who makes the next one
//! while others wait for it. Opens none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::config::id_hash::IdHash;
use crate::config::snapshot::StableId;
use crate::error::Kind;
use crate::net::tls::Towards;
use crate::runtime::core::Core;

use super::Shared;

#[derive(Default)]
pub struct Links {
    by_endpoint: RefCell<HashMap<StableId, Group, IdHash>>,
}

#[derive(Default)]
struct Group {
    links: Vec<Rc<Shared>>,
    /// One at a time: what comes of it may do for all.
    attempt: Option<Rc<Attempt>>,
    /// It has agreed on HTTP/1.1 when it could have had either.
    speaks_http1: bool,
}

/// Whose turn it is to do something about a request without a connection.
pub enum Turned {
    Link(Rc<Shared>),
    /// Somebody connects already.
    Wait(Rc<Attempt>),
    Connect(Connecting),
    /// The endpoint speaks HTTP/1.1.
    Http1,
}

impl Links {
    /// A connection to it with room for a stream.
    pub fn find(&self, endpoint: StableId, towards: Option<&Towards>) -> Option<Rc<Shared>> {
        let mut by_endpoint = self.by_endpoint.borrow_mut();
        let group = by_endpoint.get_mut(&endpoint)?;
        if let Some(link) = group.links.iter().find(|link| link.may_open(towards)) {
            return Some(link.clone());
        }
        // What an earlier configuration secured, or did not, is not this one's.
        for spent in group.links.extract_if(.., |link| link.is_spent(towards)) {
            spent.end();
        }
        None
    }

    /// What a request has to do for one.
    pub fn turn(core: &Rc<Core>, endpoint: StableId, towards: Option<&Towards>) -> Turned {
        if let Some(link) = core.links.find(endpoint, towards) {
            return Turned::Link(link);
        }
        let mut by_endpoint = core.links.by_endpoint.borrow_mut();
        let group = by_endpoint.entry(endpoint).or_default();
        match &group.attempt {
            _ if group.speaks_http1 => Turned::Http1,
            Some(attempt) => Turned::Wait(attempt.clone()),
            None => {
                let attempt = Rc::<Attempt>::default();
                group.attempt = Some(attempt.clone());
                Turned::Connect(Connecting { core: core.clone(), endpoint, attempt })
            }
        }
    }

    /// Ends those to endpoints that are not `wanted` any more, and forgets those that have ended.
    pub fn sweep(&self, wanted: impl Fn(StableId) -> bool) {
        self.by_endpoint.borrow_mut().retain(|&endpoint, group| {
            group.links.retain(|link| !link.is_closed.get());
            if !wanted(endpoint) {
                group.links.drain(..).for_each(|link| link.end());
            }
            // Whether it still speaks the same is asked now and then.
            group.attempt.is_some() || !group.links.is_empty()
        });
    }
}

/// A connection that is being made, for those who wait for it.
#[derive(Default)]
pub struct Attempt {
    is_over: Cell<bool>,
    /// It led to nothing.
    failed: Cell<Option<Kind>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Attempt {
    /// Resolves when it is over; with an error, if that is what came of it.
    pub async fn over(&self) -> Option<Kind> {
        let mut place = None;
        poll_fn(|context| {
            if self.is_over.get() {
                return Poll::Ready(self.failed.get());
            }
            let mut waiting = self.waiting.borrow_mut();
            let place = *place.get_or_insert_with(|| {
                waiting.push(context.waker().clone());
                waiting.len() - 1
            });
            waiting[place].clone_from(context.waker());
            Poll::Pending
        })
        .await
    }
}

/// Held by who connects. If it drops without a result, one of those who wait has its turn.
pub struct Connecting {
    core: Rc<Core>,
    endpoint: StableId,
    attempt: Rc<Attempt>,
}

impl Connecting {
    /// The others wait until the endpoint has said how many streams it takes.
    pub fn connected(self, link: &Rc<Shared>) {
        let mut by_endpoint = self.core.links.by_endpoint.borrow_mut();
        by_endpoint.entry(self.endpoint).or_default().links.push(link.clone());
        drop(by_endpoint);
        link.connecting.replace(Some(self));
    }

    pub fn speaks_http1(self) {
        self.core.links.by_endpoint.borrow_mut().entry(self.endpoint).or_default().speaks_http1 = true;
    }

    pub fn failed(self, kind: Kind) {
        self.attempt.failed.set(Some(kind));
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(group) = self.core.links.by_endpoint.borrow_mut().get_mut(&self.endpoint) {
            group.attempt = None;
        }
        self.attempt.is_over.set(true);
        self.attempt.waiting.take().into_iter().for_each(Waker::wake);
    }
}
