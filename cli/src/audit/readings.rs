//! Accounts for readings: for each source, read = in windows + in quarantine, compared with `dispatched/` and
//! `quarantine/`.
//!
//! The checkpoints say where the readings are. The tables may be ahead of them, since they are written first; a table
//! that is behind has lost something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use windrow_common::{EventTime, Length, encode_name};
use windrow_producer::checkpoint::Account;
use windrow_producer::quarantine::SetAsideCounts;

use crate::show;

/// The readings of one source, by where they are.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SourceReadings {
    #[serde(flatten)]
    pub(crate) all: Counts,
    /// Of the readings in windows, those whose windows were dispatched.
    pub(crate) dispatched: u64,
    /// Of the readings in windows, those whose windows are open.
    pub(crate) open: u64,
    /// The counts of each partition.
    pub(crate) partitions: BTreeMap<String, Counts>,
    /// What does not fit, and fails the audit.
    pub(crate) faults: Vec<String>,
    /// What cannot be compared, or is harmless.
    pub(crate) notes: Vec<String>,
}

/// Counts of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Readings that were read and judged.
    pub(crate) read: u64,
    /// Of these, readings in windows.
    pub(crate) windowed: u64,
    /// Of these, readings in quarantine.
    pub(crate) quarantined: u64,
}

/// What the tables hold. Sources are percent-encoded, as in an `Account`.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Readings in dispatched windows, by day (`date=…`) and source.
    dispatched: BTreeMap<String, BTreeMap<String, u64>>,
    /// What was set aside.
    pub(super) quarantine: SetAsideCounts,
}

impl Tables {
    /// Adds the readings of an hour (`date=…/hour=…`) of `dispatched/`.
    pub(super) fn add_dispatched(&mut self, hour: &str, readings: BTreeMap<Arc<str>, u64>) {
        let day = hour.split('/').next().unwrap_or_default();
        let day = self.dispatched.entry(day.to_owned()).or_default();
        for (source, readings) in readings {
            *day.entry(encode_name(&source)).or_default() += readings;
        }
    }
}

impl Tables {
    /// Returns the late readings of a source by day (`date=…`).
    fn late_by_day(&self, source: &str) -> BTreeMap<String, u64> {
        let mut late = BTreeMap::new();
        let of_source = self
            .quarantine
            .late
            .iter()
            .filter(|(name, _)| encode_name(name) == source);
        for (day, count) in of_source.flat_map(|(_, days)| days) {
            *late.entry(day_folder(*day)).or_default() += count;
        }
        late
    }
}

/// Returns the folder of a day: `date=…`.
fn day_folder(day: EventTime) -> String {
    let hour = day.hive_partition();
    hour.split('/').next().unwrap_or_default().to_owned()
}

/// Compares what the checkpoints say with what the tables hold.
pub(super) fn account(accounts: &[Account], tables: &Tables) -> BTreeMap<String, SourceReadings> {
    let mut by_source: BTreeMap<&str, Vec<&Account>> = BTreeMap::new();
    for account in accounts {
        by_source.entry(&account.source).or_default().push(account);
    }
    let sources = by_source.into_iter();
    sources
        .map(|(source, accounts)| (source.to_owned(), of_source(source, &accounts, tables)))
        .collect()
}

fn of_source(source: &str, accounts: &[&Account], tables: &Tables) -> SourceReadings {
    let mut readings = SourceReadings::default();
    let mut days: BTreeMap<String, u64> = BTreeMap::new();
    for account in accounts {
        for (name, judged) in &account.partitions {
            let partition = readings.partitions.entry(name.clone()).or_default();
            for counts in [partition, &mut readings.all] {
                counts.windowed += judged.windowed;
                counts.quarantined += judged.quarantined;
                counts.read = counts.windowed + counts.quarantined;
            }
        }
        readings.open += account.ledger.open;
        readings.dispatched += account.ledger.readings_dispatched();
        for (day, count) in &account.ledger.dispatched {
            *days.entry(day_folder(*day)).or_default() += count;
        }
    }
    let more = check_dispatched(source, &days, tables, &mut readings);
    if accounts.iter().any(|account| account.is_partial()) {
        readings.notes.push(format!(
            "{source}: its checkpoint was begun by a version that did not count readings, so the audit begins at the \
             dispatched windows; --restart counts from the start"
        ));
    } else {
        check_windows(source, more, &mut readings);
    }
    check_quarantine(source, accounts, tables, &mut readings);
    readings
}

/// Checks that no reading in a window was lost before the window was dispatched. `more` is the number of dispatched
/// readings that are neither in the checkpoints nor late.
fn check_windows(source: &str, more: u64, readings: &mut SourceReadings) {
    let kept = readings.dispatched + readings.open;
    let missing = readings.all.windowed.saturating_sub(kept);
    if missing == 0 {
        return;
    }
    let what = format!(
        "{source}: {} readings were put in windows that are neither dispatched nor open: a restart could not read them \
         again, because their file was gone or the hub no longer had them",
        show::count(missing)
    );
    match missing > more {
        true => readings.faults.push(format!(
            "{what}; if they are still there, `windrow replay` their stretch"
        )),
        false => readings
            .notes
            .push(format!("{what}; a replay has dispatched as many since")),
    }
}

/// Checks that `dispatched/` holds all dispatched readings. Returns how many more it holds than the checkpoints and a
/// replay of late readings explain. Late readings were never in a window, so they cannot make up for lost ones.
fn check_dispatched(
    source: &str,
    days: &BTreeMap<String, u64>,
    tables: &Tables,
    readings: &mut SourceReadings,
) -> u64 {
    let (mut missing, mut more, mut unexplained, mut deleted) = (0, 0, 0, BTreeSet::new());
    let late = tables.late_by_day(source);
    for (day, expected) in days {
        match tables.dispatched.get(day) {
            Some(sources) => {
                let found = sources.get(source).copied().unwrap_or(0);
                missing += expected.saturating_sub(found);
            }
            None => _ = deleted.insert(day),
        }
    }
    for (day, sources) in &tables.dispatched {
        let expected = days.get(day).copied().unwrap_or(0);
        let found = sources.get(source).copied().unwrap_or(0);
        let surplus = found.saturating_sub(expected);
        more += surplus;
        unexplained += surplus.saturating_sub(late.get(day).copied().unwrap_or(0));
    }
    if missing > 0 {
        readings.faults.push(format!(
            "{source}: {} readings are missing in dispatched/: the same windows were cut from several partitions, each with \
             some of the readings (send each sensor to one partition), or parts of dispatched/ were lost",
            show::count(missing)
        ));
    }
    if more > 0 {
        readings.notes.push(format!(
            "{source}: dispatched/ has {} readings more than the checkpoints: from a replay, from before a --restart, or \
             from after the last save",
            show::count(more)
        ));
    }
    if let (Some(first), Some(last)) = (deleted.first(), deleted.last()) {
        readings.notes.push(format!(
            "{source}: {} days from {first} to {last} are not in dispatched/ any more, and are not compared",
            deleted.len()
        ));
    }
    unexplained
}

fn check_quarantine(source: &str, accounts: &[&Account], tables: &Tables, readings: &mut SourceReadings) {
    let of_source = |readings: &BTreeMap<String, u64>| {
        let readings = readings.iter().filter(|(name, _)| encode_name(name) == source);
        readings.map(|(_, count)| count).sum::<u64>()
    };
    let found = of_source(&tables.quarantine.readings);
    let purged = of_source(&tables.quarantine.purged);
    if purged > 0 {
        readings.notes.push(format!(
            "{source}: {} readings were purged from quarantine/",
            show::count(purged)
        ));
    }
    let missing = readings.all.quarantined.saturating_sub(found);
    if missing == 0 {
        return;
    }
    let since = accounts
        .iter()
        .filter_map(|account| account.quarantined_since)
        .min();
    let day = |time: EventTime| time.floor(Length::DAY);
    let first = tables.quarantine.since.map_or(EventTime::MAX, day);
    // The folder of the first day was deleted, to make room.
    if since.is_some_and(|since| day(since) < first) {
        readings.notes.push(format!(
            "{source}: the first days of quarantine/ were deleted, so its {} readings are not compared",
            show::count(found)
        ));
        return;
    }
    readings.faults.push(format!(
        "{source}: {} readings that were set aside are not in quarantine/: its parts were deleted by hand, or lost",
        show::count(missing)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_producer::checkpoint::Origin;
    use windrow_producer::window::{Judged, Ledger};

    const DAY: i64 = 86_400_000;

    fn account_of(source: &str, windowed: u64, quarantined: u64, days: &[(i64, u64)], open: u64) -> Account {
        let judged = Judged {
            windowed,
            quarantined,
            is_partial: false,
        };
        let dispatched = days
            .iter()
            .map(|(day, count)| (EventTime::from_millis(day * DAY), *count));
        Account {
            path: format!("checkpoints/{source}/all.json"),
            source: source.to_owned(),
            origin: Origin::default(),
            window: Length::from_millis(60_000),
            interval: Length::from_millis(60_000),
            partitions: BTreeMap::from([("a.csv".to_owned(), judged)]),
            ledger: Ledger {
                dispatched: dispatched.collect(),
                open,
            },
            quarantined_since: (quarantined > 0).then(|| EventTime::from_millis(20 * DAY)),
        }
    }

    fn tables(source: &str, days: &[(&str, u64)], quarantined: u64) -> Tables {
        let mut tables = Tables::default();
        for (day, count) in days {
            tables.add_dispatched(
                &format!("{day}/hour=07"),
                BTreeMap::from([(source.into(), *count)]),
            );
        }
        tables.quarantine.readings.insert(source.to_owned(), quarantined);
        tables.quarantine.since = Some(EventTime::from_millis(20 * DAY));
        tables
    }

    /// Returns the faults and the notes of the only source.
    fn found(accounts: &[Account], tables: &Tables) -> (Vec<String>, Vec<String>) {
        let mut sources = account(accounts, tables);
        let readings = sources.remove("s").unwrap();
        (readings.faults, readings.notes)
    }

    const BOTH: [(&str, u64); 2] = [("date=1970-01-01", 30), ("date=1970-01-02", 50)];

    #[test]
    fn a_table_that_is_behind_is_a_loss_and_one_that_is_ahead_is_not() {
        let accounts = [account_of("s", 100, 7, &[(0, 30), (1, 50)], 20)];
        let sources = account(&accounts, &tables("s", &BOTH, 7));
        let readings = &sources["s"];
        assert_eq!(
            (readings.all.read, readings.dispatched, readings.open),
            (107, 80, 20)
        );
        assert_eq!(
            (&readings.faults, &readings.notes),
            (&Vec::new(), &Vec::<String>::new())
        );
        let (faults, notes) = found(&accounts, &tables("s", &[BOTH[0], ("date=1970-01-02", 49)], 7));
        assert!(
            faults.len() == 1 && faults[0].starts_with("s: 1 readings are missing in dispatched/"),
            "{faults:?}"
        );
        assert!(notes.is_empty());
        let (faults, notes) = found(&accounts, &tables("s", &[BOTH[0], ("date=1970-01-02", 53)], 9));
        assert!(faults.is_empty(), "{faults:?}");
        assert!(
            notes.len() == 1 && notes[0].contains("has 3 readings more"),
            "{notes:?}"
        );
    }

    #[test]
    fn a_reading_that_is_in_no_window_that_was_dispatched_is_missed() {
        let accounts = [account_of("s", 100, 0, &[(0, 30), (1, 50)], 15)];
        let (faults, _) = found(&accounts, &tables("s", &BOTH, 0));
        assert!(
            faults.len() == 1 && faults[0].starts_with("s: 5 readings were put in windows"),
            "{faults:?}"
        );
        // Late readings that were replayed are no readings of windows, and a replay of the day is.
        let mut replayed = tables("s", &[BOTH[0], ("date=1970-01-02", 55)], 5);
        let late = BTreeMap::from([(EventTime::from_millis(DAY), 5)]);
        replayed.quarantine.late.insert("s".to_owned(), late);
        let (faults, _) = found(&accounts, &replayed);
        assert!(
            faults.len() == 1 && faults[0].starts_with("s: 5 readings were put"),
            "{faults:?}"
        );
        replayed.add_dispatched("date=1970-01-02/hour=09", BTreeMap::from([("s".into(), 5)]));
        assert_eq!(found(&accounts, &replayed).0, Vec::<String>::new());
        let mut old = accounts;
        for judged in old[0].partitions.values_mut() {
            judged.is_partial = true;
        }
        let (faults, notes) = found(&old, &tables("s", &BOTH, 0));
        assert!(
            faults.is_empty() && notes[0].contains("did not count"),
            "{notes:?}"
        );
    }

    #[test]
    fn days_that_were_deleted_are_said_and_not_compared() {
        let accounts = [account_of("s", 100, 7, &[(0, 30), (1, 50)], 20)];
        let (faults, notes) = found(&accounts, &tables("s", &BOTH[1..], 7));
        assert!(
            faults.is_empty() && notes[0].contains("1 days from date=1970-01-01"),
            "{notes:?}"
        );
        let mut later = tables("s", &BOTH, 3);
        let (faults, _) = found(&accounts, &later);
        assert!(
            faults.len() == 1 && faults[0].starts_with("s: 4 readings that were set aside"),
            "{faults:?}"
        );
        later.quarantine.since = Some(EventTime::from_millis(21 * DAY));
        let (faults, notes) = found(&accounts, &later);
        assert!(faults.is_empty() && notes.len() == 1, "{faults:?}");
    }

    #[test]
    fn partitions_with_checkpoints_of_their_own_add_up_and_sources_do_not_mix() {
        let accounts = [
            account_of("s", 40, 0, &[(0, 40)], 0),
            account_of("s", 60, 0, &[(0, 50)], 10),
            account_of("t", 5, 0, &[(0, 5)], 0),
        ];
        // Each of the two partitions had some readings of the same windows: the rows of one count.
        let mut split = tables("s", &[("date=1970-01-01", 50)], 0);
        split.add_dispatched("date=1970-01-01/hour=08", BTreeMap::from([("t".into(), 5)]));
        let sources = account(&accounts, &split);
        assert_eq!(sources["t"].faults, Vec::<String>::new());
        assert!(
            sources["s"].faults[0].contains("40 readings are missing in dispatched/"),
            "{:?}",
            sources["s"].faults
        );
    }
}
