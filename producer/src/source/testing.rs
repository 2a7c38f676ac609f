//! What every [`Source`] promises, as a check to run on each.

#![allow(clippy::expect_used, clippy::panic)] // A check fails by panicking.

use super::{Batch, Offset, Read, Source};
use crate::sensors::SensorTable;

/// What a reading is, whatever the table of sensors: offset, device and tag, time, the bits of the value.
type Seen = (u64, String, i64, u64);

/// One partition, as it was read.
#[derive(Debug, Default)]
struct Partition {
    readings: Vec<Seen>,
    /// The `next` of each batch.
    ends: Vec<u64>,
    has_ended: bool,
}

/// Reads a source to its end, and checks that offsets rise and that no batch ends among the readings of one offset.
fn read_to_end(source: &mut dyn Source) -> Vec<Partition> {
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    let mut partitions: Vec<Partition> = Vec::new();
    loop {
        match source
            .read(&mut sensors, &mut batch)
            .expect("the source can be read")
        {
            Read::Batch => {}
            Read::Idle { .. } => continue,
            Read::End { .. } => break,
        }
        partitions.resize_with(source.partitions().len(), Partition::default);
        let partition = &mut partitions[batch.partition];
        assert!(!partition.has_ended, "a batch follows the end of its partition");
        let name = &source.partitions()[batch.partition];
        for reading in &batch.readings {
            let offset = reading.offset.0;
            let end = partition.ends.last().copied().unwrap_or(0);
            let last = partition.readings.last().map_or(0, |(offset, ..)| *offset);
            assert!(
                offset >= end,
                "{name}: {offset} comes after a batch that ended at {end}"
            );
            assert!(offset >= last, "{name}: {offset} comes after {last}");
            assert!(
                offset < batch.next.0,
                "{name}: {offset} is not below the batch's end {}",
                batch.next.0
            );
            let sensor = sensors.id(reading.sensor).to_string();
            partition
                .readings
                .push((offset, sensor, reading.time.as_millis(), reading.value.to_bits()));
        }
        partition.ends.push(batch.next.0);
        partition.has_ended = batch.ended;
    }
    partitions.resize_with(source.partitions().len(), Partition::default);
    assert!(
        partitions.iter().all(|partition| partition.has_ended),
        "a partition has no end"
    );
    partitions
}

/// Checks that a finite source returns the same readings with the same offsets each time it is opened, from whichever offset:
/// what a restart from a checkpoint relies on.
///
/// # Panics
///
/// Panics if the source breaks a promise.
pub fn is_read_again_from_any_offset(open: impl Fn() -> Box<dyn Source>) {
    let whole = read_to_end(&mut *open());
    assert!(
        whole.iter().any(|partition| partition.readings.len() > 1),
        "there is nothing to check"
    );
    for (index, partition) in whole.iter().enumerate() {
        let offsets = partition.readings.iter().map(|(offset, ..)| *offset);
        let between = partition.ends.iter().copied();
        // A prime step visits beginnings, ends and the middle of batches.
        let some = offsets.step_by(partition.readings.len() / 13 + 1);
        for offset in some.chain(between) {
            let mut source = open();
            source
                .seek(index, Offset(offset))
                .expect("the partition can be continued");
            let again = &read_to_end(&mut *source)[index].readings;
            let first = partition.readings.partition_point(|(at, ..)| *at < offset);
            assert_eq!(
                again.len(),
                partition.readings.len() - first,
                "partition {index} from {offset}"
            );
            assert!(
                *again == partition.readings[first..],
                "partition {index} from {offset} differs"
            );
        }
    }
}
