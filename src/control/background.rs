//! Owns the two threads that may compute for long: they compile configurations and free old ones. What is small is
//! done at once on an ordinary thread; what is large on one of SCHED_IDLE, so that a worker on the same core
//! hardly waits for it, until that has taken too long. Decides nothing and remembers nothing: jobs are given what
//! they need, and neither the workers nor the control loop ever make or free what is big.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::runtime::cpus;
use crate::runtime::panics;

use super::signals;

/// A config file of up to this size is compiled in milliseconds (2,000 routes), so nobody has to give way to anyone.
const SMALL_FILE_BYTES_MAX: u64 = 256 << 10;
/// How long a large job makes do with what the other threads leave, which is nothing where they never sleep. Then it
/// is begun again as an ordinary one: a thread without privileges cannot leave SCHED_IDLE (sched(7), RLIMIT_NICE).
const GIVE_WAY_MAX: Duration = Duration::from_secs(2);
/// Jobs that wait for one thread. The control loop asks for one thing at a time; the rest is garbage.
const JOBS_MAX: usize = 8;
/// As much as the main thread has: what the config's parser needs was tested there.
const STACK_BYTES: usize = 8 << 20;

/// What a job is about to work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    Small,
    Large,
}

/// Its threads end when this is dropped.
pub struct Background {
    ordinary: Thread,
    idle: Thread,
    give_way: Duration,
}

type Job = Box<dyn FnOnce() + Send>;

struct Thread(SyncSender<Job>);

impl Size {
    /// A file that cannot be seen is small: the job will say why.
    pub fn of_file(file: &Path) -> Size {
        let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        if bytes <= SMALL_FILE_BYTES_MAX { Size::Small } else { Size::Large }
    }
}

impl Background {
    pub fn start() -> io::Result<Background> {
        let ordinary = Thread::start("background", || ())?;
        let idle = Thread::start("background-idle", give_way_to_all)?;
        Ok(Background { ordinary, idle, give_way: GIVE_WAY_MAX })
    }

    /// What the job returned; in words, why it did not. A large job may run twice at once, and the first answer
    /// counts: it must change nothing but what it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        size: Size,
        job: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<T, String> {
        let job = Arc::new(job);
        if size == Size::Small {
            return self.ordinary.ask(job).await;
        }
        let patient = self.idle.ask(job.clone());
        tokio::pin!(patient);
        tokio::select! {
            answer = &mut patient => return answer,
            () = tokio::time::sleep(self.give_way) => {}
        }
        tokio::select! {
            answer = patient => answer,
            answer = self.ordinary.ask(job) => answer,
        }
    }

    /// Drops `garbage` on one of the threads, if possible the one that gives way. If too much waits for both, it is
    /// dropped here, which is slow but not wrong.
    pub fn free(&self, garbage: impl Send + 'static) {
        if let Err(job) = self.idle.give(Box::new(move || drop(garbage))) {
            let _ = self.ordinary.give(job);
        }
    }
}

impl Thread {
    fn start(name: &str, prepare: fn()) -> io::Result<Thread> {
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        signals::with_blocked(|| thread.spawn(move || work(&receiver, prepare)))?;
        Ok(Thread(jobs))
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: Arc<impl Fn() -> T + Send + Sync + 'static>,
    ) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            // Whoever asked has an answer by now, or is gone at the end of the process.
            if !reply.is_closed() {
                let result = catch_unwind(AssertUnwindSafe(&*job));
                let _ = reply.send(result.map_err(panics::message));
            }
        };
        self.give(Box::new(job)).map_err(|_| "the background thread is overloaded")?;
        let result = answer.await.map_err(|_| "the background thread has ended")?;
        result.map_err(|message| format!("the background thread panicked: {message}"))
    }

    /// Gives the job back if there is no room for it.
    fn give(&self, job: Job) -> Result<(), Job> {
        self.0.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }
}

fn work(jobs: &Receiver<Job>, prepare: fn()) {
    prepare();
    for job in jobs {
        job();
    }
}

/// A thread that wakes takes the core from one of SCHED_IDLE at once. Niceness does not do that: since Linux 6.6 the
/// one that runs keeps the core for its slice, until the next tick, whatever its weight; a worker waited 5 ms. Needs
/// no privilege, so it fails only where a sandbox forbids it, and then a reload is felt and nothing else.
fn give_way_to_all() {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread; the kernel reads `nothing`, a whole and valid struct, and keeps no pointer.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &nothing) };
    // On one core, and the one that fewest workers have: free to move, such a thread was seen to hold up a worker for
    // milliseconds just after the kernel had moved it to the worker's core (perf sched timehist).
    if let Some(&last) = cpus::allowed().last() {
        let _ = cpus::pin_current_thread(last);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;

    struct TellsWhere(mpsc::Sender<String>);

    impl Drop for TellsWhere {
        fn drop(&mut self) {
            let _ = self.0.send(thread_name());
        }
    }

    fn thread_name() -> String {
        std::thread::current().name().unwrap_or_default().into()
    }

    fn wait<T>(answer: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(answer)
    }

    /// The idle thread is busy until the sender is dropped.
    fn busy() -> (Background, mpsc::Sender<()>) {
        let background = Background { give_way: Duration::ZERO, ..Background::start().unwrap() };
        let (hold, held) = mpsc::channel::<()>();
        assert!(background.idle.give(Box::new(move || _ = held.recv())).is_ok());
        (background, hold)
    }

    #[test]
    fn garbage_is_dropped_on_the_thread_that_gives_way() {
        let background = Background::start().unwrap();
        let (tell, told) = mpsc::channel();
        background.free(TellsWhere(tell));
        assert_eq!(told.recv().unwrap(), "background-idle");
    }

    #[test]
    fn garbage_does_not_pile_up_behind_a_thread_that_gets_no_time() {
        let (background, _hold) = busy();
        let (tell, told) = mpsc::channel();
        for _ in 0..2 * JOBS_MAX {
            background.free(TellsWhere(tell.clone()));
        }
        assert_ne!(told.recv().unwrap(), "background-idle");
    }

    #[test]
    fn a_job_that_panics_is_an_error_and_ends_nothing() {
        let background = Background::start().unwrap();
        for size in [Size::Small, Size::Large] {
            let error = wait(background.run(size, || -> u32 { panic!("no luck") })).unwrap_err();
            assert!(error.ends_with("panicked: no luck"), "{error}");
            assert_eq!(wait(background.run(size, || 7)), Ok(7));
        }
    }

    #[test]
    fn only_what_is_large_gives_way() {
        // As long as the machine needs: this is not about the escalation.
        let background = Background { give_way: Duration::MAX, ..Background::start().unwrap() };
        let policy = |size| {
            let stat = || std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let stat = wait(background.run(size, stat)).unwrap();
            // The 41st field (proc(5)); the name, which is the second, is in parentheses.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[41 - 3].parse::<i32>().unwrap()
        };
        assert_eq!(policy(Size::Small), libc::SCHED_OTHER);
        assert_eq!(policy(Size::Large), libc::SCHED_IDLE);
    }

    #[test]
    fn a_large_job_that_gets_no_time_is_done_as_an_ordinary_one_and_only_once() {
        let (background, hold) = busy();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let job = {
            let ran = ran.clone();
            move || ran.lock().unwrap().push(thread_name())
        };
        wait(background.run(Size::Large, job)).unwrap();
        drop(hold);
        // Comes after what was left on the idle thread.
        let (tell, told) = mpsc::channel();
        background.free(TellsWhere(tell));
        assert_eq!(told.recv().unwrap(), "background-idle");
        assert_eq!(*ran.lock().unwrap(), ["background"]);
    }

    #[test]
    fn ten_routes_are_small_and_ten_thousand_are_not() {
        let file = std::env::temp_dir().join(format!("tidegate-size-{}.toml", std::process::id()));
        let route = "[[route]]\nmatch = { path = \"/a\" }\nto = \"a\"\n";
        let size = |routes: usize| {
            std::fs::write(&file, route.repeat(routes)).unwrap();
            Size::of_file(&file)
        };
        let sizes = [size(10), size(10_000)];
        std::fs::remove_file(&file).unwrap();
        assert_eq!(sizes, [Size::Small, Size::Large]);
        assert_eq!(Size::of_file(&file), Size::Small);
    }
}
