//! Owns how the two directions of a connection that only moves bytes end together. Moves nothing.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::net::tcp::Stream;

/// Two ends, and which of them took no more. A reset shows itself once: where a write had to fail of it, the read behind it
/// finds what looks like an orderly end.
#[derive(Default)]
pub struct Broken {
    one: Cell<bool>,
    other: Cell<bool>,
}

/// A direction's view of that.
#[derive(Clone, Copy)]
pub struct Ends<'b> {
    sender: &'b Cell<bool>,
    receiver: &'b Cell<bool>,
}

impl Broken {
    /// Of the direction from one to the other, and of the one back.
    pub fn ends(&self) -> (Ends<'_>, Ends<'_>) {
        let (one, other) = (&self.one, &self.other);
        (Ends { sender: one, receiver: other }, Ends { sender: other, receiver: one })
    }
}

impl Ends<'_> {
    pub fn receiver_broke(self) {
        self.receiver.set(true);
    }

    /// Whether the end of what the sender says is one. In TLS it is said in words.
    pub fn is_end(self, from: &Stream) -> bool {
        !self.sender.get() || !from.is_plain()
    }
}

/// At which end a direction broke.
pub enum Failed<E> {
    /// Its sender is gone: nothing that he said is left.
    Reading(E),
    /// Its receiver takes no more. He may have said something before: that is still to be passed on.
    Writing(E),
}

/// Ends when both have, or when one broke and the other has nothing more to pass on. A receiver that takes no more may say an
/// orderly end of its own behind that: then it is one.
///
/// Takes its futures pinned where the caller made them: a future that is moved into another has its room twice.
pub async fn both<E>(
    mut one: Pin<&mut impl Future<Output = Result<(), Failed<E>>>>,
    mut other: Pin<&mut impl Future<Output = Result<(), Failed<E>>>>,
) -> Result<(), E> {
    let (mut one_ended, mut other_ended) = (false, false);
    poll_fn(|context| {
        if !one_ended && let Poll::Ready(result) = one.as_mut().poll(context) {
            one_ended = true;
            is_over(result, other_ended)?;
        }
        if !other_ended && let Poll::Ready(result) = other.as_mut().poll(context) {
            other_ended = true;
            is_over(result, one_ended)?;
        }
        if one_ended && other_ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// An error if the other direction need not be waited for.
fn is_over<E>(result: Result<(), Failed<E>>, other_ended: bool) -> Result<(), E> {
    match result {
        Err(Failed::Writing(_)) if !other_ended => Ok(()),
        Err(Failed::Writing(error) | Failed::Reading(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}
