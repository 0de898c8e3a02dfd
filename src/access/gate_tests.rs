use super::*;
use futures_util::FutureExt;

type Turn = Result<Place<&'static str>, Refused>;

fn gate(places: usize, waiting: usize, of_client: usize, spare: bool) -> Gate<&'static str> {
    Gate::new(GateLimits { places: NonZeroUsize::new(places).unwrap(), waiting, of_client, spare })
}

/// Tickets under names, so that a schedule can be written down.
struct Schedule {
    gate: Gate<&'static str>,
    waiting: Vec<(String, futures_util::future::BoxFuture<'static, Turn>)>,
    inside: Vec<(String, Place<&'static str>)>,
    refused: Vec<String>,
}

impl Schedule {
    fn of(gate: Gate<&'static str>) -> Self {
        Self { gate, waiting: Vec::new(), inside: Vec::new(), refused: Vec::new() }
    }

    /// A ticket of a client, or of several; what others can join it by.
    fn queue(&mut self, clients: &[&'static str], name: &str) -> Result<Claim<&'static str>, Refused> {
        let clients: Vec<_> = clients.iter().copied().map(Some).collect();
        let ticket = self.gate.queue(&clients)?;
        let claim = ticket.claim();
        self.waiting.push((name.into(), ticket.turn().boxed()));
        self.look();
        Ok(claim)
    }

    fn look(&mut self) {
        let mut still = Vec::new();
        for (name, mut turn) in std::mem::take(&mut self.waiting) {
            match (&mut turn).now_or_never() {
                Some(Ok(place)) => self.inside.push((name, place)),
                Some(Err(_)) => self.refused.push(name),
                None => still.push((name, turn)),
            }
        }
        self.waiting = still;
    }

    /// Ends something that is inside; what came in for it.
    fn end(&mut self, name: &str) -> String {
        let index = self.inside.iter().position(|(inside, _)| inside == name).unwrap();
        let before = self.inside.len() - 1;
        drop(self.inside.remove(index));
        self.look();
        self.inside[before..].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn inside(&self) -> Vec<&str> {
        self.inside.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn waiting(&self) -> Vec<&str> {
        self.waiting.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[test]
fn one_more_than_may_wait_is_turned_away_and_who_has_left_is_not_counted() {
    let mut schedule = Schedule::of(gate(1, 1, 0, false));
    for name in ["a1", "a2", "a3"] {
        schedule.queue(&["a"], name).unwrap();
    }
    assert_eq!((schedule.inside(), schedule.waiting()), (vec!["a1"], vec!["a2"]));
    assert_eq!(schedule.refused, ["a3"]);
    schedule.waiting.clear();
    schedule.queue(&["a"], "a4").unwrap();
    assert_eq!(schedule.waiting(), ["a4"]);
    assert_eq!(schedule.end("a1"), "a4");
    schedule.end("a4");
    assert!(schedule.gate.lock().lines.is_empty() && schedule.gate.lock().tickets.is_empty());
}

#[test]
fn a_newcomer_is_next_after_a_thousand_of_another_client() {
    for places in [1, 4] {
        let mut schedule = Schedule::of(gate(places, 10_000, 0, false));
        for n in 0..1000 {
            schedule.queue(&["a"], &format!("a{n}")).unwrap();
        }
        schedule.queue(&["b"], "b0").unwrap();
        schedule.queue(&["b"], "b1").unwrap();
        assert_eq!(schedule.end("a0"), "b0", "{places}");
        // From then on by turns: with several places, who has fewer goes first.
        let next = schedule.end(if places == 1 { "b0" } else { "a1" });
        assert_eq!(next, if places == 1 { "a1" } else { "b1" });
    }
}

#[test]
fn clients_that_wait_take_turns_whatever_the_length_of_their_queues() {
    let mut schedule = Schedule::of(gate(1, 100, 0, false));
    for (client, count) in [("a", 6), ("b", 3), ("c", 1)] {
        for n in 0..count {
            schedule.queue(&[client], &format!("{client}{n}")).unwrap();
        }
    }
    let mut order = vec!["a0".to_owned()];
    while !schedule.waiting.is_empty() {
        let next = schedule.end(order.last().unwrap());
        order.push(next);
    }
    assert_eq!(order.join(" "), "a0 b0 c0 a1 b1 a2 b2 a3 a4 a5");
}

#[test]
fn one_place_is_kept_for_others_unless_there_is_only_one() {
    let mut schedule = Schedule::of(gate(3, 100, 0, true));
    for name in ["a0", "a1", "a2"] {
        schedule.queue(&["a"], name).unwrap();
    }
    assert_eq!((schedule.inside(), schedule.waiting()), (vec!["a0", "a1"], vec!["a2"]));
    schedule.queue(&["b"], "b0").unwrap();
    assert_eq!(schedule.inside(), ["a0", "a1", "b0"]);
    assert_eq!(schedule.end("b0"), "");
    assert_eq!(schedule.end("a0"), "a2");
    // The registry's own work is nobody's, and has no share.
    let all: Vec<_> = (0..3).map(|_| gate(3, 0, 1, true)).collect();
    for gate in all {
        let own: Vec<_> =
            (0..3).map(|_| gate.queue(&[None]).unwrap().turn().now_or_never().unwrap().unwrap()).collect();
        assert_eq!(own.len(), 3);
    }
    let mut schedule = Schedule::of(gate(1, 0, 0, true));
    schedule.queue(&["a"], "a0").unwrap();
    assert_eq!(schedule.inside(), ["a0"]);
}

#[test]
fn what_another_client_waits_for_too_has_its_turn_as_well() {
    let mut schedule = Schedule::of(gate(1, 100, 0, false));
    let mut claims: Vec<_> = (0..10).map(|n| schedule.queue(&["a"], &format!("a{n}")).unwrap()).collect();
    let shared = claims.pop().unwrap();
    shared.also_for(&Some("b"));
    shared.also_for(&Some("b"));
    assert_eq!(schedule.end("a0"), "a9", "it is last in one queue and first in the other");
    assert_eq!(schedule.end("a9"), "a1", "and begins only once");
    // A place that is kept for others is taken for what they join.
    let mut schedule = Schedule::of(gate(2, 100, 0, true));
    schedule.queue(&["a"], "a0").unwrap();
    let claim = schedule.queue(&["a"], "a1").unwrap();
    assert_eq!(schedule.inside(), ["a0"]);
    claim.also_for(&Some("b"));
    schedule.look();
    assert_eq!(schedule.inside(), ["a0", "a1"]);
}

#[test]
fn when_too_many_wait_the_longest_queue_loses_its_newest() {
    let mut schedule = Schedule::of(gate(1, 4, 0, false));
    for n in 0..5 {
        schedule.queue(&["a"], &format!("a{n}")).unwrap();
    }
    schedule.queue(&["b"], "b0").unwrap();
    assert_eq!(schedule.refused, ["a4"]);
    // What another waits for as well goes by the shorter queue.
    let shared = schedule.queue(&["c"], "c0").unwrap();
    assert_eq!(schedule.refused, ["a4", "a3"]);
    shared.also_for(&Some("a"));
    schedule.queue(&["d"], "d0").unwrap();
    assert_eq!(schedule.refused, ["a4", "a3", "a2"]);
    schedule.queue(&["e"], "e0").unwrap();
    assert_eq!(schedule.refused, ["a4", "a3", "a2", "a1"]);
    // Nobody has more than the newcomer.
    schedule.queue(&["f"], "f0").unwrap();
    assert_eq!(schedule.refused, ["a4", "a3", "a2", "a1", "f0"]);
    assert_eq!(schedule.waiting(), ["b0", "c0", "d0", "e0"]);
}

#[test]
fn a_client_has_no_more_inside_and_waiting_than_it_may_have() {
    let mut schedule = Schedule::of(gate(1, 100, 2, false));
    let claim = schedule.queue(&["b"], "b0").unwrap();
    schedule.queue(&["a"], "a0").unwrap();
    let second = schedule.queue(&["b"], "b1").unwrap();
    schedule.queue(&["a"], "a1").unwrap();
    assert_eq!(schedule.queue(&["a"], "a2").err(), Some(Refused::OwnLimit));
    // It joins without a place of its own, and what it asks for together with others is theirs.
    second.also_for(&Some("a"));
    schedule.queue(&["a", "c"], "c0").unwrap();
    assert_eq!(schedule.end("b0"), "a0");
    assert_eq!(schedule.end("a0"), "c0");
    // Of no effect any more.
    claim.also_for(&Some("c"));
    assert_eq!(schedule.end("c0"), "b1");
    let gate = gate(1, 0, 2, false);
    assert!(gate.queue(&[None]).is_ok());
}

#[test]
fn what_is_done_alone_waits_for_all_places_and_is_not_passed() {
    let gate = gate(3, 100, 0, true);
    let turn = |ticket: Ticket<&'static str>| ticket.turn().boxed();
    let first = turn(gate.queue(&[Some("a")]).unwrap()).now_or_never().unwrap().unwrap();
    let mut alone = turn(gate.queue_alone(&[Some("b")]).unwrap());
    let mut after = turn(gate.queue(&[Some("a")]).unwrap());
    assert!((&mut alone).now_or_never().is_none() && (&mut after).now_or_never().is_none());
    drop(first);
    let all = alone.now_or_never().unwrap().unwrap();
    assert!((&mut after).now_or_never().is_none());
    drop(all);
    assert!(after.now_or_never().unwrap().is_ok());
    // Who gives up lets those behind in.
    let first = turn(gate.queue(&[Some("a")]).unwrap()).now_or_never().unwrap().unwrap();
    let alone = gate.queue_alone(&[Some("b")]).unwrap();
    let mut after = turn(gate.queue(&[Some("a")]).unwrap());
    assert!((&mut after).now_or_never().is_none());
    drop(alone);
    assert!(after.now_or_never().unwrap().is_ok());
    drop(first);
}

#[test]
fn a_place_that_nobody_waits_for_any_more_comes_back() {
    let gate = gate(1, 100, 0, false);
    let first = gate.queue(&[Some("a")]).unwrap().turn().now_or_never().unwrap().unwrap();
    let (left, stays) = (gate.queue(&[Some("b")]).unwrap(), gate.queue(&[Some("c")]).unwrap());
    // The turn comes, and is not taken.
    drop(first);
    drop(left);
    assert!(stays.turn().now_or_never().unwrap().is_ok());
    assert_eq!(gate.lock().free, 1);
}
