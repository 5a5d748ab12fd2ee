//! Owns the two threads that may compute for long: they compile configurations, free old ones and give memory back to
//! the system. First on a thread of SCHED_IDLE, so that a worker on the same core hardly waits for it; on an ordinary
//! one when that has taken too long. Decides nothing and remembers nothing: jobs are given what
//! they need, and neither the workers nor the control loop ever make or free what is big.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::runtime::{cpus, memory, panics};

use super::signals;

/// A config file of up to this size is compiled in milliseconds (2,000 routes).
const SMALL_FILE_BYTES_MAX: u64 = 256 << 10;
/// How long a small and a large job make do with what the other threads leave, which is nothing where they never sleep.
/// Then it is begun again as an ordinary one: a thread without privileges cannot leave SCHED_IDLE (sched(7),
/// RLIMIT_NICE).
const SMALL_GIVES_WAY_MAX: Duration = Duration::from_millis(20);
const LARGE_GIVES_WAY_MAX: Duration = Duration::from_secs(2);
/// Between two looks for room among the ordinary thread's jobs, of which it always does the next.
const ROOM_WAIT: Duration = Duration::from_millis(1);
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
    give_way: fn(Size) -> Duration,
    purge: Option<Purge>,
}

/// A purge that was asked for.
struct Purge {
    asked: Instant,
    is_done: Arc<AtomicBool>,
}

type Job = Box<dyn FnOnce() + Send>;

struct Thread(SyncSender<Job>);

impl Size {
    /// A file that cannot be seen is small: the job will say why.
    pub fn of_file(file: &Path) -> Size {
        let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        if bytes <= SMALL_FILE_BYTES_MAX { Size::Small } else { Size::Large }
    }

    fn gives_way(self) -> Duration {
        match self {
            Size::Small => SMALL_GIVES_WAY_MAX,
            Size::Large => LARGE_GIVES_WAY_MAX,
        }
    }
}

impl Background {
    pub fn start() -> io::Result<Background> {
        let ordinary = Thread::start("background", || ())?;
        let idle = Thread::start("background-idle", give_way_to_all)?;
        Ok(Background { ordinary, idle, give_way: Size::gives_way, purge: None })
    }

    /// What the job returned; in words, why it did not. It may run twice at once, and the first answer counts: it must
    /// change nothing but what it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        size: Size,
        job: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<T, String> {
        let job = Arc::new(job);
        let Some(patient) = self.idle.ask(job.clone()) else { return self.urgently(job).await };
        tokio::pin!(patient);
        tokio::select! {
            answer = &mut patient => return answer,
            () = tokio::time::sleep((self.give_way)(size)) => {}
        }
        tokio::select! {
            answer = patient => answer,
            answer = self.urgently(job) => answer,
        }
    }

    async fn urgently<T: Send + 'static>(
        &self,
        job: Arc<impl Fn() -> T + Send + Sync + 'static>,
    ) -> Result<T, String> {
        loop {
            if let Some(answer) = self.ordinary.ask(job.clone()) {
                return answer.await;
            }
            tokio::time::sleep(ROOM_WAIT).await;
        }
    }

    /// Drops `garbage` on one of the threads, if possible the one that gives way. If too much waits for both, it is
    /// dropped here, which is slow but not wrong.
    pub fn free(&self, garbage: impl Send + 'static) {
        if let Err(job) = self.idle.give(Box::new(move || drop(garbage))) {
            let _ = self.ordinary.give(job);
        }
    }

    /// Has what was freed given back to the system, by the thread that gives way if that comes to it in time.
    pub fn purge(&mut self) {
        let purge = |is_done: Arc<AtomicBool>| -> Job {
            Box::new(move || {
                memory::purge();
                is_done.store(true, Relaxed);
            })
        };
        match &self.purge {
            Some(waiting) if !waiting.is_done.load(Relaxed) => {
                if waiting.asked.elapsed() > (self.give_way)(Size::Large) {
                    // No room there: asked again in a second.
                    let _ = self.ordinary.give(purge(waiting.is_done.clone()));
                }
            }
            _ => {
                let is_done = Arc::new(AtomicBool::new(false));
                if self.idle.give(purge(is_done.clone())).is_ok() {
                    self.purge = Some(Purge { asked: Instant::now(), is_done });
                }
            }
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

    /// The job's answer, some time; nothing if there is no room for it.
    fn ask<T: Send + 'static>(
        &self,
        job: Arc<impl Fn() -> T + Send + Sync + 'static>,
    ) -> Option<impl Future<Output = Result<T, String>>> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            // Whoever asked has an answer by now, or is gone at the end of the process.
            if !reply.is_closed() {
                let result = catch_unwind(AssertUnwindSafe(&*job));
                let _ = reply.send(result.map_err(panics::message));
            }
        };
        self.give(Box::new(job)).ok()?;
        Some(async {
            let result = answer.await.map_err(|_| "the background thread has ended")?;
            result.map_err(|message| format!("the background thread panicked: {message}"))
        })
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

/// If it cannot, a reload is felt and nothing else.
fn give_way_to_all() {
    cpus::give_way();
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
        let background = Background { give_way: |_| Duration::ZERO, ..Background::start().unwrap() };
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
        // And whoever wants an answer has it all the same.
        assert_eq!(wait(background.run(Size::Small, || 7)), Ok(7));
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
    fn every_job_gives_way() {
        // As long as the machine needs: this is not about the escalation.
        let background = Background { give_way: |_| Duration::MAX, ..Background::start().unwrap() };
        let policy = |size| {
            let stat = || std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let stat = wait(background.run(size, stat)).unwrap();
            // The 41st field (proc(5)); the name, which is the second, is in parentheses.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[41 - 3].parse::<i32>().unwrap()
        };
        assert_eq!(policy(Size::Small), libc::SCHED_IDLE);
        assert_eq!(policy(Size::Large), libc::SCHED_IDLE);
    }

    #[test]
    fn a_job_that_gets_no_time_is_done_as_an_ordinary_one_and_only_once() {
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
    fn a_purge_that_gets_no_time_is_done_by_the_ordinary_thread() {
        let (mut background, _hold) = busy();
        background.purge();
        let is_done = background.purge.as_ref().unwrap().is_done.clone();
        while !is_done.load(Relaxed) {
            background.purge();
            std::thread::yield_now();
        }
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
