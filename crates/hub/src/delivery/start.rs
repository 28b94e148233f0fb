//! Where a new destination begins.

use std::time::Duration;

use crate::delivery::Start;
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::reading::StreamItem;
use crate::tally::DestinationTally;

/// Where a new destination begins, and how many events it is not to have: those before it, and those that
/// retention has dropped.
pub(super) async fn origin(hub: &HubHandle, name: &str, start: Start) -> (DestinationTally, u64) {
    let tallies = hub.stats.tallies();
    let at = |cursor| DestinationTally { cursor, read_to: cursor, ..DestinationTally::default() };
    let first = hub.bounds().first;
    match start {
        Start::State => loop {
            match hub.begin_with_state(name).await {
                // What it is not to have is journaled with it.
                Ok(tally) => return (tally, 0),
                Err(Unavailable::ShuttingDown) => return (at(tallies.last_event), 0),
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        },
        Start::Now => (at(tallies.last_event), tallies.published),
        Start::Beginning if first <= 1 => (at(0), 0),
        Start::Beginning => {
            let mut kept = 0;
            let mut stream = hub.stream(first - 1);
            while stream.position() < tallies.last_event {
                match stream.next().await {
                    Ok(StreamItem::Events(events)) => {
                        kept += events.iter().filter(|e| e.position <= tallies.last_event).count() as u64;
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "kept events can't be counted");
                        break;
                    }
                }
            }
            (at(first - 1), tallies.published.saturating_sub(kept))
        }
    }
}
