//! What has to be true at the end: every reading is in exactly one window or in quarantine, every window holds what a
//! batch computation gives, and one prediction counts for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use windrow_common::{Aggregate, EventTime, ScoringMessage, SensorId};
use windrow_producer::checkpoint::{Account, accounts};
use windrow_producer::window::Judged;
use windrow_store::Store;

use crate::broker::SimBroker;
use crate::life::Deleted;
use crate::plan::{Content, Kind, Plan};
use crate::source::partition_name;

/// The sensor and the start of a window.
type Key = (SensorId, EventTime);
/// The partition and the offset of an item.
type Place = (String, u64);

/// Checks everything; an error says what does not hold. The source was first read at `first_run_ms`. The last producer
/// has missed `missed` partitions, and said so.
pub(crate) async fn check(
    plan: &Plan,
    first_run_ms: u64,
    deleted: &[Deleted],
    missed: u64,
    store: &Store,
    broker: &SimBroker,
) -> Result<(), String> {
    let needed = deleted.iter().filter(|file| file.is_needed).count() as u64;
    if needed != missed {
        return Err(format!(
            "{needed} files that are needed were deleted, and {missed} missed"
        ));
    }
    let deleted: BTreeSet<Place> = deleted
        .iter()
        .flat_map(|file| {
            file.offsets
                .iter()
                .map(|offset| (partition_name(file.partition), *offset))
        })
        .collect();
    let windows = windows(store, broker, needed > 0).await?;
    let quarantine = quarantine(plan, store).await?;
    let mut by_value: HashMap<(usize, EventTime, u64), Place> = HashMap::new();
    for (partition, entry) in plan.entries() {
        if let Content::Reading { sensor, time, value } = entry.content
            && value.is_finite()
        {
            let start = time.floor(plan.window_length());
            let place = (partition_name(partition), entry.offset);
            by_value.insert((sensor, start, value as u64), place);
        }
    }
    let times: HashMap<Place, (EventTime, f64)> = plan
        .entries()
        .filter_map(|(partition, entry)| match entry.content {
            Content::Reading { time, value, .. } => {
                Some(((partition_name(partition), entry.offset), (time, value)))
            }
            Content::Garbage => None,
        })
        .collect();
    let mut windowed: BTreeSet<Place> = BTreeSet::new();
    for ((sensor, start), aggregate) in &windows {
        let number: usize = sensor.device[1..]
            .parse()
            .map_err(|_| format!("unknown {sensor}"))?;
        let mut readings = Vec::new();
        let sum = (aggregate.mean * aggregate.count as f64).round() as u64;
        for bit in (0..63).filter(|bit| sum & (1 << bit) != 0) {
            let place = by_value.get(&(number, *start, 1 << bit)).ok_or_else(|| {
                format!("{sensor} at {start} holds a reading that was never made: {aggregate:?}")
            })?;
            let (time, value) = times[place];
            readings.push((time, value));
            if !windowed.insert(place.clone()) {
                return Err(format!("{place:?} is in two windows"));
            }
        }
        compare(sensor, *start, aggregate, &mut readings)?;
    }
    for (partition, entry) in plan.entries() {
        let place = (partition_name(partition), entry.offset);
        let reason = quarantine.get(&place);
        match (windowed.contains(&place), reason) {
            (true, None) => {}
            (false, Some(reason)) => {
                let was_there = plan.kind == Kind::Files && entry.released_ms <= first_run_ms;
                if !permitted(plan, was_there, &entry.content, reason) {
                    return Err(format!("{place:?} is in quarantine as {reason}: {entry:?}"));
                }
            }
            (true, Some(reason)) => {
                return Err(format!("{place:?} is in a window and in quarantine ({reason})"));
            }
            (false, None) if deleted.contains(&place) => {}
            (false, None) => {
                return Err(format!(
                    "{place:?} is in no window and not in quarantine: {entry:?}"
                ));
            }
        }
    }
    match needed {
        0 => check_accounts(plan, store, windowed.len() as u64, quarantine.len() as u64).await,
        // Readings that could not be read again were counted, and are nowhere: the audit says so.
        _ => Ok(()),
    }
}

/// Checks that the checkpoints, with which the audit begins, count what there is. Of a file without a reading that could be
/// used they count nothing, because the next run may read it with other options. Only real files are without one.
async fn check_accounts(plan: &Plan, store: &Store, windowed: u64, quarantined: u64) -> Result<(), String> {
    let accounts = accounts(store).await.map_err(|error| error.to_string())?;
    let sum = |count: fn(&Account) -> u64| accounts.iter().map(count).sum::<u64>();
    let of_partitions = |count: fn(&Judged) -> u64| {
        let partitions = accounts.iter().flat_map(|account| account.partitions.values());
        partitions.map(count).sum::<u64>()
    };
    let counted = [
        of_partitions(|judged| judged.windowed),
        of_partitions(|judged| judged.quarantined),
        sum(|account| account.ledger.readings_dispatched()),
        sum(|account| account.ledger.open),
    ];
    let uncounted = match plan.kind {
        Kind::Folder => quarantined.saturating_sub(counted[1]),
        _ => 0,
    };
    match counted == [windowed, quarantined - uncounted, windowed, 0] {
        true => Ok(()),
        false => Err(format!(
            "{windowed} readings are in windows and {quarantined} in quarantine; the checkpoints say {counted:?} (in windows, \
             in quarantine, dispatched, open)"
        )),
    }
}

/// Returns the windows that were dispatched, with the content that counts, and checks that each was scored once. Where
/// readings `are_missing`, a window that was dispatched before a crash may have more of them than its replay.
async fn windows(
    store: &Store,
    broker: &SimBroker,
    are_missing: bool,
) -> Result<BTreeMap<Key, Aggregate>, String> {
    let text = |error: windrow_store::StoreError| error.to_string();
    let mut dead: HashMap<Key, Aggregate> = HashMap::new();
    for message in broker.dead() {
        let message = ScoringMessage::decode(&message.body).map_err(|error| error.to_string())?;
        for aggregate in message.aggregates {
            let key = (message.sensor.clone(), aggregate.window_start);
            let before = dead.insert(key.clone(), aggregate);
            if before.is_some_and(|before| before != aggregate) && !are_missing {
                return Err(format!("two dead letters differ for {key:?}"));
            }
        }
    }
    let mut predicted: HashMap<Key, Aggregate> = HashMap::new();
    for hour in store.hours("predictions", None, None).await.map_err(text)? {
        let read = store.predictions(&hour).await.map_err(text)?;
        if read.conflicts + read.superseded > 0 && !are_missing {
            return Err(format!(
                "{} predictions differ from others of their window",
                read.conflicts + read.superseded
            ));
        }
        for prediction in read.rows {
            let key = (prediction.sensor, prediction.aggregate.window_start);
            if predicted.insert(key.clone(), prediction.aggregate).is_some() {
                return Err(format!("two predictions count for {key:?}"));
            }
        }
    }
    let mut windows = BTreeMap::new();
    for hour in store.hours("dispatched", None, None).await.map_err(text)? {
        for window in store.dispatched(&hour).await.map_err(text)?.windows {
            let key = (window.sensor, window.window_start);
            let scored = predicted.remove(&key).or_else(|| dead.remove(&key));
            let aggregate = scored.ok_or_else(|| format!("{key:?} was dispatched and not scored"))?;
            if aggregate.count != window.count && !are_missing {
                return Err(format!(
                    "{key:?} has {} readings, scored {}",
                    window.count, aggregate.count
                ));
            }
            windows.insert(key, aggregate);
        }
    }
    match predicted.keys().next() {
        Some(key) => Err(format!("{key:?} was scored and never dispatched")),
        None => Ok(windows),
    }
}

/// Returns the place of an item of quarantine. Real files have offsets of their own, so their items are known by content.
fn place_of(plan: &Plan, line: &serde_json::Value) -> Option<Place> {
    let text = |field: &str| line[field].as_str();
    if plan.kind != Kind::Folder {
        return Some((text("partition")?.to_owned(), line["offset"].as_u64()?));
    }
    if let Some(raw) = text("raw") {
        let mut words = raw.split_whitespace().skip(1);
        let partition: usize = words.next()?.parse().ok()?;
        return Some((partition_name(partition), words.next()?.parse().ok()?));
    }
    let wanted = (text("device")?, text("time")?, text("value")?);
    plan.entries().find_map(|(partition, entry)| match entry.content {
        Content::Reading { sensor, time, value } => {
            let own = (format!("d{sensor}"), time.to_string(), value.to_string());
            let same = (&*own.0, &*own.1, &*own.2) == wanted;
            same.then(|| (partition_name(partition), entry.offset))
        }
        Content::Garbage => None,
    })
}

/// Returns the reasons for which items were set aside.
async fn quarantine(plan: &Plan, store: &Store) -> Result<BTreeMap<Place, String>, String> {
    let mut places = BTreeMap::new();
    for blob in store
        .list("quarantine")
        .await
        .map_err(|error| error.to_string())?
    {
        let bytes = store.get(&blob.path).await.map_err(|error| error.to_string())?;
        let bytes = bytes.unwrap_or_default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            let place = place_of(plan, &line).ok_or_else(|| format!("nobody wrote {line}"))?;
            let reason = line["reason"].as_str().unwrap_or_default().to_owned();
            if let Some(before) = places.insert(place.clone(), reason.clone())
                && before != reason
            {
                return Err(format!("{place:?} was set aside as {before} and as {reason}"));
            }
        }
    }
    Ok(places)
}

/// Returns whether the reason can be right. In files, a reading that existed when they were first read to their end is
/// never late; in other sources, a reading in order is never late. For growing files, the time when the end was reached
/// is estimated from their rate.
fn permitted(plan: &Plan, was_there: bool, content: &Content, reason: &str) -> bool {
    let in_order = plan.orderly && plan.kind != Kind::Files;
    match (content, reason) {
        (Content::Garbage, "unreadable") => true,
        (Content::Reading { value, .. }, "non-finite") => value.is_nan(),
        (Content::Reading { .. }, "far-future") => !plan.orderly,
        (Content::Reading { .. }, "late") => !was_there && !in_order,
        _ => false,
    }
}

/// Compares a window with a batch computation over its readings.
fn compare(
    sensor: &SensorId,
    start: EventTime,
    aggregate: &Aggregate,
    readings: &mut [(EventTime, f64)],
) -> Result<(), String> {
    readings.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let values = || readings.iter().map(|(_, value)| *value);
    let count = readings.len() as f64;
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let is_right = aggregate.count == readings.len() as u64
        && aggregate.mean == mean
        && (aggregate.std - variance.sqrt()).abs() <= 1e-9 * mean
        && aggregate.min == values().fold(f64::MAX, f64::min)
        && aggregate.max == values().fold(f64::MIN, f64::max)
        && readings
            .first()
            .is_some_and(|(_, value)| *value == aggregate.first)
        && readings.last().is_some_and(|(_, value)| *value == aggregate.last);
    match is_right {
        true => Ok(()),
        false => Err(format!("{sensor} at {start} is {aggregate:?}, of {readings:?}")),
    }
}
