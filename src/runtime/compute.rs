//! Owns the threads that do for requests what takes longer than a worker's turn: decoding images and converting large bodies. They
//! take what the workers leave of the cores. What waits for them is bounded in number here, and in bytes by whoever asks. Does not know
//! what it computes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::core::Core;
use super::mailbox::{Letter, Sender};
use super::panics;
use super::waiters::Place;

/// Threads end when the last of these is dropped.
pub struct Compute {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// A job has come.
    come: Condvar,
    /// One has come to an empty queue.
    begun: Condvar,
    jobs_max: usize,
    /// Where none of the threads that give way came to take a job for as long, one that gives way to nobody does.
    patience: Duration,
    /// Of the workers, in their order.
    mailboxes: Arc<[Sender]>,
    counts: Counts,
}

struct Queue {
    jobs: VecDeque<Arc<dyn Work>>,
    /// When a job was taken last.
    taken: Instant,
    is_over: bool,
}

/// Of all workers.
#[derive(Debug, Default)]
pub struct Counts {
    pub done: AtomicU64,
    /// Nobody waited for them any more when their turn came.
    pub left: AtomicU64,
    /// There were as many as may wait.
    pub refused: AtomicU64,
    pub panicked: AtomicU64,
}

/// Why a job has no result.
#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    /// As many wait as may.
    Full,
    /// It panicked, and said this.
    Panicked(String),
}

/// Jobs that may wait for each thread: some tens of milliseconds of images.
const JOBS_PER_THREAD_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_millis(200);
const STACK_BYTES: usize = 2 << 20;
/// A worker whose mailbox is full is asked again after this.
const MAILBOX_WAIT: Duration = Duration::from_millis(1);

impl Compute {
    /// `mailboxes`: of the workers, in their order. `give_way` is called first on each thread that is to leave the cores to the workers.
    /// Signals are to be blocked for whoever calls this, and so for the threads.
    pub fn start(threads: usize, mailboxes: Arc<[Sender]>, give_way: fn()) -> io::Result<Arc<Compute>> {
        Compute::start_with(threads, mailboxes, give_way, PATIENCE)
    }

    fn start_with(
        threads: usize,
        mailboxes: Arc<[Sender]>,
        give_way: fn(),
        patience: Duration,
    ) -> io::Result<Arc<Compute>> {
        let queue = Queue { jobs: VecDeque::new(), taken: Instant::now(), is_over: false };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            come: Condvar::new(),
            begun: Condvar::new(),
            jobs_max: threads * JOBS_PER_THREAD_MAX,
            patience,
            mailboxes,
            counts: Counts::default(),
        });
        let compute = Arc::new(Compute { shared: shared.clone() });
        let spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(body)
        };
        for number in 0..threads {
            let shared = shared.clone();
            spawn(
                format!("compute-{number}"),
                Box::new(move || {
                    give_way();
                    shared.work();
                }),
            )?;
        }
        spawn("compute-late".into(), Box::new(move || shared.work_where_others_do_not()))?;
        Ok(compute)
    }

    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Jobs that wait now.
    pub fn waiting(&self) -> usize {
        self.shared.queue().jobs.iter().filter(|job| !job.is_left()).count()
    }

    /// Has the work done for a task of `core`. A task that is dropped meanwhile takes its work back, unless it has begun.
    pub async fn run<T: Send + 'static>(
        &self,
        core: &Core,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        let place = core.waiters.place();
        let job = Arc::new(Job {
            state: Mutex::new(State::Waits(Box::new(work))),
            worker: core.id,
            slot: place.slot(),
        });
        self.shared.put(job.clone())?;
        let result = Awaited { job, place };
        poll_fn(|context| result.poll(context.waker())).await
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        self.shared.queue().is_over = true;
        self.shared.come.notify_all();
        self.shared.begun.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Arc<dyn Work>) -> Result<(), Failed> {
        let mut queue = self.queue();
        if queue.jobs.len() >= self.jobs_max {
            queue.jobs.retain(|job| !job.is_left());
        }
        if queue.jobs.len() >= self.jobs_max {
            self.counts.refused.fetch_add(1, Relaxed);
            return Err(Failed::Full);
        }
        let is_first = queue.jobs.is_empty();
        queue.jobs.push_back(job);
        if is_first {
            // What went before is no sign of how long this one waits.
            queue.taken = Instant::now();
            self.begun.notify_one();
        }
        drop(queue);
        self.come.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut queue = self.queue();
        while !queue.is_over {
            match queue.take() {
                Some(job) => {
                    drop(queue);
                    self.run(&*job);
                    drop(job);
                    queue = self.queue();
                }
                None => queue = self.come.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// A machine that others keep busy leaves nothing to who gives way: one job at a time is then done all the same.
    fn work_where_others_do_not(&self) {
        let mut queue = self.queue();
        while !queue.is_over {
            if queue.jobs.is_empty() {
                queue = self.begun.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let since = queue.taken.elapsed();
            if since < self.patience {
                let waited = self.begun.wait_timeout(queue, self.patience - since);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let Some(job) = queue.take() {
                drop(queue);
                self.run(&*job);
                drop(job);
                queue = self.queue();
            }
        }
    }

    fn run(&self, job: &dyn Work) {
        let count = match job.run() {
            Ended::Done => &self.counts.done,
            Ended::Panicked => &self.counts.panicked,
            Ended::Left => {
                self.counts.left.fetch_add(1, Relaxed);
                return;
            }
        };
        count.fetch_add(1, Relaxed);
        let (worker, slot) = job.wakes();
        // A worker that does not turn for so long has a mailbox that fills up. Who waits there is not to be forgotten.
        while !job.is_left() && self.mailboxes[worker].send(Letter::Wake { slots: vec![slot] }).is_err() {
            std::thread::sleep(MAILBOX_WAIT);
        }
    }
}

impl Queue {
    fn take(&mut self) -> Option<Arc<dyn Work>> {
        let job = self.jobs.pop_front()?;
        self.taken = Instant::now();
        Some(job)
    }
}

/// A job, whatever it makes.
trait Work: Send + Sync {
    fn run(&self) -> Ended;
    fn is_left(&self) -> bool;
    /// Who waits for it: a worker, and the place of its task there.
    fn wakes(&self) -> (usize, u32);
}

enum Ended {
    Done,
    Panicked,
    Left,
}

struct Job<T> {
    state: Mutex<State<T>>,
    worker: usize,
    slot: u32,
}

/// ```text
/// Waits ──▶ Runs ──▶ Is ──▶ Left
///   └─────────┴────────────▶ Left   nobody waits any more
/// ```
enum State<T> {
    Waits(Box<dyn FnOnce() -> T + Send>),
    Runs,
    Is(Result<T, Failed>),
    Left,
}

impl<T> Job<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send> Work for Job<T> {
    fn run(&self) -> Ended {
        let work = {
            let mut state = self.state();
            match std::mem::replace(&mut *state, State::Runs) {
                State::Waits(work) => work,
                other => {
                    *state = other;
                    return Ended::Left;
                }
            }
        };
        let result =
            catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Failed::Panicked(panics::message(panic)));
        let ended = if result.is_ok() { Ended::Done } else { Ended::Panicked };
        let mut state = self.state();
        if let State::Runs = *state {
            *state = State::Is(result);
        }
        ended
    }

    fn is_left(&self) -> bool {
        matches!(*self.state(), State::Left)
    }

    fn wakes(&self) -> (usize, u32) {
        (self.worker, self.slot)
    }
}

/// A job that a task waits for; left when this drops.
struct Awaited<T> {
    job: Arc<Job<T>>,
    place: Place,
}

impl<T> Awaited<T> {
    fn poll(&self, waker: &Waker) -> Poll<Result<T, Failed>> {
        self.place.set(waker);
        let mut state = self.job.state();
        match std::mem::replace(&mut *state, State::Left) {
            State::Is(result) => Poll::Ready(result),
            other => {
                *state = other;
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        // What it held is freed at once, and not when its turn comes.
        let state = std::mem::replace(&mut *self.job.state(), State::Left);
        drop(state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;
    use crate::runtime::mailbox::{Letters, mailbox};

    struct Scene {
        compute: Arc<Compute>,
        letters: Letters,
    }

    fn scene(threads: usize, patience: Duration) -> Scene {
        let (sender, receiver) = mailbox().unwrap();
        let compute = Compute::start_with(threads, Arc::new([sender]), || (), patience).unwrap();
        Scene { compute, letters: receiver.into_letters() }
    }

    impl Scene {
        fn put<T: Send + 'static>(
            &self,
            work: impl FnOnce() -> T + Send + 'static,
        ) -> Result<Arc<Job<T>>, Failed> {
            let state = Mutex::new(State::Waits(Box::new(work)));
            let job = Arc::new(Job { state, worker: 0, slot: 7 });
            self.compute.shared.put(job.clone())?;
            Ok(job)
        }

        fn until_woken(&mut self) {
            loop {
                if let Some(Letter::Wake { slots }) = self.letters.take().pop_front() {
                    assert_eq!(slots, [7]);
                    return;
                }
                std::thread::yield_now();
            }
        }
    }

    fn result<T>(job: &Job<T>) -> Option<Result<T, Failed>> {
        match std::mem::replace(&mut *job.state(), State::Left) {
            State::Is(result) => Some(result),
            _ => None,
        }
    }

    #[test]
    fn who_waits_is_woken_when_the_result_is_there() {
        let mut scene = scene(2, PATIENCE);
        let job = scene.put(|| 6 * 7).unwrap();
        scene.until_woken();
        assert_eq!(result(&job), Some(Ok(42)));
        let job = scene.put(|| -> u32 { panic!("no luck") }).unwrap();
        scene.until_woken();
        assert_eq!(result(&job), Some(Err(Failed::Panicked("no luck".into()))));
        assert_eq!(scene.compute.counts().done.load(Relaxed), 1);
        assert_eq!(scene.compute.counts().panicked.load(Relaxed), 1);
    }

    /// The only thread is busy until the sender is dropped.
    fn busy(scene: &Scene) -> mpsc::Sender<()> {
        let (hold, held) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel::<()>();
        let _ = scene.put(move || {
            let _ = begun.send(());
            let _ = held.recv();
        });
        has_begun.recv().unwrap();
        hold
    }

    #[test]
    fn what_waits_is_bounded_and_what_was_left_makes_room() {
        const NEVER: Duration = Duration::from_secs(1 << 20);
        let scene = scene(1, NEVER);
        let hold = busy(&scene);
        let ran = Arc::new(AtomicUsize::new(0));
        let jobs: Vec<_> = (0..JOBS_PER_THREAD_MAX)
            .map(|_| {
                let (ran, held) = (ran.clone(), Arc::new(()));
                let weak = Arc::downgrade(&held);
                let job = scene.put(move || {
                    let _held = held;
                    ran.fetch_add(1, Relaxed);
                });
                (job.unwrap(), weak)
            })
            .collect();
        assert_eq!(scene.put(|| ()).err(), Some(Failed::Full));
        for (job, held) in &jobs {
            *job.state() = State::Left;
            assert!(held.upgrade().is_none(), "what a job held is freed when it is left");
        }
        assert_eq!(scene.compute.waiting(), 0);
        assert!(scene.put(|| ()).is_ok());
        drop(hold);
        while scene.compute.waiting() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(ran.load(Relaxed), 0, "what was left is not done");
    }

    #[test]
    fn where_nobody_who_gives_way_comes_another_does() {
        let mut scene = scene(1, Duration::from_millis(1));
        let _hold = busy(&scene);
        let job = scene.put(|| std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
        scene.until_woken();
        assert_eq!(result(&job), Some(Ok("compute-late".into())));
    }
}
