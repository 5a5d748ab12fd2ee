//! Owns the two stages that ask who a request is from: `identify` verifies what was presented, once for each way and only when
//! somebody wants to know; `authorise` turns away whom the route does not let in.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::snapshot::{AuthId, Snapshot};
use crate::error::{Error, Kind};
use crate::policy::identity::{Identified, Unknown};
use crate::policy::jwt::{Joined, Refusal, RemoteKeys};
use crate::policy::quota::Account;
use crate::runtime::core::Core;

use super::client::Client;
use super::exchange::Exchange;
use super::input::Identity;
use super::route::claim_holds;
use super::routed::{self, Routed};
use super::rule::Route;

/// Who a request is from, in each way that somebody has asked for.
#[derive(Default, Clone)]
pub struct Identities(RefCell<Vec<(AuthId, Identified)>>);

impl Identities {
    /// Who it is (`sub`), as far as somebody has asked and it was verified.
    pub fn user(&self) -> Option<String> {
        let known = self.0.borrow();
        known.iter().find_map(|(_, identified)| Some(identified.as_ref().ok()?.text("sub")?.into_owned()))
    }
}

impl Identity for Exchange {
    fn identified(&self, auth: AuthId) -> Identified {
        if let Some((_, known)) = self.identities.0.borrow().iter().find(|(id, _)| *id == auth) {
            return known.clone();
        }
        // A stream that has let go of its configuration has been asked for all that it may be.
        let Some(snapshot) = self.snapshot() else { return Err(Unknown::Absent) };
        let bytes = self.bytes();
        let presented = self.head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
        let identify = |is_new_welcome| {
            let certificate = self.client.certificate.as_ref();
            let verified = &mut self.core.verified.borrow_mut();
            snapshot.auth(auth).identify(presented.clone(), certificate, now(), verified, is_new_welcome)
        };
        let identified = match identify(false) {
            Err(Unknown::Unverified) if self.core.verifying.has_room(&self.core.turns) => {
                self.core.metrics.token_verified();
                self.core.verifying.spend(|| identify(true))
            }
            identified => identified,
        };
        self.identities.0.borrow_mut().push((auth, identified.clone()));
        identified
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Lets in whom the route lets in. Returns where their requests are counted, if they are.
pub fn authorise(exchange: &Exchange, rule: &Route) -> Result<Option<Arc<Account>>, Error> {
    let Some(auth) = rule.conditions.auth else { return Ok(None) };
    let Some(snapshot) = exchange.snapshot() else { return Err(Kind::Internal.into()) };
    let denied = |kind: Kind, why: Why| {
        let auth = snapshot.auth(auth);
        let realm = auth.takes_tokens().then(|| auth.realm.clone());
        Err(Error::with_source(kind, Denied { realm, why }))
    };
    let claims = match exchange.identified(auth) {
        Ok(claims) => claims,
        Err(Unknown::Refused(Refusal::NoKeys)) => return Err(Kind::KeysUnavailable.into()),
        // Whom only a certificate could let in can do nothing about it in another request.
        Err(unknown) if !snapshot.auth(auth).takes_tokens() => {
            return denied(Kind::Forbidden, Why::Unknown(unknown));
        }
        Err(unknown) => return denied(Kind::Unauthorized, Why::Unknown(unknown)),
    };
    match rule.allow.iter().find(|field| !claim_holds(field, &claims)) {
        Some(field) => denied(Kind::Forbidden, Why::Claim(field.name.clone())),
        None => Ok(claims.account().cloned()),
    }
}

/// What it takes to know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A turn of the core that has time for another new token.
    Turn,
    /// Newer keys: they are fetched from a URL, and none of those that are known here is the token's.
    Keys,
}

/// What is missing to know whom the route and all that was asked on the way to it want to know.
pub fn missing(exchange: &Exchange, routed: Option<&Routed>) -> Option<Missing> {
    if let Some(auth) = routed.and_then(|routed| routed.rule().conditions.auth) {
        let _ = exchange.identified(auth);
    }
    let known = exchange.identities.0.borrow();
    // Usually there is nothing but good.
    if known.iter().all(|(_, identified)| identified.is_ok()) {
        return None;
    }
    if known.iter().any(|(_, identified)| is_unverified(identified)) {
        return Some(Missing::Turn);
    }
    if !known.iter().any(|(_, identified)| lacks_key(identified)) {
        return None;
    }
    let snapshot = exchange.snapshot()?;
    lacking(&known, &snapshot).next().map(|_| Missing::Keys)
}

/// Waits until nothing is `missing` any more, or nothing that waiting helps with. Who asks may be somebody else afterwards, for whom there
/// is another route.
pub async fn settle(exchange: &mut Exchange, client: &mut Client, first: Missing) -> Result<(), Error> {
    let mut next = Some(first);
    let mut is_fetched = false;
    while let Some(missing) = next {
        match missing {
            Missing::Turn => wait_for_turn(exchange, client).await?,
            // Those that came are judged by.
            Missing::Keys if is_fetched => break,
            Missing::Keys => {
                wait_for_keys(exchange, client).await?;
                is_fetched = true;
            }
        }
        let routed = routed::route(exchange);
        next = self::missing(exchange, routed.as_ref().ok());
    }
    Ok(())
}

fn is_unverified(identified: &Identified) -> bool {
    matches!(identified, Err(Unknown::Unverified))
}

/// Longest wait for a turn with time for a token: beyond it so many new ones come that the core cannot keep up.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Afterwards one more token is verified, if none of another request's came in between.
async fn wait_for_turn(exchange: &mut Exchange, client: &mut Client) -> Result<(), Error> {
    exchange.core.metrics.token_waited();
    exchange.identities.0.borrow_mut().retain(|(_, identified)| !is_unverified(identified));
    let core = &exchange.core;
    let room = async {
        core.verifying.room(&core.turns).await;
        Ok(())
    };
    let Client { end, deadline, .. } = client;
    deadline.start(Kind::KeysUnavailable, TURN_WAIT);
    end.unless_gone(pin!(room), deadline).await?;
    core.timers.now();
    Ok(())
}

fn lacks_key(identified: &Identified) -> bool {
    matches!(identified, Err(Unknown::Refused(Refusal::UnknownKey | Refusal::NoKeys)))
}

/// The keys from URLs of which none fits.
fn lacking<'a>(
    known: &'a [(AuthId, Identified)],
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = &'a Arc<RemoteKeys>> {
    let lacking = known.iter().filter(|(_, identified)| lacks_key(identified));
    lacking.filter_map(|(auth, _)| snapshot.auth(*auth).jwt.as_ref()?.keys.remote())
}

/// Longest wait of a request for keys: an attempt that is under way, and the next one.
const KEYS_WAIT: Duration = Duration::from_secs(12);

/// Has newer keys fetched and waits for them, unless those that are known are new. Afterwards nobody is identified yet.
async fn wait_for_keys(exchange: &mut Exchange, client: &mut Client) -> Result<(), Error> {
    let Some(snapshot) = exchange.snapshot() else { return Err(Kind::Internal.into()) };
    let unknown = exchange.identities.0.take();
    let remote: Vec<Arc<RemoteKeys>> = lacking(&unknown, &snapshot).cloned().collect();
    let Client { end, deadline, .. } = client;
    for keys in remote {
        deadline.start(Kind::KeysUnavailable, KEYS_WAIT);
        match end.unless_gone(pin!(newer(&exchange.core, &keys)), deadline).await {
            // Then it is judged by the keys that there are.
            Ok(()) | Err(Error { kind: Kind::KeysUnavailable, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    exchange.core.timers.now();
    Ok(())
}

async fn newer(core: &Core, keys: &RemoteKeys) -> Result<(), Error> {
    let woken_at = core.waiters.place();
    let slot = woken_at.slot();
    let Joined::Until(attempts) = keys.join(core.id, slot, core.timers.now()) else { return Ok(()) };
    let _joined = Waits { keys, core: core.id, slot };
    poll_fn(|context| {
        woken_at.set(context.waker());
        if keys.attempts() >= attempts { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// In line for newer keys until this drops, whatever ends the wait.
struct Waits<'k> {
    keys: &'k RemoteKeys,
    core: usize,
    slot: u32,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.keys.leave(self.core, self.slot);
    }
}

/// Whoever asks is not let in.
#[derive(Debug)]
pub struct Denied {
    /// `None`: no token would help.
    realm: Option<Arc<str>>,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unknown(Unknown),
    /// This one is not what it must be. What that is, is not told.
    Claim(Box<str>),
}

impl Denied {
    /// RFC 6750 §3.
    pub fn challenge(&self) -> Option<String> {
        let realm = self.realm.as_ref()?;
        let error = match &self.why {
            Why::Unknown(Unknown::Absent) => return Some(format!("Bearer realm=\"{realm}\"")),
            Why::Unknown(Unknown::Unverified | Unknown::Refused(_)) => "invalid_token",
            Why::Claim(_) => "insufficient_scope",
        };
        // Names of claims are an operator's own words.
        let words = self.to_string().replace(['"', '\\'], "'");
        Some(format!("Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{words}\""))
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Unknown(unknown) => unknown.fmt(f),
            Why::Claim(name) => write!(f, "the token's claim {name} does not allow it"),
        }
    }
}

impl std::error::Error for Denied {}
