//! Turns by client: a limit on how many do something at a time, and on how many wait, that no client can use up.
//!
//! The client with the fewest running jobs is next; ties go to the one served least recently.
//! Something that waits can belong to several clients (shared work). It has a place in the queue of each, and begins with
//! the turn that comes first. When too many wait, the newest of the client with the longest queue has to go.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::sync::oneshot;

/// How many a gate lets in and keeps waiting.
#[derive(Debug, Clone, Copy)]
pub struct GateLimits {
    /// Places inside.
    pub places: NonZeroUsize,
    /// How many may wait.
    pub waiting: usize,
    /// How many one client may have inside and waiting together; zero is no limit.
    pub of_client: usize,
    /// Whether one place is kept for others when a client has all the rest. Of a single place there is no rest.
    pub spare: bool,
}

/// A gate; clones are the same one.
#[derive(Debug, Clone)]
pub struct Gate<K: Hash + Eq + Clone>(Arc<Inner<K>>);

/// Why there will be no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait, and no client has more waiting than those that this is for.
    Full,
    /// All clients that this is for have as many inside and waiting as one may have.
    OwnLimit,
}

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub struct Ticket<K: Hash + Eq + Clone> {
    claim: Claim<K>,
    turn: oneshot::Receiver<Result<Place<K>, Refused>>,
}

/// What further clients can join a ticket by. Of no effect once its turn has come.
#[derive(Debug, Clone)]
pub struct Claim<K: Hash + Eq + Clone> {
    gate: Weak<Inner<K>>,
    id: u64,
}

/// A place inside, or several, until it is dropped.
#[derive(Debug)]
pub struct Place<K: Hash + Eq + Clone> {
    gate: Gate<K>,
    client: Option<K>,
    places: usize,
}

#[derive(Debug)]
struct Inner<K: Hash + Eq + Clone> {
    limits: GateLimits,
    state: Mutex<State<K>>,
}

/// Tickets are in the queues of their clients and nowhere else; free places and those inside are all places.
#[derive(Debug)]
struct State<K: Hash + Eq + Clone> {
    free: usize,
    /// Numbers tickets and turns.
    clock: u64,
    tickets: BTreeMap<u64, Waiting<K>>,
    /// Of clients that have anything waiting or inside. Nobody's (`None`) is the registry's own.
    lines: HashMap<Option<K>, Line>,
}

#[derive(Debug)]
struct Waiting<K: Hash + Eq + Clone> {
    clients: Vec<Option<K>>,
    places: usize,
    tell: oneshot::Sender<Result<Place<K>, Refused>>,
}

#[derive(Debug)]
struct Line {
    queue: VecDeque<u64>,
    inside: usize,
    since: u64,
}

/// What is to be told once the gate is not locked any more: a place that nobody waits for comes back at once.
type Told<K> = Vec<(oneshot::Sender<Result<Place<K>, Refused>>, Result<Place<K>, Refused>)>;

impl<K: Hash + Eq + Clone> Gate<K> {
    /// A gate with nobody inside.
    pub fn new(limits: GateLimits) -> Self {
        let state =
            State { free: limits.places.get(), clock: 0, tickets: BTreeMap::new(), lines: HashMap::new() };
        Self(Arc::new(Inner { limits, state: Mutex::new(state) }))
    }

    /// Queues for one place for all of these clients; one is nobody if it is not counted.
    pub fn queue(&self, clients: &[Option<K>]) -> Result<Ticket<K>, Refused> {
        self.queue_for(clients, 1)
    }

    /// The same for all places at once: for what has to be done alone.
    pub fn queue_alone(&self, clients: &[Option<K>]) -> Result<Ticket<K>, Refused> {
        self.queue_for(clients, self.0.limits.places.get())
    }

    fn queue_for(&self, clients: &[Option<K>], places: usize) -> Result<Ticket<K>, Refused> {
        let mut state = self.lock();
        let mut within: Vec<Option<K>> = Vec::new();
        for client in clients {
            if self.has_room(&state, client) && !within.contains(client) {
                within.push(client.clone());
            }
        }
        if within.is_empty() {
            return Err(Refused::OwnLimit);
        }
        let (tell, turn) = oneshot::channel();
        let id = state.tick();
        for client in &within {
            state.line(client).queue.push_back(id);
        }
        state.tickets.insert(id, Waiting { clients: within, places, tell });
        let mut told = self.admit(&mut state);
        if state.tickets.len() > self.0.limits.waiting {
            told.extend(state.shed());
        }
        drop(state);
        tell_all(told);
        Ok(Ticket { claim: Claim { gate: Arc::downgrade(&self.0), id }, turn })
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, state: &State<K>, client: &Option<K>) -> bool {
        let max = self.0.limits.of_client;
        let has = || state.lines.get(client).map_or(0, |line| line.inside + line.queue.len());
        client.is_none() || max == 0 || has() < max
    }

    /// Lets in as many as there are places for.
    fn admit(&self, state: &mut State<K>) -> Told<K> {
        let mut told = Vec::new();
        while state.free > 0 {
            let Some((client, id)) = self.next(state) else { break };
            // Its turn has come, and nobody passes it while it waits for enough places.
            if state.tickets.get(&id).is_none_or(|ticket| ticket.places > state.free) {
                break;
            }
            let Some(ticket) = state.remove(id) else { break };
            state.free -= ticket.places;
            let now = state.tick();
            let line = state.line(&client);
            line.inside += ticket.places;
            line.since = now;
            let place = Place { gate: self.clone(), client, places: ticket.places };
            told.push((ticket.tell, Ok(place)));
        }
        told
    }

    /// Whose turn it is, and what it begins with.
    fn next(&self, state: &State<K>) -> Option<(Option<K>, u64)> {
        let places = self.0.limits.places.get();
        let may_enter = |client: &Option<K>, line: &Line, id: &u64| {
            let is_alone = state.tickets.get(id).is_some_and(|ticket| ticket.places > 1);
            let leaves_one = places == 1 || line.inside + 1 < places;
            client.is_none() || !self.0.limits.spare || is_alone || leaves_one
        };
        let lines = state.lines.iter().filter_map(|(client, line)| {
            line.queue.front().filter(|id| may_enter(client, line, id)).map(|id| (client, line, *id))
        });
        let next = lines.min_by_key(|(_, line, _)| (line.inside, line.since));
        next.map(|(client, _, id)| (client.clone(), id))
    }

    fn leave(&self, client: &Option<K>, places: usize) {
        let mut state = self.lock();
        state.free += places;
        let now = state.tick();
        let line = state.line(client);
        line.inside -= places;
        line.since = now;
        state.tidy(client);
        let told = self.admit(&mut state);
        drop(state);
        tell_all(told);
    }
}

fn tell_all<K: Hash + Eq + Clone>(told: Told<K>) {
    for (sender, answer) in told {
        // If the receiver is gone, dropping the answer frees its place.
        drop(sender.send(answer));
    }
}

impl<K: Hash + Eq + Clone> State<K> {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn line(&mut self, client: &Option<K>) -> &mut Line {
        let since = self.tick();
        self.lines.entry(client.clone()).or_insert(Line { queue: VecDeque::new(), inside: 0, since })
    }

    /// A client with nothing waiting and nothing inside takes no memory.
    fn tidy(&mut self, client: &Option<K>) {
        if self.lines.get(client).is_some_and(|line| line.queue.is_empty() && line.inside == 0) {
            self.lines.remove(client);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Waiting<K>> {
        let ticket = self.tickets.remove(&id)?;
        for client in &ticket.clients {
            if let Some(line) = self.lines.get_mut(client) {
                line.queue.retain(|queued| *queued != id);
            }
            self.tidy(client);
        }
        Some(ticket)
    }

    /// Turns away the newest ticket of those with the longest queue. What several wait for goes by the shortest of theirs.
    fn shed(&mut self) -> Told<K> {
        let queued = |client: &Option<K>| match client {
            Some(_) => self.lines.get(client).map_or(0, |line| line.queue.len()),
            None => 0,
        };
        let shortest = |ticket: &Waiting<K>| ticket.clients.iter().map(queued).min().unwrap_or_default();
        let last = self.tickets.iter().max_by_key(|(id, ticket)| (shortest(ticket), **id)).map(|(id, _)| *id);
        let ticket = last.and_then(|id| self.remove(id));
        ticket.map(|ticket| (ticket.tell, Err(Refused::Full))).into_iter().collect()
    }
}

impl<K: Hash + Eq + Clone> Ticket<K> {
    /// Waits for the turn. To give up means to drop this.
    pub async fn turn(mut self) -> Result<Place<K>, Refused> {
        // The gate tells everybody whose ticket it takes, and `self` keeps this one.
        (&mut self.turn).await.unwrap_or(Err(Refused::Full))
    }

    /// What further clients can join it by.
    pub fn claim(&self) -> Claim<K> {
        self.claim.clone()
    }
}

impl<K: Hash + Eq + Clone> Drop for Ticket<K> {
    fn drop(&mut self) {
        let Some(gate) = self.claim.gate.upgrade().map(Gate) else { return };
        let mut state = gate.lock();
        if state.remove(self.claim.id).is_some() {
            // It may have been waiting for all places.
            let told = gate.admit(&mut state);
            drop(state);
            tell_all(told);
        }
    }
}

impl<K: Hash + Eq + Clone> Claim<K> {
    /// From now on the ticket waits for this client as well, unless that has as many as it may have.
    pub fn also_for(&self, client: &Option<K>) {
        let Some(gate) = self.gate.upgrade().map(Gate) else { return };
        let mut state = gate.lock();
        let has_room = gate.has_room(&state, client);
        let Some(ticket) = state.tickets.get_mut(&self.id) else { return };
        if !has_room || ticket.clients.contains(client) {
            return;
        }
        ticket.clients.push(client.clone());
        state.line(client).queue.push_back(self.id);
        let told = gate.admit(&mut state);
        drop(state);
        tell_all(told);
    }
}

impl<K: Hash + Eq + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        self.gate.leave(&self.client, self.places);
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
