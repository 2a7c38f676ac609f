//! Reads maintenance from iCalendar files (RFC 5545).
//!
//! Recurring events are written out as times, so that nothing but this needs to know calendars: the store holds plain
//! stretches. They keep their local time when clocks change, and last exactly as long as the first one; whole days last from
//! midnight to midnight.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use chrono::{DateTime, Days, TimeDelta, TimeZone};
use icalendar::rrule::Tz;
use icalendar::{Calendar, CalendarDateTime, Component, DatePerhapsTime};
use windrow_alerter::mutes::{CalendarEvent, Mute, Stretch};
use windrow_common::{EventTime, SensorPattern};

/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Events that began longer ago than this are not read.
const BACK: std::time::Duration = std::time::Duration::from_secs(31 * 86_400);

/// The contents of a calendar.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) mutes: Vec<Mute>,
    /// Events that name no sensors.
    pub(super) skipped: Vec<String>,
}

/// Reads a file's text.
pub(super) fn text(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(format!("it has more than {} MiB", MAX_BYTES >> 20)),
        false => Ok(text),
    }
}

/// Reads the events of a calendar, recurring ones up to the time `until`.
pub(super) fn read(text: &str, name: &str, now: EventTime, until: EventTime) -> Result<Read, String> {
    let calendar: Calendar = text.parse()?;
    let mut read = Read {
        mutes: Vec::new(),
        skipped: Vec::new(),
    };
    let moved = moved(&calendar)?;
    for event in calendar.calendar_events() {
        let uid = event.get_uid().unwrap_or_default().to_owned();
        let summary = event.property_value("SUMMARY").unwrap_or(&uid).to_owned();
        let wrong = |why: String| format!("event `{summary}`: {why}");
        if event.property_value("STATUS") == Some("CANCELLED") {
            continue;
        }
        let sensors = sensors(&event).map_err(wrong)?;
        if sensors.is_empty() {
            read.skipped.push(summary);
            continue;
        }
        let none = HashSet::new();
        let is_moved = event.get_recurrence_id().is_some();
        let without = if is_moved {
            &none
        } else {
            moved.get(&uid).unwrap_or(&none)
        };
        let times = stretches(&event, now.saturating_sub(BACK), until, without).map_err(wrong)?;
        if times.is_empty() {
            continue;
        }
        let recurs = event.property_value("RRULE").is_some();
        read.mutes.push(Mute {
            id: format!("{name}-{}", read.mutes.len() + 1),
            sensors,
            times,
            retired: false,
            reason: summary,
            added: now,
            calendar: Some(CalendarEvent {
                calendar: name.to_owned(),
                uid,
                known_until: recurs.then_some(until),
            }),
        });
    }
    Ok(read)
}

/// Returns the starts of single occurrences that were moved or cancelled, by the event's UID.
fn moved(calendar: &Calendar) -> Result<HashMap<String, HashSet<EventTime>>, String> {
    let mut moved: HashMap<String, HashSet<EventTime>> = HashMap::new();
    for event in calendar.calendar_events() {
        let Some(at) = event.get_recurrence_id() else {
            continue;
        };
        let uid = event.get_uid().unwrap_or_default();
        let zone = event.calendar_tz();
        let at = instant(&at, zone).map_err(|why| format!("RECURRENCE-ID of event `{uid}`: {why}"))?;
        moved.entry(uid.to_owned()).or_default().insert(at);
    }
    Ok(moved)
}

/// Returns the sensors that an event names.
fn sensors(event: &icalendar::Event) -> Result<Vec<SensorPattern>, String> {
    for property in ["CATEGORIES", "LOCATION", "SUMMARY"] {
        let single = event.property_value(property);
        let several = event.multi_properties().get(property).into_iter().flatten();
        let texts = single.into_iter().chain(several.map(|property| property.value()));
        let words =
            texts.flat_map(|text| text.split(|char: char| char.is_whitespace() || ",;\\".contains(char)));
        let named: Vec<&str> = words.filter(|word| word.contains('/')).collect();
        if !named.is_empty() {
            let parsed = named.iter().map(|word| word.parse::<SensorPattern>());
            return parsed
                .collect::<Result<_, _>>()
                .map_err(|error| format!("{property}: {error}"));
        }
    }
    Ok(Vec::new())
}

/// How long an event lasts.
enum Lasts {
    Exactly(TimeDelta),
    /// From midnight to midnight.
    Days(u64),
}

/// Returns the times of an event that begin between `from` and `until`, but for those that were moved.
fn stretches(
    event: &icalendar::CalendarEvent<'_>,
    from: EventTime,
    until: EventTime,
    moved: &HashSet<EventTime>,
) -> Result<Vec<Stretch>, String> {
    let set = event.get_recurrence().map_err(|error| error.to_string())?;
    let start = *set.get_dt_start();
    if start.timezone().is_local() {
        return Err(
            "its time has no zone: write it as UTC (…Z) or with TZID=Europe/Berlin, or give the calendar an X-WR-TIMEZONE"
                .to_owned(),
        );
    }
    let lasts = lasts(event, &start)?;
    let utc = |time: EventTime| Tz::UTC.timestamp_millis_opt(time.as_millis()).single();
    let (Some(after), Some(before)) = (utc(from), utc(until)) else {
        return Err("its time is out of range".to_owned());
    };
    let found = set.after(after).before(before).all(u16::MAX);
    if found.limited {
        return Err("it recurs too often; import it with a shorter --for".to_owned());
    }
    let mut stretches = Vec::with_capacity(found.dates.len());
    for date in found.dates {
        let from = EventTime::from_millis(date.timestamp_millis());
        if moved.contains(&from) {
            continue;
        }
        let to = match &lasts {
            Lasts::Exactly(lasts) => date.timestamp_millis() + lasts.num_milliseconds(),
            Lasts::Days(days) => midnight_after(&date, *days)?,
        };
        let to = Some(EventTime::from_millis(to));
        stretches.push(Stretch { from, to });
    }
    Ok(stretches)
}

fn lasts(event: &icalendar::CalendarEvent<'_>, start: &DateTime<Tz>) -> Result<Lasts, String> {
    let lasts = match (event.get_start(), event.get_end()) {
        (Some(DatePerhapsTime::Date(first)), Some(DatePerhapsTime::Date(end))) => {
            u64::try_from((end - first).num_days()).map_or(Lasts::Days(0), Lasts::Days)
        }
        (Some(DatePerhapsTime::Date(_)), None) => Lasts::Days(1),
        (Some(DatePerhapsTime::DateTime(_)), Some(end @ DatePerhapsTime::DateTime(_))) => {
            let end = instant(&end, event.calendar_tz()).map_err(|why| format!("DTEND: {why}"))?;
            Lasts::Exactly(TimeDelta::milliseconds(
                end.as_millis() - start.timestamp_millis(),
            ))
        }
        _ => return Err("it has no DTEND of the same kind as its DTSTART".to_owned()),
    };
    match &lasts {
        Lasts::Exactly(lasts) if *lasts <= TimeDelta::zero() => Err("it ends before it begins".to_owned()),
        Lasts::Days(0) => Err("it ends before it begins".to_owned()),
        _ => Ok(lasts),
    }
}

/// Returns the time of a property, if it has a zone.
fn instant(time: &DatePerhapsTime, zone: Option<&str>) -> Result<EventTime, String> {
    let without =
        || "its time has no zone that is known: write it as UTC (…Z) or with TZID=Europe/Berlin".to_owned();
    let utc = match time {
        DatePerhapsTime::DateTime(time) => time.try_into_utc().ok_or_else(without)?,
        DatePerhapsTime::Date(date) => {
            let midnight = date.and_hms_opt(0, 0, 0).ok_or_else(without)?;
            let tzid = zone.ok_or_else(without)?.to_owned();
            let time = CalendarDateTime::WithTimezone {
                date_time: midnight,
                tzid,
            };
            time.try_into_utc().ok_or_else(without)?
        }
    };
    Ok(EventTime::from_millis(utc.timestamp_millis()))
}

/// Returns the midnight so many days after the day of a time, in its zone.
fn midnight_after(date: &DateTime<Tz>, days: u64) -> Result<i64, String> {
    let day = date.date_naive().checked_add_days(Days::new(days));
    let midnight = day.and_then(|day| day.and_hms_opt(0, 0, 0));
    let midnight = midnight.ok_or("its time is out of range")?;
    // Where clocks go forward at midnight, the day begins an hour later.
    let zone = date.timezone();
    let found = zone.from_local_datetime(&midnight).earliest();
    let found = found.or_else(|| {
        zone.from_local_datetime(&(midnight + TimeDelta::hours(1)))
            .earliest()
    });
    found
        .map(|found| found.timestamp_millis())
        .ok_or_else(|| "its day has no beginning".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(events: &str) -> String {
        let events = events.replace('\n', "\r\n");
        format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\nX-WR-TIMEZONE:Europe/Berlin\r\n{events}\r\nEND:VCALENDAR\r\n"
        )
    }

    fn event(lines: &str) -> String {
        format!("BEGIN:VEVENT\nUID:1\nDTSTAMP:20260101T000000Z\n{lines}\nEND:VEVENT")
    }

    fn times(events: &[String]) -> Result<Vec<(String, String)>, String> {
        let time = |text: &str| text.parse::<EventTime>().unwrap();
        let (now, until) = (time("2026-03-01T00:00:00Z"), time("2026-04-20T00:00:00Z"));
        let read = read(&calendar(&events.join("\n")), "plant", now, until)?;
        let of = |stretch: &Stretch| (stretch.from.to_string(), stretch.to.unwrap().to_string());
        Ok(read
            .mutes
            .iter()
            .flat_map(|mute| mute.times.iter().map(of))
            .collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn recurring_maintenance_keeps_its_local_time_when_clocks_change() {
        let weekly = event(
            "SUMMARY:pump-7/*\nDTSTART;TZID=Europe/Berlin:20260317T080000\nDTEND;TZID=Europe/Berlin:20260317T100000\n\
             RRULE:FREQ=WEEKLY;COUNT=3",
        );
        let right = [
            ("2026-03-17T07:00:00Z", "2026-03-17T09:00:00Z"),
            ("2026-03-24T07:00:00Z", "2026-03-24T09:00:00Z"),
            ("2026-03-31T06:00:00Z", "2026-03-31T08:00:00Z"),
        ];
        assert_eq!(times(&[weekly]).unwrap(), pairs(&right));
        // The day on which clocks go forward has 23 hours; the zone of the calendar is that of whole days.
        let days = event("SUMMARY:pump-7/*\nDTSTART;VALUE=DATE:20260329\nDTEND;VALUE=DATE:20260330");
        let right = [("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")];
        assert_eq!(times(&[days]).unwrap(), pairs(&right));
    }

    #[test]
    fn an_occurrence_that_is_left_out_moved_or_cancelled_is_not_muted_where_it_was() {
        let daily = event(
            "SUMMARY:pump-7/*\nDTSTART:20260310T080000Z\nDTEND:20260310T090000Z\nRRULE:FREQ=DAILY;UNTIL=20260314T000000Z\n\
             EXDATE:20260311T080000Z",
        );
        let moved = event(
            "SUMMARY:pump-7/*\nRECURRENCE-ID:20260312T080000Z\nDTSTART:20260312T150000Z\nDTEND:20260312T160000Z",
        );
        let cancelled = event(
            "SUMMARY:pump-7/*\nRECURRENCE-ID:20260313T080000Z\nDTSTART:20260313T080000Z\nDTEND:20260313T090000Z\n\
             STATUS:CANCELLED",
        );
        let right = [
            ("2026-03-10T08:00:00Z", "2026-03-10T09:00:00Z"),
            ("2026-03-12T15:00:00Z", "2026-03-12T16:00:00Z"),
        ];
        assert_eq!(times(&[daily, moved, cancelled]).unwrap(), pairs(&right));
    }

    #[test]
    fn sensors_are_the_words_with_a_slash_in_the_first_property_that_has_some() {
        let time = "DTSTART:20260310T080000Z\nDTEND:20260310T090000Z";
        let all = [
            event(&format!(
                "SUMMARY:24/7 service\nCATEGORIES:pump-7/*,line 2/temp\n{time}"
            )),
            event(&format!(
                "SUMMARY:new bearings\nLOCATION:hall 3\\, pump-8/temp\n{time}"
            )),
            event(&format!("SUMMARY:Check a%2Fb/* at noon\n{time}")),
            event(&format!("SUMMARY:A meeting\n{time}")),
        ];
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let until = "2026-04-01T00:00:00Z".parse().unwrap();
        let read = read(&calendar(&all.join("\n")), "plant", now, until).unwrap();
        let sensors = |mute: &Mute| {
            mute.sensors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let sensors: Vec<_> = read.mutes.iter().map(sensors).collect();
        assert_eq!(sensors, ["pump-7/* 2/temp", "pump-8/temp", "a%2Fb/*"]);
        assert_eq!(read.skipped, ["A meeting"]);
        assert_eq!(read.mutes[0].reason, "24/7 service");
        assert_eq!(read.mutes[1].id, "plant-2");
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_named() {
        for (lines, why) in [
            (
                "DTSTART:20260310T080000\nDTEND:20260310T090000",
                "its time has no zone",
            ),
            (
                "DTSTART;TZID=Mars/Phobos:20260310T080000\nDTEND:20260310T090000Z",
                "event `a/b`",
            ),
            (
                "DTSTART:20260310T080000Z\nDTEND:20260310T070000Z",
                "it ends before it begins",
            ),
            ("DTSTART:20260310T080000Z", "it has no DTEND"),
            (
                "DTSTART:20260310T080000Z\nDTEND:20260310T090000Z\nRRULE:FREQ=NEVER",
                "event `a/b`",
            ),
            (
                "DTSTART:20260310T080000Z\nDTEND:20260310T080001Z\nRRULE:FREQ=SECONDLY",
                "too often",
            ),
        ] {
            let error = times(&[event(&format!("SUMMARY:a/b\n{lines}"))]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(read("BEGIN:VCALENDAR", "plant", EventTime::MIN, EventTime::MAX).is_err());
    }
}
