//! Owns the containment of panics: monoio does not catch them, so one would end a core. Every connection
//! task is wrapped; a panic ends that connection only and is counted.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Resolves to `Err` with the panic's message if polling `future` panics.
pub fn contain<F: Future>(future: F) -> Contained<F> {
    Contained { future: Box::pin(future) }
}

pub struct Contained<F> {
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Unwind safety: after a panic the future is dropped by its owner and never polled again; what it
        // shares with others (pools, counters) is changed in single steps that cannot be left half done.
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(message(panic))),
        }
    }
}

fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"(no message)").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let mut contained = Box::pin(contain(async { panic!("broken {}", 7) }));
        let polled = contained.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err::<(), _>("broken 7".into())));
    }

    #[test]
    fn a_value_passes() {
        let mut contained = Box::pin(contain(async { 7 }));
        let polled = contained.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(polled, Poll::Ready(Ok(7)));
    }
}
