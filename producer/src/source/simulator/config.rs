//! The configuration of a simulated fleet, and its text form `sim:key=value,…`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use windrow_common::{EventTime, format_duration, parse_duration};

use crate::source::SourceError;

/// The size of the fleet, the time its readings cover, and what goes wrong in it.
///
/// The text form lists any of these keys, as in `sim:devices=100,tags=5,…`; the others have their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorConfig {
    /// `devices`: how many devices there are; default 100.
    pub devices: u32,
    /// `tags`: how many sensors each device has; default 5.
    pub tags: u32,
    /// `start`: when the readings begin; default 2026-01-05T00:00:00Z, a Monday.
    pub start: EventTime,
    /// `duration`: how much time the readings cover, `forever` for no end (`None`); default 1d.
    pub duration: Option<Duration>,
    /// `period`: the time between two readings of a sensor, up to 10m; default 10s.
    pub period: Duration,
    /// `seed`: another seed gives another fleet; default 1.
    pub seed: u64,
    /// `anomalies`: the probability that a given hour of a given sensor holds an anomalous episode; default 0.02,
    /// about one episode per sensor every two days.
    pub anomalies: f64,
    /// `disorder`: each reading arrives late by a random time up to this, so the event times of a partition are out of
    /// order by at most as much; default 5s.
    pub disorder: Duration,
    /// `gaps`: the share of time that a sensor is silent, in gaps of 1 to 20 minutes; default 0.001.
    pub gaps: f64,
    /// `partitions`: how many partitions the devices are distributed over in turn; default 4, or one per device if
    /// there are fewer.
    pub partitions: u32,
    /// `weekly`: the share of the sensors that rest at weekends, with a lower level and less swing; default 0, `on` is
    /// 0.5.
    pub weekly: f64,
    /// `holidays`: the share of the plant's weekdays on which these sensors rest, too; default 0, `on` is 0.04, ten a
    /// year.
    pub holidays: f64,
    /// `regimes`: the share of the sensors that change to another regime once in four weeks: another level and noise,
    /// which become the new normal; default 0, `on` is 0.25.
    pub regimes: f64,
    /// `deaths`: the share of the sensors that die in four weeks: they stop, or repeat their last value, until they are
    /// replaced at the end of these four weeks; default 0, `on` is 0.05.
    pub deaths: f64,
    /// `drifts`: the share of the sensors that drift in four weeks, for 5 to 12 days until they are recalibrated; default
    /// 0, `on` is 0.1.
    pub drifts: f64,
}

const KNOWN_KEYS: &str = "devices, tags, start, duration, period, seed, anomalies, disorder, gaps, partitions, weekly, \
                          holidays, regimes, deaths and drifts";

/// 2026-01-05T00:00:00Z.
const DEFAULT_START: EventTime = EventTime::from_millis(1_767_571_200_000);
const DEFAULT_PARTITIONS: u32 = 4;

const MAX_SENSORS: u64 = 1_000_000;
const MAX_PARTITIONS: u32 = 1_024;
const MAX_PERIOD: Duration = Duration::from_secs(600);
/// Bounds the readings that wait for delivery, which are held in memory: 16 bytes each.
const MAX_IN_FLIGHT: u128 = 20_000_000;
/// Bounds how many periods late a reading can be: the count has 12 bits in a delivery's sort key.
const MAX_DISORDER_PERIODS: u128 = 1_000;
/// Safely below 0.175, the most that gaps of 1 to 20 minutes can fill at one per hour.
const MAX_GAPS: f64 = 0.1;

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            devices: 100,
            tags: 5,
            start: DEFAULT_START,
            duration: Some(Duration::from_secs(86_400)),
            period: Duration::from_secs(10),
            seed: 1,
            anomalies: 0.02,
            disorder: Duration::from_secs(5),
            gaps: 0.001,
            partitions: DEFAULT_PARTITIONS,
            weekly: 0.0,
            holidays: 0.0,
            regimes: 0.0,
            deaths: 0.0,
            drifts: 0.0,
        }
    }
}

impl fmt::Display for SimulatorConfig {
    /// Writes the text form; it parses back to the same fleet. What happens over days and weeks is
    /// written only if it is set, so that the names of other fleets' partitions stay what they were.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = self
            .duration
            .map_or_else(|| "forever".to_owned(), format_duration);
        write!(
            f,
            "sim:devices={},tags={},start={},duration={duration},period={},seed={},anomalies={},disorder={},gaps={},\
             partitions={}",
            self.devices,
            self.tags,
            self.start,
            format_duration(self.period),
            self.seed,
            self.anomalies,
            format_duration(self.disorder),
            self.gaps,
            self.partitions,
        )?;
        let set = self.life().into_iter().filter(|(_, share)| *share != 0.0);
        for (key, share) in set {
            write!(f, ",{key}={share}")?;
        }
        Ok(())
    }
}

impl FromStr for SimulatorConfig {
    type Err = SourceError;

    fn from_str(spec: &str) -> Result<Self, SourceError> {
        let wrong = |why: String| SourceError::Spec {
            spec: spec.to_owned(),
            why,
        };
        let list = spec
            .strip_prefix("sim:")
            .ok_or_else(|| wrong("a simulated fleet is written sim:key=value,…".to_owned()))?;
        let mut config = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| wrong(format!("`{item}` is not key=value; the keys are {KNOWN_KEYS}")))?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(wrong(format!("`{key}` is given twice")));
            }
            seen.push(key);
            config.set(key, value).map_err(wrong)?;
        }
        if !seen.contains(&"partitions") {
            config.partitions = DEFAULT_PARTITIONS.min(config.devices.max(1));
        }
        config.check().map_err(wrong)?;
        Ok(config)
    }
}

impl SimulatorConfig {
    /// Returns the default fleet, in which everything that happens over days and weeks happens as often as `on` says.
    pub fn eventful() -> Self {
        Self {
            weekly: 0.5,
            holidays: 0.04,
            regimes: 0.25,
            deaths: 0.05,
            drifts: 0.1,
            ..Self::default()
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let on = Self::eventful();
        match key {
            "devices" => self.devices = number(key, value)?,
            "tags" => self.tags = number(key, value)?,
            "start" => self.start = value.parse().map_err(|error| format!("start: {error}"))?,
            "duration" if value == "forever" => self.duration = None,
            "duration" => self.duration = Some(duration(key, value)?),
            "period" => self.period = duration(key, value)?,
            "seed" => self.seed = number(key, value)?,
            "anomalies" => self.anomalies = number(key, value)?,
            "disorder" => self.disorder = duration(key, value)?,
            "gaps" => self.gaps = number(key, value)?,
            "partitions" => self.partitions = number(key, value)?,
            "weekly" => self.weekly = share(key, value, on.weekly)?,
            "holidays" => self.holidays = share(key, value, on.holidays)?,
            "regimes" => self.regimes = share(key, value, on.regimes)?,
            "deaths" => self.deaths = share(key, value, on.deaths)?,
            "drifts" => self.drifts = share(key, value, on.drifts)?,
            _ => return Err(format!("no key `{key}`; the keys are {KNOWN_KEYS}")),
        }
        Ok(())
    }

    /// Returns the keys of what happens over days and weeks, with their shares.
    fn life(&self) -> [(&'static str, f64); 5] {
        [
            ("weekly", self.weekly),
            ("holidays", self.holidays),
            ("regimes", self.regimes),
            ("deaths", self.deaths),
            ("drifts", self.drifts),
        ]
    }

    /// Checks that every value makes sense; the error names the first one that does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let sensors = u64::from(self.devices) * u64::from(self.tags);
        if sensors == 0 || sensors > MAX_SENSORS {
            return Err(format!(
                "devices x tags is {sensors} sensors; 1 to {MAX_SENSORS} can be simulated"
            ));
        }
        if self.partitions == 0 || self.partitions > self.devices.min(MAX_PARTITIONS) {
            return Err(format!(
                "partitions is {}; it must be 1 to {MAX_PARTITIONS} and not above the number of devices ({})",
                self.partitions, self.devices
            ));
        }
        if self.period < Duration::from_millis(1) || self.period > MAX_PERIOD {
            return Err(format!(
                "period is {}; it must be 1ms to {}",
                format_duration(self.period),
                format_duration(MAX_PERIOD)
            ));
        }
        if let Some(duration) = self.duration {
            if duration < self.period {
                return Err(format!(
                    "duration is {}; it must be at least one period ({})",
                    format_duration(duration),
                    format_duration(self.period)
                ));
            }
            if self.start.saturating_add(duration) == EventTime::MAX {
                return Err("start plus duration is after the year 9999".to_owned());
            }
        }
        if !(0.0..=1.0).contains(&self.anomalies) {
            return Err(format!(
                "anomalies is {}; it is the share of a sensor's hours with an episode, 0 to 1",
                self.anomalies
            ));
        }
        if !(0.0..=MAX_GAPS).contains(&self.gaps) {
            return Err(format!(
                "gaps is {}; it is the share of time a sensor is silent, 0 to {MAX_GAPS}",
                self.gaps
            ));
        }
        for (key, share) in self.life() {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{key} is {share}; it is a share, 0 to 1"));
            }
        }
        if self.holidays > 0.0 && self.weekly == 0.0 {
            return Err(
                "holidays has no effect without weekly, the share of the sensors that rest then; set both"
                    .to_owned(),
            );
        }
        let late_periods = self.disorder.as_millis() / self.period.as_millis();
        if late_periods > MAX_DISORDER_PERIODS || (late_periods + 2) * u128::from(sensors) > MAX_IN_FLIGHT {
            return Err(format!(
                "disorder is {}, {late_periods} periods; at most {MAX_DISORDER_PERIODS} periods and {MAX_IN_FLIGHT} \
                 readings of the fleet can be in flight",
                format_duration(self.disorder)
            ));
        }
        Ok(())
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{key}: `{value}` is not a valid number"))
}

/// Parses a share; `on` stands for the usual one.
fn share(key: &str, value: &str, on: f64) -> Result<f64, String> {
    if value == "on" { Ok(on) } else { number(key, value) }
}

fn duration(key: &str, value: &str) -> Result<Duration, String> {
    parse_duration(value).map_err(|error| format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(spec: &str) -> String {
        spec.parse::<SimulatorConfig>().unwrap_err().to_string()
    }

    #[test]
    fn a_bare_sim_is_the_documented_default() {
        assert_eq!(
            "sim:".parse::<SimulatorConfig>().unwrap(),
            SimulatorConfig::default()
        );
        assert_eq!(
            SimulatorConfig::default().to_string(),
            "sim:devices=100,tags=5,start=2026-01-05T00:00:00Z,duration=1d,period=10s,seed=1,anomalies=0.02,\
             disorder=5s,gaps=0.001,partitions=4"
        );
    }

    #[test]
    fn the_canonical_text_reads_back_as_the_same_fleet() {
        let spec =
            "sim: seed=18446744073709551615, devices=2 ,duration=forever,period=250ms,anomalies=0,gaps=0.05";
        let config: SimulatorConfig = spec.parse().unwrap();
        assert_eq!(config.partitions, 2, "no more partitions than devices");
        assert_eq!(config.duration, None);
        assert_eq!(config.to_string().parse::<SimulatorConfig>().unwrap(), config);
    }

    #[test]
    fn on_is_the_documented_share_and_is_written_as_a_number() {
        let config: SimulatorConfig = "sim:weekly=on,holidays=on,regimes=on,deaths=on,drifts=on"
            .parse()
            .unwrap();
        let text = config.to_string();
        assert!(
            text.ends_with(",partitions=4,weekly=0.5,holidays=0.04,regimes=0.25,deaths=0.05,drifts=0.1"),
            "{text}"
        );
        assert_eq!(text.parse::<SimulatorConfig>().unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        for spec in ["sim:device=3", "sim:fast", "sim:devices=3,Tags=1"] {
            let refusal = refusal(spec);
            assert!(refusal.contains(KNOWN_KEYS), "{refusal}");
            assert!(refusal.starts_with(&format!("`{spec}`: ")), "{refusal}");
        }
        assert!(refusal("sim:seed=1,seed=2").contains("`seed` is given twice"));
    }

    #[test]
    fn an_absurd_value_is_refused_by_name() {
        for (spec, named) in [
            ("sim:devices=0", "sensors"),
            ("sim:devices=-1", "devices"),
            ("sim:devices=1000000,tags=1000", "sensors"),
            ("sim:start=yesterday", "start"),
            ("sim:start=9999-12-31T00:00:00Z,duration=2d", "year 9999"),
            ("sim:duration=5", "duration"),
            ("sim:duration=1s", "at least one period"),
            ("sim:period=0s", "period"),
            ("sim:period=2h", "period"),
            ("sim:anomalies=1.5", "anomalies"),
            ("sim:anomalies=NaN", "anomalies"),
            ("sim:gaps=0.5", "gaps"),
            ("sim:disorder=1d", "disorder"),
            ("sim:weekly=2", "weekly"),
            ("sim:deaths=-0.1", "deaths"),
            ("sim:drifts=NaN", "drifts"),
            ("sim:regimes=off", "regimes"),
            ("sim:holidays=on", "without weekly"),
            ("sim:devices=3,partitions=4", "partitions"),
            ("sim:partitions=0", "partitions"),
            ("file:x", "sim:key=value"),
        ] {
            let refusal = refusal(spec);
            assert!(refusal.contains(named), "{spec}: {refusal}");
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }
}
