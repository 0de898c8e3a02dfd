//! How many connections there are at a time, and which of them makes room for another.
//!
//! * A connection that waits for its client makes room: one in its handshake, with half a request, or idle. One with a
//!   response under way never does.
//! * It is taken from the address that has most of those, and of that address' the one that has waited longest. So an
//!   address that fills the room makes room for all others, and they do not for it.
//! * A new connection has its first request on the way, and would take its end for an error. It is spared for
//!   [`NEW`], unless its address has many that wait.
//!
//! Whether a connection still waits for its client is decided by its own task: nobody else knows what it reads and writes
//! at that moment.

use super::activity::Activity;
use crate::access::Source;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst, fence},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// For how long a connection counts as new: three round trips by satellite.
const NEW: Duration = Duration::from_secs(2);
/// How many connections of one address that wait for it are spared while they are new: as many as a pull opens.
const FEW: usize = 8;
/// For how long a plan of who leaves next is good.
const PLAN: Duration = Duration::from_secs(1);

/// The places for connections.
#[derive(Debug)]
pub struct Room {
    max: u32,
    places: Arc<Semaphore>,
    seats: Mutex<Seats>,
    /// Newcomers that wait for a place.
    waiting: AtomicUsize,
    /// Connections that were asked to leave, and have not said that they stay.
    leaving: AtomicUsize,
    /// A connection has begun to wait for its client, stays, or has ended.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<Seat>>,
    /// Those that leave next, and since when they had waited when that was planned.
    plan: VecDeque<(u64, Instant)>,
    planned: Option<Instant>,
}

/// What is known of a connection that has a place.
#[derive(Debug)]
struct Seat {
    source: Source,
    is_shared: bool,
    activity: Arc<Activity>,
    is_asked: AtomicBool,
    asked: Notify,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub struct Seated {
    room: Arc<Room>,
    number: u64,
    seat: Arc<Seat>,
    place: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// So many places, at least one.
    pub fn new(max: u32) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self {
            max,
            places: Arc::new(Semaphore::new(max as usize)),
            seats: Mutex::default(),
            waiting: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            changed: Notify::new(),
        })
    }

    /// A place for a connection from `source`, an address that is `is_shared` by many clients or one client's. Asks another
    /// connection to leave if there is none, after it has called `delayed`.
    pub async fn enter(self: &Arc<Self>, source: Source, is_shared: bool, delayed: impl FnOnce()) -> Seated {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                tracing::debug!("the connection limit is reached");
                delayed();
                self.wait().await
            }
        };
        let activity = Arc::new(Activity::new());
        let (is_asked, asked) = (AtomicBool::new(false), Notify::new());
        let seat = Arc::new(Seat { source: source.group(), is_shared, activity, is_asked, asked });
        let mut seats = self.seats();
        let number = seats.next;
        seats.next += 1;
        seats.taken.insert(number, seat.clone());
        drop(seats);
        Seated { room: self.clone(), number, seat, place: Some(place) }
    }

    async fn wait(&self) -> OwnedSemaphorePermit {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            // Before the look, so that no change after it is missed.
            let changed = self.changed.notified();
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return place;
            }
            let again = self.make_room();
            tokio::select! {
                biased;
                Ok(place) = self.places.clone().acquire_owned() => return place,
                () = changed => {}
                () = sleep_until(again) => {}
            }
        }
    }

    /// Asks a connection to leave, unless one is about to. When to ask again, should nothing change until then.
    pub fn make_room(&self) -> Instant {
        let now = Instant::now();
        let mut seats = self.seats();
        if self.leaving.load(SeqCst) > 0 {
            return now + NEW;
        }
        if let Some(seat) = seats.next_of_plan(now) {
            self.ask(&seat);
            return now + NEW;
        }
        let again = seats.make_plan(now);
        if let Some(seat) = seats.next_of_plan(now) {
            self.ask(&seat);
        }
        again
    }

    fn ask(&self, seat: &Seat) {
        if !seat.is_asked.swap(true, SeqCst) {
            self.leaving.fetch_add(1, SeqCst);
            seat.asked.notify_one();
        }
    }

    /// Waits for a connection to end, but no longer than `time`.
    pub async fn emptier(&self, time: Duration) {
        let _waiting = Waiting::new(&self.waiting);
        let _ = tokio::time::timeout(time, self.changed.notified()).await;
    }

    /// Waits until all have left.
    pub async fn empty(&self) {
        let _all = self.places.acquire_many(self.max).await;
    }

    /// How many connections there are.
    pub fn taken(&self) -> u32 {
        self.max - u32::try_from(self.places.available_permits()).unwrap_or(self.max).min(self.max)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) {
        // Either this sees the newcomer, or the newcomer sees the change.
        fence(SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }
}

impl Seats {
    /// The next of the plan that waits as it did then.
    fn next_of_plan(&mut self, now: Instant) -> Option<Arc<Seat>> {
        if self.planned.is_none_or(|at| at + PLAN < now) {
            self.plan.clear();
        }
        while let Some((number, since)) = self.plan.pop_front() {
            if let Some(seat) = self.taken.get(&number)
                && seat.activity.awaits_client()
                && seat.activity.awaited_since() == since
            {
                return Some(seat.clone());
            }
        }
        None
    }

    /// Plans which connections leave, one after the other: a sixteenth of all, since to look at all of them for each would
    /// take longer than to accept one. When another one is no longer spared.
    fn make_plan(&mut self, now: Instant) -> Instant {
        let mut addresses: HashMap<Source, Waiters> = HashMap::new();
        for (number, seat) in self.taken.iter().filter(|(_, seat)| seat.activity.awaits_client()) {
            let waiters = addresses.entry(seat.source).or_default();
            waiters.count += 1;
            waiters.seats.push((seat.activity.awaited_since(), *number));
        }
        let mut again = now + NEW;
        let mut order = BinaryHeap::new();
        for mut waiters in addresses.into_values() {
            let mut is_spared = |number: &u64| {
                self.taken.get(number).is_some_and(|seat| {
                    let old = seat.activity.opened() + NEW;
                    let is_new = seat.activity.is_new() && old > now;
                    let is_spared = is_new && (seat.is_shared || waiters.count <= FEW);
                    again = if is_spared { again.min(old) } else { again };
                    is_spared
                })
            };
            waiters.seats.retain(|(_, number)| !is_spared(number));
            waiters.seats.sort_unstable_by_key(|seat| Reverse(*seat));
            if let Some((since, _)) = waiters.seats.last() {
                order.push((waiters.count, Reverse(*since), waiters.seats));
            }
        }
        self.planned = Some(now);
        let all = (self.taken.len() / 16).max(1);
        while let Some((count, _, mut seats)) = order.pop()
            && self.plan.len() < all
        {
            self.plan.extend(seats.pop().map(|(since, number)| (number, since)));
            if let Some((since, _)) = seats.last() {
                order.push((count - 1, Reverse(*since), seats));
            }
        }
        again
    }
}

/// Connections of one address that wait for it.
#[derive(Default)]
struct Waiters {
    /// With those that are spared.
    count: usize,
    seats: Vec<(Instant, u64)>,
}

impl Seated {
    /// What happens on the connection.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.seat.activity
    }

    /// Completes when the connection is to make room.
    pub async fn asked(&self) {
        self.seat.asked.notified().await;
    }

    /// It does not, since a response is under way now.
    pub fn stays(&self) {
        self.no_longer_leaves();
        self.room.change();
    }

    /// It waits for its client now, and can make room if somebody wants it.
    pub fn waits(&self) {
        self.room.change();
    }

    fn no_longer_leaves(&self) {
        if self.seat.is_asked.swap(false, SeqCst) {
            self.room.leaving.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.room.seats().taken.remove(&self.number);
        // First, lest a newcomer that looks again asks for another.
        drop(self.place.take());
        self.no_longer_leaves();
        self.room.change();
    }
}

/// One more that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        fence(SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
