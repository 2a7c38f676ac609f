//! Event processors that share the partitions.

use std::sync::Arc;
use std::sync::Mutex;

use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::{EventProcessor, InMemoryCheckpointStore};

use tokio::task::{LocalSet, spawn_local};

use crate::*;

/// A record of the partitions that a processor got, and of those it lost.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<String>, Vec<String>)>>);

async fn process(hub: &Hub, store: &Arc<InMemoryCheckpointStore>, seen: Seen) {
    let processor = EventProcessor::builder()
        .with_update_interval(azure_core::time::Duration::milliseconds(200))
        .with_partition_expiration_duration(azure_core::time::Duration::seconds(2))
        .build(consumer(hub).await, store.clone())
        .await
        .unwrap();
    let running = processor.clone();
    tokio::spawn(async move { running.run().await });
    // The stream of a partition client cannot move between threads.
    spawn_local(async move {
        while let Ok(partition) = processor.next_partition_client().await {
            let seen = seen.clone();
            seen.0
                .lock()
                .unwrap()
                .0
                .push(partition.get_partition_id().to_owned());
            spawn_local(async move {
                let mut events = Box::pin(partition.stream_events());
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => partition.update_checkpoint(&event).await.unwrap(),
                        Err(error) => {
                            assert!(
                                matches!(error.kind, ErrorKind::ConsumerDisconnected(_)),
                                "{error:?}"
                            );
                            seen.0
                                .lock()
                                .unwrap()
                                .1
                                .push(partition.get_partition_id().to_owned());
                        }
                    }
                }
                drop(events);
                if let Ok(partition) = Arc::try_unwrap(partition).map_err(drop) {
                    partition.close().await.unwrap();
                }
            });
        }
    });
}

#[test]
fn a_second_processor_takes_its_share_of_the_partitions() {
    within_limit(LocalSet::new().run_until(async {
        let hub = hub();
        for partition in 0..4 {
            append(&hub, partition, &["a"]);
        }
        let store = Arc::new(InMemoryCheckpointStore::new());
        let (first, second) = (Seen::default(), Seen::default());
        process(&hub, &store, first.clone()).await;
        until(|| first.0.lock().unwrap().0.len() == 4).await;
        process(&hub, &store, second.clone()).await;
        until(|| first.0.lock().unwrap().1.len() >= 2 && second.0.lock().unwrap().0.len() >= 2).await;
        for partition in 0..4 {
            until(|| hub.open_receivers("$Default", partition) == 1).await;
        }
    }));
}
