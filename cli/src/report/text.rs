//! Text for the page: escaping, numbers and times.

use std::fmt::{self, Write};

use windrow_common::EventTime;

/// A text that is displayed with its markup escaped, for an element or a quoted attribute.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // HTML has no way to write the other control characters.
                c if c.is_control() && c != '\n' && c != '\t' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Formats a number with as many decimals as `step` needs, the smallest difference that has to show.
pub(crate) fn number(value: f64, step: f64) -> String {
    let decimals = if step > 0.0 {
        (-step.log10().floor()).clamp(0.0, 9.0)
    } else {
        0.0
    };
    let text = format!("{value:.*}", decimals as usize);
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    match text.strip_prefix('-') {
        Some(positive) if zero => positive.to_owned(),
        Some(positive) => format!("\u{2212}{positive}"),
        None => text,
    }
}

/// Formats a number to three significant digits.
pub(crate) fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    number(value, 10_f64.powf(value.abs().log10().floor() - 2.0))
}

/// Formats a time of day: `14:30`, in UTC.
pub(crate) fn clock(time: EventTime) -> String {
    time.to_string()[11..16].to_owned()
}

/// Formats a date: `5 Jan`, in UTC.
pub(crate) fn day(time: EventTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = time.to_string();
    let month: usize = text[5..7].parse().unwrap_or(1);
    let name = MONTHS.get(month.wrapping_sub(1)).copied().unwrap_or_default();
    format!("{} {name}", text[8..10].trim_start_matches('0'))
}

/// Formats a time with its date: `2026-01-05 14:30:00 UTC`.
pub(crate) fn moment(time: EventTime) -> String {
    let text = time.to_string();
    format!("{} {} UTC", &text[..10], text[11..].trim_end_matches('Z'))
}

/// Formats a count with its noun: `1 window`, `2 windows`.
pub(crate) fn count(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_stays_text() {
        assert_eq!(
            Escaped("<b a=\"x\" b='y'>&\u{1}").to_string(),
            "&lt;b a=&quot;x&quot; b=&#39;y&#39;&gt;&amp;\u{fffd}"
        );
    }

    #[test]
    fn numbers_have_the_decimals_that_matter() {
        assert_eq!(number(64.0, 2.0), "64");
        assert_eq!(number(64.25, 0.05), "64.25");
        assert_eq!(number(-0.001, 0.1), "0.0");
        assert_eq!(number(-3.0, 1.0), "\u{2212}3");
        assert_eq!(significant(-0.012_345), "\u{2212}0.0123");
        assert_eq!(significant(12_345.6), "12346");
        assert_eq!(significant(0.0), "0");
    }

    #[test]
    fn times_are_short_and_in_utc() {
        let time = "2026-01-05T14:30:00Z".parse().unwrap();
        assert_eq!((clock(time), day(time)), ("14:30".into(), "5 Jan".into()));
        assert_eq!(moment(time), "2026-01-05 14:30:00 UTC");
    }
}
