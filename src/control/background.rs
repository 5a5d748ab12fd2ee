//! Owns the one thread that may compute for long: it compiles configurations and frees old ones, one job after the
//! other, under SCHED_IDLE, so that a worker on the same core hardly waits for it. Decides nothing; what is
//! big is made and freed here, so that neither the workers nor the control loop ever are.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::oneshot;

use crate::config::Registry;
use crate::runtime::panics;

use super::signals;

/// Jobs that wait. The control loop asks for one thing at a time; the rest is old configurations to free.
const JOBS_MAX: usize = 64;
/// As much as the main thread has: what the config's parser needs was tested there.
const STACK_BYTES: usize = 8 << 20;
/// The thread owns the registry: ids are given out nowhere else.
type Job = Box<dyn FnOnce(&mut Registry) + Send>;

pub struct Background {
    jobs: SyncSender<Job>,
}

impl Background {
    /// The thread ends when this is dropped.
    pub fn start(registry: Registry) -> io::Result<Background> {
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let thread = std::thread::Builder::new().name("background".into()).stack_size(STACK_BYTES);
        signals::with_blocked(|| thread.spawn(move || work(&receiver, registry)))?;
        Ok(Background { jobs })
    }

    /// What the job returned; in words, why it did not.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Registry) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let job = move |registry: &mut Registry| {
            let result = catch_unwind(AssertUnwindSafe(|| job(registry)));
            // Whoever asked may be gone, at the end of the process.
            let _ = reply.send(result.map_err(panics::message));
        };
        let gone = "the background thread has ended";
        self.jobs.try_send(Box::new(job)).map_err(|_| "the background thread is overloaded")?;
        let result = answer.await.map_err(|_| gone)?;
        result.map_err(|message| format!("the background thread panicked: {message}"))
    }

    /// Drops `garbage` there. If too much waits for that, it is dropped here, which is slow but not wrong.
    pub fn free(&self, garbage: impl Send + 'static) {
        let _ = self.jobs.try_send(Box::new(move |_| drop(garbage)));
    }
}

fn work(jobs: &Receiver<Job>, mut registry: Registry) {
    give_way_to_all();
    for job in jobs {
        job(&mut registry);
    }
}

/// A thread that wakes takes the core from one of SCHED_IDLE at once. Niceness does not do that: since Linux 6.6 the
/// one that runs keeps the core for its slice, until the next tick, whatever its weight; a worker waited 5 ms. Needs
/// no privilege, so it fails only where a sandbox forbids it, and then a reload is felt and nothing else.
fn give_way_to_all() {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread; the kernel reads `nothing`, a whole and valid struct, and keeps no pointer.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &nothing) };
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct TellsWhere(mpsc::Sender<String>);

    impl Drop for TellsWhere {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().name().unwrap_or_default().into());
        }
    }

    fn wait<T>(answer: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
    }

    #[test]
    fn garbage_is_dropped_on_the_background_thread() {
        let background = Background::start(Registry::new()).unwrap();
        let (tell, told) = mpsc::channel();
        background.free(TellsWhere(tell));
        assert_eq!(told.recv().unwrap(), "background");
    }

    #[test]
    fn a_job_that_panics_is_an_error_and_ends_nothing() {
        let background = Background::start(Registry::new()).unwrap();
        let error = wait(background.run(|_| -> u32 { panic!("no luck") })).unwrap_err();
        assert!(error.ends_with("panicked: no luck"), "{error}");
        assert_eq!(wait(background.run(|_| 7)), Ok(7));
    }

    #[test]
    fn it_gives_way_to_every_other_thread() {
        let background = Background::start(Registry::new()).unwrap();
        let policy =
            wait(background.run(|_| std::fs::read_to_string("/proc/thread-self/stat").unwrap())).unwrap();
        // The 41st field (proc(5)); the name, which is the second, is in parentheses.
        let fields: Vec<&str> = policy.rsplit(')').next().unwrap().split_whitespace().collect();
        assert_eq!(fields[41 - 3], libc::SCHED_IDLE.to_string());
    }
}
