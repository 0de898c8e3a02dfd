use super::*;
use crate::{
    access::{Client, Gate, GateLimits},
    registry::work,
};
use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::sync::oneshot;

const NOBODY: Behalf = Behalf::Client(None);

fn client(name: &str) -> Behalf {
    Behalf::Client(Some(Client::User(name.into())))
}

#[tokio::test]
async fn a_thousand_requests_share_one_piece_of_work() {
    let flights = Flights::<u8, usize>::default();
    let runs = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let runs = runs.clone();
            flights.join(&NOBODY, 1, || async move {
                tokio::task::yield_now().await;
                runs.fetch_add(1, Ordering::SeqCst)
            })
        })
        .collect();
    for flight in waiting {
        assert_eq!(flight.wait().await, Some(0));
    }
    let again = flights.join(&NOBODY, 1, || async move { 7 });
    assert_eq!(again.wait().await, Some(7), "finished work is not taken for running work");
}

#[tokio::test]
async fn work_goes_on_when_nobody_waits_and_a_panic_is_no_hang() {
    let flights = Flights::<u8, usize>::default();
    let (sender, receiver) = oneshot::channel();
    drop(flights.join(&NOBODY, 1, || async move {
        tokio::task::yield_now().await;
        let _ = sender.send(());
        0
    }));
    receiver.await.unwrap();
    let flight = flights.join(&NOBODY, 2, || async { panic!("on purpose") });
    assert_eq!(flight.wait().await, None);
    assert_eq!(flights.join(&NOBODY, 2, || async { 3 }).wait().await, Some(3));
}

/// Lets everything go as far as it can.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_joins_work_brings_it_forward_with_all_that_it_waits_for() {
    let places = NonZeroUsize::MIN;
    let gate = Gate::new(GateLimits { places, waiting: 100, of_client: 0, spare: true });
    let (outer, inner) = (Flights::<usize, ()>::default(), Arc::new(Flights::<usize, ()>::default()));
    let order = Arc::new(Mutex::new(Vec::new()));
    let busy = gate.queue(&[None]).unwrap().turn().await.unwrap();
    let join = |who: &str, n| {
        let (inner, gate, order) = (inner.clone(), gate.clone(), order.clone());
        outer.join(&client(who), n, || async move {
            let begin = || async move {
                let _place = work::queue(&gate).unwrap().turn().await.unwrap();
                order.lock().unwrap().push(n);
            };
            inner.join(&Behalf::Work, n, begin).wait().await.unwrap();
        })
    };
    let mut flights: Vec<_> = (0..10).map(|n| join("a", n)).collect();
    settle().await;
    // One that waits already, and one of its own.
    flights.extend([join("b", 8), join("b", 10)]);
    settle().await;
    drop(busy);
    for flight in flights {
        flight.wait().await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 8, 1, 10, 2, 3, 4, 5, 6, 7, 9]);
}

#[tokio::test]
async fn what_is_refused_for_one_client_is_tried_for_those_that_joined() {
    let flights = Flights::<u8, Result<Vec<Option<Client>>>>::default();
    let (go, gone) = oneshot::channel::<()>();
    let refused = |message: &str| {
        Err(RegistryError::OverLimit { message: message.into(), retry_after: Duration::from_secs(1) })
    };
    let first = flights.join(&client("a"), 1, || async move {
        gone.await.unwrap();
        refused("a has had enough")
    });
    let join = || flights.join(&client("b"), 1, || async { Ok(work::clients()) });
    let second = landed(join);
    let mut second = std::pin::pin!(second);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    go.send(()).unwrap();
    assert_eq!(second.await.unwrap(), [Some(Client::User("b".into()))]);
    assert!(first.landed().await.is_err());
    // What was begun for oneself is refused for good.
    let runs = AtomicUsize::new(0);
    let join = || {
        runs.fetch_add(1, Ordering::SeqCst);
        flights.join(&client("b"), 2, || async move { refused("b has had enough") })
    };
    assert!(landed(join).await.is_err());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
