//! Waits for the worker's subscription, even if a stop is requested while it is starting.

use std::time::Duration;

use tokio::time::timeout;
use windrow_queue::QueueError;
use windrow_service::Shutdown;

/// How long a stop waits for a subscription that is starting. The broker may already have sent messages on it, and
/// returning a message spends one of its deliveries.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(2);

/// Waits for a consumer. Returns `None` if a stop is requested and the subscription then fails or takes longer than
/// [`SUBSCRIBED_WITHIN`].
pub(crate) async fn subscribed<C>(
    consuming: impl Future<Output = Result<C, QueueError>>,
    shutdown: &mut Shutdown,
) -> Result<Option<C>, QueueError> {
    tokio::pin!(consuming);
    tokio::select! {
        consumer = &mut consuming => return consumer.map(Some),
        () = shutdown.stopping() => {}
    }
    match timeout(SUBSCRIBED_WITHIN, consuming).await {
        Ok(Ok(consumer)) => Ok(Some(consumer)),
        Ok(Err(error)) => {
            tracing::info!(%error, "stopped before it had subscribed");
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_a_subscription_that_is_being_started_but_not_for_long() {
        let (trigger, mut shutdown) = Shutdown::new();
        trigger.stop();
        for (seconds, expected) in [(1, Some(7)), (60, None)] {
            let consuming = async {
                sleep(Duration::from_secs(seconds)).await;
                Ok(7)
            };
            assert_eq!(subscribed(consuming, &mut shutdown).await.unwrap(), expected);
        }
    }
}
