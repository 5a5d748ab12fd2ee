//! Whatever threads do at the same time: never more have a place than there are, who leaves is done before the next one begins, and nobody
//! waits while there is a place.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::thread;
use tidegate_loom::model::check;
use tidegate_loom::policy::concurrency::{Entered, Place, Places, Room, Standing, Waiter};

const ALL: u32 = u32::MAX;

/// A service, and those who are in it.
struct Service {
    places: Places,
    room: Room,
    inside: AtomicU32,
    /// Of a service with one place: whoever has it.
    touched: UnsafeCell<u32>,
}

impl Service {
    #[allow(
        clippy::arc_with_non_send_sync,
        reason = "loom's threads take turns on one, and it looks after its cells"
    )]
    fn new(requests_max: u32, each_max: u32, waiting_max: u32) -> Arc<Service> {
        Arc::new(Service {
            places: Places::default(),
            room: Room { requests_max, each_max, waiting_max },
            inside: AtomicU32::new(0),
            touched: UnsafeCell::new(0),
        })
    }

    /// Comes, is served if there is a place, and leaves; the waiter if there is none.
    fn come(&self, tenant: u64) -> Option<Arc<Waiter>> {
        let (entered, woken) = self.places.enter(&self.room, tenant, 0, || 0);
        woken.iter().for_each(|waiter| self.serve_woken(waiter));
        match entered {
            Entered::Now(place) => {
                self.serve(place);
                None
            }
            Entered::Waits(waiter) => Some(waiter),
            Entered::Refused(_) => None,
        }
    }

    /// The one with the place, and then whoever it is given to.
    fn serve(&self, place: Place) {
        self.begin();
        self.end(place);
    }

    fn begin(&self) {
        assert!(self.inside.fetch_add(1, Relaxed) < self.room.requests_max, "more than there are places");
        if self.room.requests_max == 1 {
            self.touched.with_mut(|touched| {
                // SAFETY: there is one place, and this thread has it; loom fails the model if it has not.
                unsafe { *touched += 1 }
            });
        }
    }

    fn begin_first(&self) -> Place {
        let (Entered::Now(place), _) = self.places.enter(&self.room, 0, 0, || 0) else {
            panic!("it is empty")
        };
        self.begin();
        place
    }

    fn end(&self, place: Place) {
        self.inside.fetch_sub(1, Relaxed);
        let woken = self.places.leave(&self.room, place);
        woken.iter().for_each(|waiter| self.serve_woken(waiter));
    }

    fn serve_woken(&self, waiter: &Waiter) {
        if waiter.standing() == Standing::Admitted {
            self.serve(waiter.place());
        }
    }

    /// Everybody has left.
    fn assert_empty(&self, waiters: impl IntoIterator<Item = Option<Arc<Waiter>>>) {
        assert_eq!(self.places.counts(), (0, 0), "taken, and waiting");
        for waiter in waiters.into_iter().flatten() {
            assert_ne!(waiter.standing(), Standing::Waits, "nobody wakes it any more");
        }
    }
}

/// These tenants come at the same time.
fn come_together<const N: usize>(service: &Arc<Service>, own: u64, others: [u64; N]) {
    let others = others.map(|tenant| {
        let service = service.clone();
        thread::spawn(move || service.come(tenant))
    });
    let own = service.come(own);
    let others = others.map(|other| other.join().unwrap());
    service.assert_empty(others.into_iter().chain([own]));
}

#[test]
fn one_place_is_had_by_one() {
    check(3, || come_together(&Service::new(1, ALL, 0), 1, [1]));
}

#[test]
fn who_waits_is_let_in() {
    check(2, || {
        let service = Service::new(1, ALL, 2);
        come_together(&service, 1, [1, 1]);
        // Nobody was refused, so all three were served.
        service.touched.with(|touched| {
            // SAFETY: the others have ended.
            assert_eq!(unsafe { *touched }, 3);
        });
    });
}

#[test]
fn two_places_are_had_by_two() {
    check(2, || come_together(&Service::new(2, ALL, 1), 1, [1, 1]));
}

/// Places of tenants are counted each, which is behind the lock throughout.
#[test]
fn a_tenant_waits_for_his_own() {
    check(2, || come_together(&Service::new(2, 1, 2), 1, [1, 2]));
}

/// The line is full: of whom two wait, the last has to go.
#[test]
fn who_is_pushed_out_has_no_place() {
    check(2, || {
        let service = Service::new(1, ALL, 2);
        let place = service.begin_first();
        let waiters = [service.come(1), service.come(1)];
        let newcomer = {
            let service = service.clone();
            thread::spawn(move || service.come(2))
        };
        service.end(place);
        let newcomer = newcomer.join().unwrap();
        let [first, second] = waiters;
        service.assert_empty([first, second, newcomer]);
    });
}

/// Who waits gives up while the place is given to it: one of both has it, and it comes back.
#[test]
fn who_gives_up_takes_no_place_along() {
    check(3, || {
        let service = Service::new(1, ALL, 1);
        let place = service.begin_first();
        let waiter = service.come(1).expect("it waits");
        let gives_up = {
            let (service, waiter) = (service.clone(), waiter.clone());
            thread::spawn(move || {
                let place = service.places.give_up(&waiter);
                place.inspect(|place| service.serve(*place));
                place.is_none()
            })
        };
        let comes = {
            let service = service.clone();
            thread::spawn(move || service.come(2))
        };
        service.inside.fetch_sub(1, Relaxed);
        for woken in service.places.leave(&service.room, place) {
            // Who gives up finds a place that he has already.
            if !Arc::ptr_eq(&woken, &waiter) {
                service.serve_woken(&woken);
            }
        }
        let has_left = gives_up.join().unwrap();
        let newcomer = comes.join().unwrap();
        assert_eq!(has_left, waiter.standing() == Standing::Waits);
        service.assert_empty([newcomer]);
    });
}
