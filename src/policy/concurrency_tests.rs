//! What the places of a service promise: never more than there are, none lost, turns for tenants, and a line that one of them cannot
//! fill alone.

use std::sync::atomic::AtomicU32;

use super::*;

const ALL: u32 = u32::MAX;

fn room(requests_max: u32, each_max: u32, waiting_max: u32) -> Room {
    Room { requests_max, each_max, waiting_max }
}

fn now(places: &Places, room: &Room, tenant: u64) -> Place {
    match places.enter(room, tenant, 0, || 0).0 {
        Entered::Now(place) => place,
        other => panic!("tenant {tenant} has no place: {other:?}"),
    }
}

fn waits(places: &Places, room: &Room, tenant: u64) -> Arc<Waiter> {
    match places.enter(room, tenant, 0, || 0) {
        (Entered::Waits(waiter), woken) if woken.is_empty() => waiter,
        other => panic!("tenant {tenant} does not wait: {other:?}"),
    }
}

fn refused(places: &Places, room: &Room, tenant: u64) -> Refused {
    match places.enter(room, tenant, 0, || 0).0 {
        Entered::Refused(refused) => refused,
        other => panic!("tenant {tenant} is not refused: {other:?}"),
    }
}

#[test]
fn tenants_take_turns() {
    let (places, room) = (Places::default(), room(1, ALL, 100));
    let mut place = now(&places, &room, 0);
    let mut line = Vec::new();
    for tenant in [1, 1, 1, 1, 2, 2, 3] {
        line.push(waits(&places, &room, tenant));
    }
    assert_eq!(places.counts(), (1, 7));
    let mut order = Vec::new();
    for _ in 0..7 {
        let [next] = &places.leave(&room, place)[..] else { panic!("one follows") };
        assert_eq!(next.standing(), Standing::Admitted);
        order.push(next.tenant);
        place = next.place();
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
    assert!(places.leave(&room, place).is_empty());
    assert_eq!(places.counts(), (0, 0));
}

#[test]
fn a_tenant_has_no_more_than_his_part() {
    let (places, room) = (Places::default(), room(4, 2, 2));
    let mine = [now(&places, &room, 1), now(&places, &room, 1)];
    let waiting = waits(&places, &room, 1);
    let other = now(&places, &room, 2);
    assert_eq!(places.counts(), (3, 1), "there is room, but not for him");
    assert!(places.leave(&room, other).is_empty(), "and it is none for him when others leave");
    let admitted = places.leave(&room, mine[0]);
    assert!(Arc::ptr_eq(&admitted[0], &waiting));
    let _more = [waits(&places, &room, 1), waits(&places, &room, 1)];
    assert_eq!(refused(&places, &room, 1), Refused::TenantFull);
    assert_eq!(places.refused_total.load(Relaxed), 1);
}

#[test]
fn a_full_line_makes_room_for_who_waits_least() {
    let (places, room) = (Places::default(), room(1, ALL, 3));
    let place = now(&places, &room, 1);
    let first = waits(&places, &room, 1);
    let second = waits(&places, &room, 1);
    let third = waits(&places, &room, 1);
    assert_eq!(refused(&places, &room, 1), Refused::Full);
    let (Entered::Waits(waiter), woken) = places.enter(&room, 2, 0, || 0) else {
        panic!("another tenant waits in place of the last");
    };
    assert!(matches!(&woken[..], [pushed_out] if Arc::ptr_eq(pushed_out, &third)));
    assert_eq!(third.standing(), Standing::PushedOut);
    assert_eq!((first.standing(), second.standing()), (Standing::Waits, Standing::Waits));
    assert_eq!(refused(&places, &room, 2), Refused::Full, "two and one: nobody has too many");
    assert_eq!(places.give_up(&third), None);
    assert_eq!(places.counts(), (1, 3));
    let admitted = places.leave(&room, place);
    assert!(Arc::ptr_eq(&admitted[0], &first), "who came first is still first");
    assert_eq!(waiter.standing(), Standing::Waits);
}

#[test]
fn who_leaves_the_line_holds_up_nobody() {
    let (places, room) = (Places::default(), room(1, ALL, 10));
    let place = now(&places, &room, 1);
    let (gone, stays) = (waits(&places, &room, 2), waits(&places, &room, 3));
    assert_eq!(places.give_up(&gone), None);
    assert_eq!(places.counts(), (1, 1));
    let admitted = places.leave(&room, place);
    assert!(Arc::ptr_eq(&admitted[0], &stays));
    // Admitted, and gone before it knew: the place goes on.
    let last = waits(&places, &room, 4);
    let place = places.give_up(&stays).expect("it has a place");
    assert!(Arc::ptr_eq(&places.leave(&room, place)[0], &last));
    assert!(places.leave(&room, last.place()).is_empty());
    assert!(places.line().tenants.is_empty(), "nothing is kept of whom nothing is left");
}

/// Whoever asks under ever new names leaves nothing behind.
#[test]
fn names_of_who_has_left_are_forgotten() {
    let (places, room) = (Places::default(), room(1, ALL, 10));
    let _place = now(&places, &room, 0);
    for tenant in 1..10_000 {
        let waiter = waits(&places, &room, tenant);
        assert_eq!(places.give_up(&waiter), None);
    }
    let line = places.line();
    assert!(line.turns.len() <= 10 && line.tenants.len() <= 10, "{} turns", line.turns.len());
}

#[test]
fn a_reload_that_gives_more_room_lets_more_in() {
    let places = Places::default();
    let place = now(&places, &room(1, ALL, 9), 1);
    let line: Vec<_> = (0..5).map(|_| waits(&places, &room(1, ALL, 9), 2)).collect();
    assert_eq!(places.leave(&room(3, ALL, 9), place).len(), 3);
    assert!(line[..3].iter().all(|waiter| waiter.standing() == Standing::Admitted));
    assert!(places.leave(&room(1, ALL, 9), line[0].place()).is_empty(), "less room, and two are there");
    assert_eq!(places.counts(), (2, 2));
}

/// Who waits comes before who comes later, also when a reload makes room and nobody leaves.
#[test]
fn nobody_passes_the_line_when_there_is_more_room() {
    let places = Places::default();
    let _place = now(&places, &room(1, ALL, 9), 1);
    let line: Vec<_> = (0..3).map(|_| waits(&places, &room(1, ALL, 9), 2)).collect();
    let (entered, woken) = places.enter(&room(4, ALL, 9), 3, 0, || 0);
    assert_eq!(woken.len(), 3);
    assert!(line.iter().all(|waiter| waiter.standing() == Standing::Admitted));
    assert!(matches!(entered, Entered::Waits(_)), "{entered:?}");
    assert_eq!(places.counts(), (4, 1));
}

/// Very many at once are let in bit by bit.
#[test]
fn so_many_are_let_in_at_once_and_the_others_next() {
    let places = Places::default();
    let place = now(&places, &room(1, ALL, 1000), 1);
    let _line: Vec<_> = (0..600).map(|_| waits(&places, &room(1, ALL, 1000), 2)).collect();
    let wide = room(1000, ALL, 1000);
    let first = places.leave(&wide, place);
    assert_eq!((first.len(), places.counts()), (ADMITTED_MAX, (256, 344)));
    assert_eq!(places.leave(&wide, first[0].place()).len(), ADMITTED_MAX);
    assert_eq!(places.leave(&wide, first[1].place()).len(), 600 - 2 * ADMITTED_MAX);
}

#[test]
fn without_a_line_nobody_waits() {
    let (places, room) = (Places::default(), room(1, ALL, 0));
    let place = now(&places, &room, 1);
    assert_eq!(refused(&places, &room, 2), Refused::Full);
    assert!(places.leave(&room, place).is_empty());
    let _place = now(&places, &room, 2);
}

/// Anybody comes, leaves and gives up, in any order: the counts are those of a plain model.
#[test]
fn whatever_happens_the_counts_are_right() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..300 {
        let room = room(1 + draw(4) as u32, [ALL, 1, 2][draw(3) as usize], draw(6) as u32);
        let places = Places::default();
        let (mut inside, mut line): (Vec<Place>, Vec<Arc<Waiter>>) = (Vec::new(), Vec::new());
        for step in 0..400 {
            match draw(3) {
                0 => match places.enter(&room, draw(4), 0, || 0).0 {
                    Entered::Now(place) => inside.push(place),
                    Entered::Waits(waiter) => line.push(waiter),
                    Entered::Refused(_) => {}
                },
                1 if !inside.is_empty() => {
                    let place = inside.swap_remove(draw(inside.len() as u64) as usize);
                    drop(places.leave(&room, place));
                }
                _ if !line.is_empty() => {
                    let waiter = line.swap_remove(draw(line.len() as u64) as usize);
                    inside.extend(places.give_up(&waiter));
                }
                _ => {}
            }
            line.retain(|waiter| match waiter.standing() {
                Standing::Waits => true,
                Standing::PushedOut => false,
                Standing::Admitted => {
                    inside.push(waiter.place());
                    false
                }
            });
            let context = format!("round {round}, step {step}, {room:?}");
            assert_eq!(places.counts(), (inside.len() as u32, line.len() as u32), "{context}");
            assert!(inside.len() <= room.requests_max as usize && line.len() <= room.waiting_max as usize);
            for tenant in 0..4 {
                let has = inside.iter().filter(|place| place.tenant == tenant).count();
                let waits = line.iter().filter(|waiter| waiter.tenant == tenant).count();
                assert!(has <= room.each_max as usize, "{context}");
                let may = has < room.each_max as usize && inside.len() < room.requests_max as usize;
                assert!(waits == 0 || !may, "tenant {tenant} waits while there is room: {context}");
            }
        }
        for waiter in line {
            inside.extend(places.give_up(&waiter));
        }
        while let Some(place) = inside.pop() {
            places.leave(&room, place);
        }
        assert_eq!(places.counts(), (0, 0));
        let line = places.line();
        assert!(line.tenants.values().all(|tenant| tenant.taken == 0 && tenant.waiting_count == 0));
        assert!(line.turns.len() <= most_kept(0) && line.lengths.is_empty());
    }
}

/// Cores together: never more inside than there are places, and everybody who waits comes in.
#[test]
fn cores_together_take_no_more_than_there_is() {
    const PLACES: u32 = 3;
    for each in [ALL, 2] {
        let (places, room) = (Places::default(), room(PLACES, each, 1000));
        let inside = AtomicU32::new(0);
        let visit = |thread: u64| {
            for _ in 0..3_000 {
                let place = match places.enter(&room, thread % 2, 0, || 0).0 {
                    Entered::Now(place) => place,
                    Entered::Waits(waiter) => {
                        while waiter.standing() == Standing::Waits {
                            std::thread::yield_now();
                        }
                        waiter.place()
                    }
                    Entered::Refused(_) => panic!("there is room in line"),
                };
                assert!(inside.fetch_add(1, AcqRel) < PLACES);
                std::thread::yield_now();
                inside.fetch_sub(1, AcqRel);
                places.leave(&room, place);
            }
        };
        std::thread::scope(|scope| {
            let visit = &visit;
            (0..6).for_each(|thread| drop(scope.spawn(move || visit(thread))));
        });
        assert_eq!(places.counts(), (0, 0));
    }
}
