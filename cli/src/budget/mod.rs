//! The budget: the promised rate of false incidents, such as `1 per sensor-month`.

mod promise;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use promise::Promise;

/// Most false incidents of a sensor in a mean month (30.44 days).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Budget {
    per_month: f64,
    /// As it was written.
    number: f64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Day,
    Week,
    Month,
    Year,
}

/// Mean length of a month.
pub(crate) const MONTH: Duration = Duration::from_secs(2_629_746);

/// The same in days.
const DAYS: f64 = 30.436_875;

/// The units of a budget, and how many of each fit into a month.
const UNITS: [(&str, Unit, f64); 4] = [
    ("day", Unit::Day, DAYS),
    ("week", Unit::Week, DAYS / 7.0),
    ("month", Unit::Month, 1.0),
    ("year", Unit::Year, 1.0 / 12.0),
];

impl Budget {
    pub(crate) fn per_month(self) -> f64 {
        self.per_month
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            per_month: 1.0,
            number: 1.0,
            unit: Unit::Month,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = UNITS.iter().find(|(_, unit, _)| *unit == self.unit);
        write!(
            f,
            "{} per sensor-{}",
            self.number,
            name.map_or("month", |(name, ..)| name)
        )
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a budget: write it as '1 per sensor-month', or per sensor-day, -week or -year"
            )
        };
        let (number, unit) = text.split_once(" per sensor-").ok_or_else(wrong)?;
        let (_, unit, months) = *UNITS
            .iter()
            .find(|(name, ..)| *name == unit.trim())
            .ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !(number > 0.0 && number.is_finite()) {
            return Err(wrong());
        }
        Ok(Self {
            per_month: number * months,
            number,
            unit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_rates_by_the_month() {
        for (text, per_month) in [
            ("1 per sensor-month", 1.0),
            ("0.5 per sensor-week", 0.5 * 30.436_875 / 7.0),
            ("2 per sensor-day", 60.873_75),
            ("6 per sensor-year", 0.5),
        ] {
            let budget: Budget = text.parse().unwrap();
            assert!((budget.per_month() - per_month).abs() < 1e-9, "{text}");
            assert_eq!(budget.to_string(), text);
        }
        assert_eq!(Budget::default().to_string(), "1 per sensor-month");
        for text in [
            "1",
            "1 per month",
            "0 per sensor-month",
            "-1 per sensor-day",
            "x per sensor-day",
            "1 per sensor-hour",
        ] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
