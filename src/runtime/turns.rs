//! Owns giving way: a task that has had its share waits here until the driver has been asked once, so that
//! other connections, timers and the mailbox get their turn. A task that merely woke itself would keep the run
//! queue full, and monoio would not look for I/O; and a socket that is writable is no wait at all on epoll.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

pub struct Turns {
    /// Counts how often the driver came round to us.
    turn: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    /// Rung by the first who waits; the driver reports it when it is next asked.
    bell: UnixStream,
    heard: RefCell<Option<UnixStream>>,
    /// Turns that are still short for the sake of small requests.
    short: Cell<u32>,
}

/// What one direction of a connection moves in a row: about a quarter of a millisecond of work. For a while after a small request much
/// less, which costs large bodies a fifth more.
const TURN_BYTES: usize = 1 << 20;
const SHORT_TURN_BYTES: usize = 64 << 10;
/// A tenth of a second, or so.
const SHORT_TURNS: u32 = 2048;

impl Turns {
    pub fn new() -> io::Result<Rc<Turns>> {
        let (bell, heard) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Rc::new(Turns {
            turn: Cell::new(0),
            waiting: RefCell::default(),
            bell,
            heard: RefCell::new(Some(heard)),
            short: Cell::new(0),
        }))
    }

    /// Somebody waits for little: those who move much are to give way sooner.
    pub fn saw_small_request(&self) {
        self.short.set(SHORT_TURNS);
    }

    /// What a turn has.
    pub fn turn_bytes(&self) -> usize {
        if self.short.get() > 0 { SHORT_TURN_BYTES } else { TURN_BYTES }
    }

    /// One that moved much is over.
    pub fn end_turn(&self) {
        self.short.set(self.short.get().saturating_sub(1));
    }

    /// Counts how often the driver came round.
    pub fn now(&self) -> u64 {
        self.turn.get()
    }

    /// Resolves after the driver has been asked.
    pub async fn give_way(&self) {
        let since = self.turn.get();
        poll_fn(|context| {
            if self.turn.get() != since {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                // Full means rung already.
                let _ = (&self.bell).write(b"!");
            }
            waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The task that lets everybody on again; one per worker, runs for ever.
    pub async fn keep(self: Rc<Self>) {
        let Some(mut heard) = self.heard.borrow_mut().take() else { return };
        let Ok(readable) = heard.try_clone().and_then(monoio::net::UnixStream::from_std) else { return };
        loop {
            // Waits before anybody rings, so that the answer comes from the driver and not from an early look.
            if readable.readable(false).await.is_err() {
                return;
            }
            let mut rings = [0; 64];
            while matches!(heard.read(&mut rings), Ok(count) if count == rings.len()) {}
            self.turn.set(self.turn.get() + 1);
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }
}

/// Lets so many pass in one turn: what takes long must not come all at once.
pub struct Gate {
    most: u32,
    turn: Cell<u64>,
    passed: Cell<u32>,
}

impl Gate {
    pub fn new(most: u32) -> Gate {
        Gate { most, turn: Cell::new(0), passed: Cell::new(0) }
    }

    pub async fn enter(&self, turns: &Turns) {
        loop {
            if self.turn.replace(turns.now()) != turns.now() {
                self.passed.set(0);
            }
            if self.passed.get() < self.most {
                self.passed.set(self.passed.get() + 1);
                return;
            }
            turns.give_way().await;
        }
    }
}

/// What one kind of work may take of each turn. Its last piece may run over, so that there is always room for one.
pub struct Share {
    most: Duration,
    turn: Cell<u64>,
    spent: Cell<Duration>,
}

impl Share {
    pub fn new(most: Duration) -> Share {
        Share { most, turn: Cell::new(0), spent: Cell::default() }
    }

    pub fn has_room(&self, turns: &Turns) -> bool {
        if self.turn.replace(turns.now()) != turns.now() {
            self.spent.set(Duration::ZERO);
        }
        self.spent.get() < self.most
    }

    /// Does a piece of the work in this turn, in which there is room.
    pub fn spend<T>(&self, work: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let done = work();
        self.spent.set(self.spent.get() + since.elapsed());
        done
    }

    /// Resolves in a turn that has room.
    pub async fn room(&self, turns: &Turns) {
        while !self.has_room(turns) {
            turns.give_way().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::DriverChoice;
    use crate::runtime::driver;

    /// Tasks that always have something to do leave the timer alone, on every driver that works here.
    #[test]
    fn busy_tasks_starve_nobody() {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
            let driver = driver::choose(choice).unwrap().driver;
            let rounds = driver::run(driver, async {
                let turns = Turns::new().unwrap();
                monoio::spawn(turns.clone().keep());
                let rounds = Rc::new(Cell::new(0u64));
                for _ in 0..4 {
                    let (turns, rounds) = (turns.clone(), rounds.clone());
                    monoio::spawn(async move {
                        loop {
                            rounds.set(rounds.get() + 1);
                            turns.give_way().await;
                        }
                    });
                }
                monoio::time::sleep(std::time::Duration::from_millis(20)).await;
                rounds.get()
            });
            assert!(rounds.unwrap() > 8, "everybody had several turns");
        }
    }

    /// However many want it at once, each turn has its share of the work and no more, and all of it gets done.
    #[test]
    fn a_share_is_kept_to() {
        const PIECE: Duration = Duration::from_millis(1);
        let driver = driver::choose(DriverChoice::Auto).unwrap().driver;
        let done = driver::run(driver, async {
            let turns = Turns::new().unwrap();
            monoio::spawn(turns.clone().keep());
            // Two pieces fill it.
            let share = Rc::new(Share::new(PIECE + PIECE / 2));
            let done: Rc<RefCell<Vec<u64>>> = Rc::default();
            let tasks: Vec<_> = (0..9)
                .map(|_| {
                    let (turns, share, done) = (turns.clone(), share.clone(), done.clone());
                    monoio::spawn(async move {
                        share.room(&turns).await;
                        share.spend(|| std::thread::sleep(PIECE));
                        done.borrow_mut().push(turns.now());
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            done.take()
        });
        let done = done.unwrap();
        assert_eq!(done.len(), 9);
        for turn in &done {
            assert!(done.iter().filter(|other| *other == turn).count() <= 2, "{done:?}");
        }
    }
}
