use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// Returns a level for each hour of the week that tells what hour it is.
fn told_apart(season: Season) -> Vec<f64> {
    (0..u32::try_from(season.levels()).unwrap())
        .map(f64::from)
        .collect()
}

fn at(text: &str) -> EventTime {
    text.parse().unwrap()
}

/// Hourly windows from a Monday on, with a level each.
fn hourly(weeks: i64, level: impl Fn(i64, usize) -> f64) -> (Vec<EventTime>, Vec<f64>) {
    let monday = at("2026-01-05T00:00:00Z").as_millis();
    let windows = (0..weeks * 168).map(|hour| {
        let of_week = usize::try_from(hour % 168).unwrap();
        (
            EventTime::from_millis(monday + hour * MS_PER_HOUR),
            level(hour, of_week),
        )
    });
    windows.unzip()
}

/// A number between −1 and 1 that looks like chance.
fn noise(hour: i64) -> f64 {
    let mixed = (hour.wrapping_add(12_345)).wrapping_mul(0x5851_F42D_4C95_7F2D);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x14C8_9B5F_0D3C_2A4B);
    (mixed >> 40) as f64 / f64::from(1 << 23)
}

fn fitted(weeks: i64, level: impl Fn(i64, usize) -> f64) -> Option<Profile> {
    let (starts, levels) = hourly(weeks, level);
    fit(&starts, levels.into_iter(), &TimeZone::UTC)
}

#[test]
fn a_window_has_the_level_of_its_local_hour() {
    let week = Profile::new(Season::Week, "Europe/Zurich", told_apart(Season::Week)).unwrap();
    let weekend = Profile::new(Season::Weekend, "Europe/Zurich", told_apart(Season::Weekend)).unwrap();
    let day = Profile::new(Season::Day, "Asia/Kolkata", told_apart(Season::Day)).unwrap();
    for (time, of_week, of_weekend, of_day) in [
        // A Monday, an hour ahead of UTC.
        ("2026-01-05T00:00:00Z", 1.0, 1.0, 5.0),
        // A Sunday's last hour.
        ("2026-01-04T22:59:59Z", 167.0, 47.0, 4.0),
        // The clocks are put forward: 01:59 is followed by 03:00.
        ("2026-03-29T00:59:00Z", 145.0, 25.0, 6.0),
        ("2026-03-29T01:00:00Z", 147.0, 27.0, 6.0),
        // They are put back: 02:59 is followed by 02:00.
        ("2026-10-25T00:59:00Z", 146.0, 26.0, 6.0),
        ("2026-10-25T01:00:00Z", 146.0, 26.0, 6.0),
        ("2026-10-25T02:00:00Z", 147.0, 27.0, 7.0),
        // Before 1970, and a rule that no table holds.
        ("1969-12-31T23:00:00Z", 72.0, 0.0, 4.0),
        ("2068-07-02T10:00:00Z", 12.0, 12.0, 15.0),
    ] {
        assert_eq!(week.level(at(time)), of_week, "{time}");
        assert_eq!(weekend.level(at(time)), of_weekend, "{time}");
        assert_eq!(day.level(at(time)), of_day, "{time}");
    }
}

proptest! {
    /// A clock that remembers the offset of the window before says what one says that looks each window up.
    #[test]
    fn every_order_of_windows_gives_the_same_hours(
        hours in proptest::collection::vec(0_i64..200_000, 1..60),
        name in prop::sample::select(vec!["Europe/Zurich", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
    ) {
        let zone = zone(name);
        let mut clock = Clock::new(&zone);
        for hour in hours {
            let time = EventTime::from_millis(at("2000-01-01T00:00:00Z").as_millis() + hour * MS_PER_HOUR);
            let local = zone.to_datetime(Timestamp::from_millisecond(time.as_millis()).unwrap());
            let weekday = local.weekday().to_monday_zero_offset();
            let right = usize::try_from(i64::from(weekday) * 24 + i64::from(local.hour())).unwrap();
            prop_assert_eq!(clock.hour_of_week(time), right);
        }
    }
}

#[test]
fn a_history_gets_the_coarsest_profile_that_predicts_it() {
    // The older half has to hold two windows of each hour of the week.
    let daily = |of_week: usize| 5.0 * ((of_week % 24) as f64 / 24.0 * std::f64::consts::TAU).sin();
    let season = |level: &dyn Fn(usize) -> f64| {
        fitted(6, |hour, of_week| level(of_week) + noise(hour)).map(|profile| profile.season())
    };
    assert_eq!(season(&|_| 20.0), None);
    assert_eq!(season(&|of_week| 20.0 + daily(of_week)), Some(Season::Day));
    let weekend = |of_week: usize| if of_week >= 120 { 8.0 } else { 0.0 };
    assert_eq!(
        season(&|of_week| daily(of_week) + weekend(of_week)),
        Some(Season::Weekend)
    );
    let on_mondays = |of_week: usize| if of_week < 24 { 9.0 } else { 0.0 };
    assert_eq!(
        season(&|of_week| daily(of_week) + on_mondays(of_week)),
        Some(Season::Week)
    );
}

#[test]
fn a_profile_holds_the_medians_and_an_hour_without_windows_those_of_the_coarser_season() {
    // Hours differ, weekends are 100 higher, and of all Wednesdays only the last is there, which is too few.
    let (starts, levels): (Vec<_>, Vec<_>) = {
        let (starts, levels) = hourly(8, |hour, of_week| {
            let last_wednesday = 7 * 168 + 48..7 * 168 + 72;
            let is_odd = hour == 3 || last_wednesday.contains(&hour);
            let outlier = if is_odd { 1_000.0 } else { 0.0 };
            let weekend = if of_week >= 120 { 100.0 } else { 0.0 };
            let monday = if of_week < 24 { 50.0 } else { 0.0 };
            (of_week % 24) as f64 + weekend + monday + outlier
        });
        let kept = starts.into_iter().zip(levels).enumerate();
        kept.filter(|(at, _)| !(48..72).contains(&(at % 168)) || *at >= 7 * 168)
            .map(|(_, window)| window)
            .unzip()
    };
    let profile = fit(&starts, levels.into_iter(), &TimeZone::UTC).unwrap();
    assert_eq!(profile.season(), Season::Week);
    for hour in 0..24 {
        let level = |day: usize| profile.levels()[day * 24 + hour];
        assert_eq!(level(0), hour as f64 + 50.0);
        assert_eq!(level(1), hour as f64);
        assert_eq!(level(2), hour as f64, "Wednesday has the level of a working day");
        assert_eq!(level(5), hour as f64 + 100.0);
    }
}

#[test]
fn a_history_that_is_short_constant_or_unordered_is_no_problem() {
    for windows in 0..10 {
        let (starts, levels) = hourly(1, |_, of_week| of_week as f64);
        let _ = fit(
            &starts[..windows],
            levels.into_iter().take(windows),
            &TimeZone::UTC,
        );
    }
    assert_eq!(fitted(4, |_, _| 7.5), None);
    let (mut starts, mut levels) = hourly(4, |hour, of_week| (of_week % 24) as f64 + noise(hour));
    let ordered = fit(&starts, levels.clone().into_iter(), &TimeZone::UTC);
    starts.reverse();
    levels.reverse();
    assert!(ordered.is_some());
    assert_eq!(fit(&starts, levels.into_iter(), &TimeZone::UTC), ordered);
    // The hours of three weeks, upside down in the fourth, do not predict the newer half. If each fourth window were of the
    // last week, as unordered files may have it, they would seem to.
    let (starts, levels) = hourly(4, |hour, of_week| {
        let daily = 20.0 * ((of_week % 24) as f64 / 24.0 * std::f64::consts::TAU).sin();
        noise(hour) + if hour < 3 * 168 { daily } else { -daily }
    });
    let from = |at: usize| match at % 4 {
        3 => 3 * 168 + at / 4,
        rest => at / 4 * 3 + rest,
    };
    let (starts, levels): (Vec<_>, Vec<_>) = (0..starts.len())
        .map(|at| (starts[from(at)], levels[from(at)]))
        .unzip();
    let levels = levels.into_iter();
    assert_eq!(fit(&starts, levels, &TimeZone::UTC), None);
}

#[test]
fn a_summer_profile_holds_in_winter_by_local_hours() {
    // A plant that starts at 06:00 local time, all year.
    let berlin = zone("Europe/Berlin");
    let begin = at("2026-09-27T22:00:00Z").as_millis();
    let windows = (0..8 * 168).map(|hour| {
        let time = EventTime::from_millis(begin + hour * MS_PER_HOUR);
        let local = berlin.to_datetime(Timestamp::from_millisecond(time.as_millis()).unwrap());
        (time, if local.hour() >= 6 { 50.0 } else { 10.0 } + noise(hour))
    });
    let (starts, levels): (Vec<_>, Vec<_>) = windows.unzip();
    let by_local = fit(&starts, levels.iter().copied(), &berlin).unwrap();
    let by_utc = fit(&starts, levels.iter().copied(), &TimeZone::UTC).unwrap();
    let worst = |profile: &Profile| {
        let errors = starts
            .iter()
            .zip(&levels)
            .map(|(start, level)| (level - profile.level(*start)).abs());
        errors.fold(0.0, f64::max)
    };
    assert!(worst(&by_local) < 3.0, "{}", worst(&by_local));
    assert!(worst(&by_utc) > 30.0, "{}", worst(&by_utc));
}
