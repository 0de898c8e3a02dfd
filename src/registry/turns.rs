//! Who is evaluated, built and read for, and when: a gate for each kind of work.

use super::{RegistryError, Result, Settings, work};
use crate::access::{Client, Gate, GateLimits, Place, Refused, Ticket};
use std::{num::NonZeroUsize, time::Duration};

/// Work that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Finding out what names mean.
    Evaluations,
    /// Builds of images, until these are rooted.
    Builds,
    /// Images that are in the store already, from before they are read until they are rooted.
    Stored,
}

/// The gates. One place of each is kept from a client that has all others, since its work may take for as long as it likes.
#[derive(Debug)]
pub(super) struct Turns {
    evaluations: Gate<Client>,
    builds: Gate<Client>,
    stored: Gate<Client>,
    readings: Gate<Client>,
    limits: [GateLimits; 3],
}

/// A place in a queue.
#[derive(Debug)]
pub(super) struct Turn {
    ticket: Ticket<Client>,
    queue: Queue,
    limits: GateLimits,
}

impl Turns {
    pub(super) fn new(settings: &Settings) -> Self {
        let limits =
            |places: NonZeroUsize, waiting, of_client| GateLimits { places, waiting, of_client, spare: true };
        let Settings { max_evaluations, max_queued_evaluations, max_client_evaluations, .. } = *settings;
        let Settings { max_builds, max_queued_builds, max_client_builds, max_queued_readings, .. } =
            *settings;
        let all = [
            limits(max_evaluations, max_queued_evaluations, max_client_evaluations),
            limits(max_builds, max_queued_builds, max_client_builds),
            limits(max_builds, max_queued_readings, 0),
        ];
        Self {
            evaluations: Gate::new(all[0]),
            builds: Gate::new(all[1]),
            stored: Gate::new(all[2]),
            // Only what has a place of the two before comes here.
            readings: Gate::new(limits(max_builds, usize::MAX, 0)),
            limits: all,
        }
    }

    /// Queues for the work that runs here, or says that its clients have as much as they may have.
    pub(super) fn queue(&self, queue: Queue) -> Result<Turn> {
        let (gate, limits) = match queue {
            Queue::Evaluations => (&self.evaluations, self.limits[0]),
            Queue::Builds => (&self.builds, self.limits[1]),
            Queue::Stored => (&self.stored, self.limits[2]),
        };
        let ticket = work::queue(gate).map_err(|refused| error(queue, limits, refused))?;
        Ok(Turn { ticket, queue, limits })
    }

    /// Waits for a turn to read an image, side by side with others or alone.
    pub(super) async fn reading(&self, alone: bool) -> Result<Place<Client>> {
        let ticket = if alone { work::queue_alone(&self.readings) } else { work::queue(&self.readings) };
        let refused = |refused| RegistryError::internal(format!("nobody is refused a reading: {refused:?}"));
        ticket.map_err(refused)?.turn().await.map_err(refused)
    }
}

impl Turn {
    /// Waits for it. It lasts until the place is dropped.
    pub(super) async fn come(self) -> Result<Place<Client>> {
        self.ticket.turn().await.map_err(|refused| error(self.queue, self.limits, refused))
    }
}

fn error(queue: Queue, limits: GateLimits, refused: Refused) -> RegistryError {
    let (what, full, own, seconds) = match queue {
        Queue::Evaluations => ("evaluations", "MAX_QUEUED_EVALUATIONS", "MAX_CLIENT_EVALUATIONS", 5),
        Queue::Builds => ("builds", "MAX_QUEUED_BUILDS", "MAX_CLIENT_BUILDS", 30),
        // Of these a client may have any number.
        Queue::Stored => ("images", "MAX_QUEUED_READINGS", "MAX_QUEUED_READINGS", 5),
    };
    let retry_after = Duration::from_secs(seconds);
    match refused {
        Refused::Full => {
            let waiting = limits.waiting;
            let message = format!("{waiting} {what} wait already ({full}), try again later");
            RegistryError::Overloaded { message, retry_after }
        }
        Refused::OwnLimit => {
            let max = limits.of_client;
            let message =
                format!("a client may have {max} {what} running or waiting ({own}), try again later");
            RegistryError::OverLimit { message, retry_after }
        }
    }
}
