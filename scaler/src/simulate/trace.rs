//! When messages arrive, over a day.

use std::f64::consts::TAU;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// The length of a step, in seconds: how often RabbitMQ updates its figures.
pub const STEP_SECONDS: f64 = 5.0;
const HOUR: usize = 720;
/// Steps of a day.
const DAY: usize = 24 * HOUR;
/// What one broker takes in, in messages per second (measured; see docs/performance.md).
const BROKER_RATE: f64 = 25_000.0;
/// Longest trace that is read from a file, in steps: four weeks.
const LONGEST: usize = 28 * DAY;

/// Most messages of one line. A larger number is a mistake.
const MOST_MESSAGES: f64 = 1e12;
/// How many characters of a wrong line are shown.
const SHOWN: usize = 40;

/// A trace that is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    /// A batch every hour.
    HourlyBurst,
    /// The same with few sensors.
    SmallHourlyBurst,
    /// Day and night.
    Diurnal,
    /// Bursts at random times.
    RandomSpikes,
    /// An outage of two hours.
    OutageBacklog,
}

impl Generated {
    /// The traces that the scaler is measured with.
    pub const ALL: [Self; 5] = [
        Self::HourlyBurst,
        Self::SmallHourlyBurst,
        Self::Diurnal,
        Self::RandomSpikes,
        Self::OutageBacklog,
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HourlyBurst => "hourly-burst",
            Self::SmallHourlyBurst => "small-hourly-burst",
            Self::Diurnal => "diurnal",
            Self::RandomSpikes => "random-spikes",
            Self::OutageBacklog => "outage-backlog",
        }
    }

    /// Generates it for that many sensors, or for as many as the scaler is measured with. `seed` decides when
    /// random spikes come.
    pub fn trace(self, sensors: Option<u64>, seed: u64) -> Trace {
        let or = |usual| sensors.unwrap_or(usual);
        let trace = match self {
            Self::HourlyBurst => Trace::hourly(or(1_000_000)),
            Self::SmallHourlyBurst => Trace::hourly(or(10_000)),
            Self::Diurnal => Trace::diurnal(or(300_000)),
            Self::RandomSpikes => Trace::spikes(or(500_000), seed),
            Self::OutageBacklog => Trace::outage(or(100_000)),
        };
        Trace {
            name: self.name().to_owned(),
            ..trace
        }
    }
}

/// The messages that arrive in each step.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// How many sensors send the messages, if it is known.
    pub sensors: Option<u64>,
    /// Messages, step by step.
    pub arrivals: Vec<f64>,
    /// The interval of the batches, in seconds, if a scaler would be told.
    pub batch_every: Option<f64>,
}

impl Trace {
    /// A batch at every full hour, with a message for each of `sensors`.
    pub fn hourly(sensors: u64) -> Self {
        let mut arrivals = vec![0.0; DAY];
        for hour in 0..24 {
            add_burst(&mut arrivals, hour * HOUR + 1, sensors as f64);
        }
        Self {
            name: Generated::HourlyBurst.name().to_owned(),
            sensors: Some(sensors),
            arrivals,
            batch_every: Some(3_600.0),
        }
    }

    /// A message a minute from each of `sensors` at noon, and from a tenth of them at midnight.
    pub fn diurnal(sensors: u64) -> Self {
        let share = |step: usize| 0.55 - 0.45 * (TAU * step as f64 / DAY as f64).cos();
        let per_step = sensors as f64 / 60.0 * STEP_SECONDS;
        Self {
            name: Generated::Diurnal.name().to_owned(),
            sensors: Some(sensors),
            arrivals: (0..DAY).map(|step| per_step * share(step)).collect(),
            batch_every: None,
        }
    }

    /// A message every ten minutes from each of `sensors`, evenly, and at random times a burst of up to as many.
    pub fn spikes(sensors: u64, seed: u64) -> Self {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut arrivals = vec![sensors as f64 / 600.0 * STEP_SECONDS; DAY];
        for step in 0..DAY {
            // One in 45 minutes.
            if random.random_bool(STEP_SECONDS / 2_700.0) {
                add_burst(
                    &mut arrivals,
                    step,
                    sensors as f64 * random.random_range(0.1..1.0),
                );
            }
        }
        Self {
            name: Generated::RandomSpikes.name().to_owned(),
            sensors: Some(sensors),
            arrivals,
            batch_every: None,
        }
    }

    /// A message a minute from each of `sensors`. From 06:00 to 08:00 nothing comes, and then all of it at once.
    pub fn outage(sensors: u64) -> Self {
        let per_step = sensors as f64 / 60.0 * STEP_SECONDS;
        let mut arrivals = vec![per_step; DAY];
        arrivals[6 * HOUR..8 * HOUR].fill(0.0);
        add_burst(&mut arrivals, 8 * HOUR, per_step * (2 * HOUR) as f64);
        Self {
            name: Generated::OutageBacklog.name().to_owned(),
            sensors: Some(sensors),
            arrivals,
            batch_every: None,
        }
    }

    /// The traces that the scaler is measured with.
    pub fn standard() -> Vec<Self> {
        Generated::ALL.map(|generated| generated.trace(None, 1)).to_vec()
    }

    /// Returns how many messages arrive.
    pub fn messages(&self) -> f64 {
        self.arrivals.iter().sum()
    }

    /// Returns its name and how many sensors it has: `diurnal, 300 k sensors`.
    pub fn title(&self) -> String {
        match self.sensors {
            Some(sensors) => format!("{}, {} sensors", self.name, count(sensors)),
            None => self.name.clone(),
        }
    }

    /// Parses lines of a time in seconds and a number of messages, separated by a comma. A first line that is no number is
    /// a header.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut arrivals: Vec<f64> = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let numbers = line.split_once(',').and_then(|(time, messages)| {
                Some((
                    time.trim().parse::<f64>().ok()?,
                    messages.trim().parse::<f64>().ok()?,
                ))
            });
            let (time, messages) = match numbers {
                Some(numbers) => numbers,
                None if number == 1 || line.trim().is_empty() => continue,
                None => {
                    let shown: String = line.chars().take(SHOWN).collect();
                    return Err(format!("line {number}: `{shown}` is not seconds,messages"));
                }
            };
            if !(0.0..=MOST_MESSAGES).contains(&messages) {
                return Err(format!("line {number}: {messages} is no number of messages"));
            }
            let step = (time / STEP_SECONDS).floor();
            if !(0.0..LONGEST as f64).contains(&step) {
                return Err(format!("line {number}: {time} s is not within four weeks"));
            }
            let step = step as usize;
            if arrivals.len() <= step {
                arrivals.resize(step + 1, 0.0);
            }
            arrivals[step] += messages;
        }
        match arrivals.is_empty() {
            true => Err("it has no line of seconds,messages".to_owned()),
            false => Ok(Self {
                name: name.to_owned(),
                sensors: None,
                arrivals,
                batch_every: None,
            }),
        }
    }
}

/// Adds messages from a step on, as fast as a broker takes them in.
fn add_burst(arrivals: &mut [f64], from: usize, mut messages: f64) {
    for arrived in &mut arrivals[from..] {
        let now = messages.min(BROKER_RATE * STEP_SECONDS);
        *arrived += now;
        messages -= now;
        if messages <= 0.0 {
            return;
        }
    }
}

fn count(sensors: u64) -> String {
    match sensors {
        million if million % 1_000_000 == 0 => format!("{} M", million / 1_000_000),
        thousand if thousand % 1_000 == 0 => format!("{} k", thousand / 1_000),
        few => few.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_every_message_once() {
        assert_eq!(Trace::hourly(1_000_000).arrivals.iter().sum::<f64>(), 24e6);
        let steady = 100_000.0 * 24.0 * 60.0;
        assert!((Trace::outage(100_000).arrivals.iter().sum::<f64>() - steady).abs() < 1.0);
    }

    #[test]
    fn a_trace_is_read_from_lines_of_seconds_and_messages() {
        let trace = Trace::parse("t", "seconds,messages\n0, 10\n4.9,5\n\n12,7\n").unwrap();
        assert_eq!(trace.arrivals, [15.0, 0.0, 7.0]);
        for (text, said) in [
            ("", "no line"),
            ("1,2\nx", "line 2"),
            ("1,-2", "no number of"),
            ("1,NaN", "line 1: NaN is no number of"),
            ("s,m\n1,1e13", "line 2: 10000000000000 is no number of"),
            ("NaN,1", "four weeks"),
            ("1e12,1", "four weeks"),
        ] {
            let error = Trace::parse("t", text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
