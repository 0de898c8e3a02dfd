use super::*;
use crate::http::flight::Flight;
use std::task::Poll;

const SECOND: Duration = Duration::from_secs(1);

fn source(n: u8) -> Source {
    Source::of(std::net::Ipv4Addr::new(192, 0, 2, n).into())
}

async fn enter(room: &Arc<Room>, n: u8) -> Seated {
    room.enter(source(n), false, || ()).await
}

async fn enter_many(room: &Arc<Room>, n: u8, count: usize) -> Vec<Seated> {
    let mut seats = Vec::new();
    for _ in 0..count {
        seats.push(enter(room, n).await);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    seats
}

/// Those that are asked to leave.
fn asked(seats: &[Seated]) -> Vec<usize> {
    (0..seats.len()).filter(|n| seats[*n].seat.is_asked.load(SeqCst)).collect()
}

/// Polls a future once.
async fn is_ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn the_address_with_most_makes_room_oldest_first() {
    let room = Room::new(60);
    let few = enter_many(&room, 1, 20).await;
    let mut many = enter_many(&room, 2, 40).await;
    for oldest in 0..5 {
        let mut newcomer = Box::pin(enter(&room, 3));
        assert!(is_ready(&mut newcomer).await.is_none());
        assert_eq!((asked(&few), asked(&many)), (vec![], vec![0]), "{oldest}");
        drop(many.remove(0));
        drop(is_ready(&mut newcomer).await.expect("a place"));
        many.push(enter(&room, 2).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_under_way_is_never_in_the_way() {
    let room = Room::new(30);
    let seats = enter_many(&room, 1, 30).await;
    let mut flights: Vec<_> =
        seats.iter().map(|seat| Flight::begin(seat.activity().clone(), false, false)).collect();
    let mut newcomer = Box::pin(enter(&room, 2));
    assert!(is_ready(&mut newcomer).await.is_none());
    tokio::time::advance(100 * SECOND).await;
    assert!(is_ready(&mut newcomer).await.is_none());
    assert!(asked(&seats).is_empty());
    // The first that waits for its client is asked at once.
    flights.remove(7);
    seats[7].waits();
    assert!(is_ready(&mut newcomer).await.is_none());
    assert_eq!(asked(&seats), [7]);
    // It has a request by then, and another makes room in its place.
    let _flight = Flight::begin(seats[7].activity().clone(), false, false);
    seats[7].asked().await;
    seats[7].stays();
    flights.remove(7);
    seats[8].waits();
    assert!(is_ready(&mut newcomer).await.is_none());
    assert_eq!(asked(&seats), [8]);
}

#[tokio::test(start_paused = true)]
async fn the_first_connections_of_an_address_are_spared_while_they_are_new() {
    let room = Room::new(10);
    let mut seats = enter_many(&room, 1, FEW).await;
    seats.extend(enter_many(&room, 2, 2).await);
    let mut newcomer = Box::pin(enter(&room, 3));
    assert!(is_ready(&mut newcomer).await.is_none());
    assert!(asked(&seats).is_empty());
    // An idle one is not new.
    drop(Flight::begin(seats[9].activity().clone(), false, false));
    seats[9].waits();
    assert!(is_ready(&mut newcomer).await.is_none());
    assert_eq!(asked(&seats), [9]);
    drop(seats.pop());
    let _newcomer = is_ready(&mut newcomer).await.expect("a place");
    // Nor are others after a while.
    let mut newcomer = Box::pin(enter(&room, 4));
    assert!(is_ready(&mut newcomer).await.is_none());
    assert!(asked(&seats).is_empty());
    tokio::time::advance(NEW).await;
    assert!(is_ready(&mut newcomer).await.is_none());
    assert_eq!(asked(&seats), [0]);
}

#[tokio::test(start_paused = true)]
async fn one_newcomer_costs_one_connection() {
    let room = Room::new(40);
    let mut seats = enter_many(&room, 1, 40).await;
    let (mut first, mut second) = (Box::pin(enter(&room, 2)), Box::pin(enter(&room, 3)));
    assert!(is_ready(&mut first).await.is_none() && is_ready(&mut second).await.is_none());
    seats[20].waits();
    assert!(is_ready(&mut first).await.is_none() && is_ready(&mut second).await.is_none());
    assert_eq!(asked(&seats), [0]);
    drop(seats.remove(0));
    let entered = [is_ready(&mut first).await, is_ready(&mut second).await];
    assert_eq!(entered.iter().flatten().count(), 1);
    assert_eq!(asked(&seats), [0], "the other newcomer asks as well");
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_proxy_are_many_clients_and_spared_while_they_are_new() {
    let room = Room::new(30);
    let mut seats = Vec::new();
    for _ in 0..20 {
        seats.push(room.enter(source(1), true, || ()).await);
    }
    seats.extend(enter_many(&room, 2, 10).await);
    let mut newcomer = Box::pin(enter(&room, 3));
    assert!(is_ready(&mut newcomer).await.is_none());
    assert_eq!(asked(&seats), [20]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_fair_and_what_has_changed_since_is_passed_over() {
    let room = Room::new(64);
    let mut most = enter_many(&room, 1, 33).await;
    let others = enter_many(&room, 2, 31).await;
    let places = |seats: &[Seated]| seats.iter().map(|seat| seat.number).collect::<Vec<_>>();
    room.seats().make_plan(Instant::now());
    // From 33 and 31 to 31 and 31 and then of each in turn, the one that waits longest first.
    let plan: Vec<u64> = room.seats().plan.iter().map(|(number, _)| *number).collect();
    assert_eq!(plan, [places(&most)[0], places(&most)[1], places(&most)[2], places(&others)[0]]);

    // One has left, one has a response, one has had one: the last of the plan remains.
    most.remove(0);
    let _busy = Flight::begin(most[0].activity().clone(), false, false);
    tokio::time::advance(Duration::from_millis(1)).await;
    drop(Flight::begin(most[1].activity().clone(), false, false));
    let next = room.seats().next_of_plan(Instant::now()).map(|seat| seat.source);
    assert_eq!(next, Some(source(2)));
    assert!(room.seats().next_of_plan(Instant::now()).is_none());

    // What was planned long ago is planned anew.
    room.seats().make_plan(Instant::now());
    tokio::time::advance(2 * PLAN).await;
    assert!(room.seats().next_of_plan(Instant::now()).is_none());
}
