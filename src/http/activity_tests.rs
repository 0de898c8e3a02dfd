use super::{super::flight::Flight, *};
use std::sync::Arc;

const MS: Duration = Duration::from_millis(1);

fn limits() -> ServerLimits {
    ServerLimits {
        header_timeout: 10 * MS,
        idle_timeout: 100 * MS,
        write_timeout: 1000 * MS,
        ..ServerLimits::default()
    }
}

/// What is due, and in how many milliseconds.
fn due(activity: &Activity) -> Option<(u64, Due)> {
    let (at, due) = activity.due(&limits())?;
    Some((u64::try_from((at - Instant::now()).as_millis()).unwrap(), due))
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_given_time_for_each_of_its_states() {
    let activity = Arc::new(Activity::new());
    tokio::time::advance(3 * MS).await;
    activity.read(b"G");
    // Bytes that trickle do not prolong the time for the first request.
    assert_eq!(due(&activity), Some((7, Due::NoRequest)));
    assert!(activity.awaits_client());

    let flight = Flight::begin(activity.clone(), false, false);
    assert_eq!(due(&activity), None, "the registry may take its time");
    assert!(!activity.awaits_client());
    flight.answered();
    assert_eq!(due(&activity), None, "nothing was refused by the socket");
    activity.wrote::<()>(&Poll::Pending);
    tokio::time::advance(5 * MS).await;
    activity.wrote::<()>(&Poll::Pending);
    assert_eq!(due(&activity), Some((995, Due::Stalled)));
    activity.wrote(&Poll::Ready(Ok(1)));
    assert_eq!(due(&activity), None);

    drop(flight);
    assert!(activity.awaits_client());
    assert_eq!(due(&activity), Some((100, Due::Idle)));
    tokio::time::advance(50 * MS).await;
    activity.read(b"G");
    assert_eq!(due(&activity), Some((10, Due::NoRequest)));
    assert!(activity.awaits_client());

    // The last of a response can still be on its way when hyper has taken all of the body.
    drop(Flight::begin(activity.clone(), false, false));
    activity.wrote::<()>(&Poll::Pending);
    assert_eq!(due(&activity), Some((1000, Due::Stalled)));
    assert!(!activity.awaits_client());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_client_until_its_body_has_come() {
    let activity = Arc::new(Activity::new());
    let opened = Instant::now();
    tokio::time::advance(3 * MS).await;
    activity.read(b"P");
    let flight = Flight::begin(activity.clone(), false, true);
    tokio::time::advance(4 * MS).await;
    assert!(activity.awaits_client() && activity.is_new());
    assert_eq!(activity.awaited_since(), opened + 3 * MS);
    let other = Flight::begin(activity.clone(), true, false);
    assert!(!activity.awaits_client(), "the other waits for the registry");
    drop(other);
    assert!(activity.awaits_client() && !activity.is_new());
    activity.received();
    assert!(!activity.awaits_client());
    drop(flight);
    assert!(activity.awaits_client());
    assert_eq!(activity.awaited_since(), opened + 7 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_connection_takes_leave_after_its_last_response() {
    let activity = Arc::new(Activity::new());
    let flight = Flight::begin(activity.clone(), false, false);
    let told = Instant::now();
    assert_eq!(activity.farewell(told, 5 * MS), None);
    tokio::time::advance(50 * MS).await;
    drop(flight);
    assert_eq!(activity.farewell(told, 5 * MS), Some(Instant::now() + 5 * MS));
    activity.wrote::<()>(&Poll::Pending);
    assert_eq!(activity.farewell(told, 5 * MS), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_gets_no_window_is_stalled_and_pings_are_no_requests() {
    let activity = Arc::new(Activity::new());
    let first = Flight::begin(activity.clone(), true, false);
    let second = Flight::begin(activity.clone(), true, false);
    assert_eq!(due(&activity), None);
    first.answered();
    tokio::time::advance(400 * MS).await;
    first.progress();
    assert_eq!(due(&activity), Some((1000, Due::Stalled)));
    drop(first);
    assert_eq!(due(&activity), None, "the second waits for the registry");
    drop(second);
    activity.read(b"G");
    assert_eq!(due(&activity), Some((100, Due::Idle)));
}
