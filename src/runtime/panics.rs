//! Owns the containment of panics: monoio does not catch them, so one would end a core. Every connection
//! task is wrapped; a panic ends that connection only and is counted.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Resolves to `Err` with the panic's message if polling `future` panics.
pub fn contain<F: Future>(future: F) -> Contained<F> {
    Contained { future: Some(Box::pin(future)) }
}

pub struct Contained<F> {
    /// `None` once it ended or panicked.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.future.as_mut() else { return Poll::Pending };
        // Unwind safety: after a panic the future is dropped and never polled again; what it shares with
        // others (pools, counters) is changed in single steps that cannot be left half done.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => {
                let broken = self.future.take();
                // What is left of it may panic once more while it is dropped; that tells nothing new.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
                Poll::Ready(Err(message(panic)))
            }
        }
    }
}

/// What a caught panic said.
pub fn message(panic: Box<dyn Any + Send>) -> String {
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
    fn a_panic_while_dropping_is_contained_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                if !std::thread::panicking() {
                    panic!("again");
                }
            }
        }
        let bomb = Bomb;
        let mut contained = Box::pin(contain(std::future::poll_fn(move |_| -> Poll<()> {
            let _held = &bomb;
            panic!("first")
        })));
        let polled = contained.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(polled, Poll::Ready(Err("first".into())));
    }

    #[test]
    fn a_value_passes() {
        let mut contained = Box::pin(contain(async { 7 }));
        let polled = contained.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(polled, Poll::Ready(Ok(7)));
    }
}
