//! Owns the answers of `hostile_origin_is_contained`: what a broken or hostile backend says, and what a client may see
//! of it. Data only: the test file runs it.

mod bodies;
mod heads;
mod timing;

use std::time::Duration;

pub struct Case {
    pub name: String,
    pub request: Asked,
    pub steps: Vec<Step>,
    pub want: Want,
}

/// What the client asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Get,
    Head,
    /// With a body of 100 KiB.
    Post,
}

/// What the backend does, in order; it closes after the last step.
#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// Sends until the gateway stops listening, at most this often.
    Repeat(Vec<u8>, usize),
    /// Waits a moment, so that what was sent is read alone.
    Pause(Duration),
    Reset,
    /// Believes that all is well, and answers further requests on this connection by their own target.
    Keep,
    /// Takes whatever comes, and says nothing more.
    Drain,
}

pub enum Want {
    /// A 502 of the gateway's own.
    BadGateway,
    /// A 502, or, if the head was relayed before the fault was seen, an end that no client takes for the body's.
    NotComplete,
    /// This status with this body, and nothing after it.
    Complete(u16, &'static [u8]),
    /// A 502, or this.
    Lenient(u16, &'static [u8]),
}

pub fn all() -> Vec<Case> {
    let mut table = Table(Vec::new());
    heads::add(&mut table);
    bodies::add(&mut table);
    timing::add(&mut table);
    table.0
}

pub struct Table(Vec<Case>);

impl Table {
    /// A GET answered by these bytes and a close.
    pub fn close(&mut self, name: &str, bytes: impl AsRef<[u8]>, want: Want) {
        self.steps(name, Asked::Get, vec![send(bytes)], want);
    }

    /// A GET answered by these bytes on a connection that stays open.
    pub fn keep(&mut self, name: &str, bytes: impl AsRef<[u8]>, want: Want) {
        self.steps(name, Asked::Get, vec![send(bytes), Step::Keep], want);
    }

    pub fn steps(&mut self, name: &str, request: Asked, steps: Vec<Step>, want: Want) {
        self.0.push(Case { name: name.into(), request, steps, want });
    }
}

pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

pub fn pause() -> Step {
    Step::Pause(Duration::from_millis(30))
}
