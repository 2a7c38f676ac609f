//! Writes results to standard output: tables for people, JSON for scripts.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{Table, presets};

use crate::error::CliError;

/// Writes a line.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|source| CliError::Write {
            path: PathBuf::from("standard output"),
            source,
        })
}

/// Writes one JSON value, indented.
pub(crate) fn json(value: &serde_json::Value) -> Result<(), CliError> {
    line(&format!("{value:#}"))
}

/// Writes a table with headings.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> Result<(), CliError> {
    line(&table_text(headings, rows))
}

/// Returns a table with headings as text.
pub(crate) fn table_text(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Writes labelled facts, one per line.
pub(crate) fn facts(facts: &[(&str, String)]) -> Result<(), CliError> {
    let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let lines: Vec<_> = facts
        .iter()
        .map(|(label, fact)| format!("  {label:<width$}  {fact}"))
        .collect();
    line(&lines.join("\n"))
}

/// Formats a count: `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a part and its percentage of the whole: `1,234 (2.1 %)`.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return count(part);
    }
    #[allow(clippy::cast_precision_loss)] // Shown to two digits.
    let percent = part as f64 / whole as f64 * 100.0;
    format!("{} ({percent:.1} %)", count(part))
}

/// Formats a count and its rate: `1,234,567 (2.3 M readings/s)`.
pub(crate) fn rated(count: u64, elapsed: Duration, unit: &str) -> String {
    #[allow(clippy::cast_precision_loss)] // Shown to two digits.
    let rate = count as f64 / elapsed.as_secs_f64().max(1e-9);
    format!("{} ({} {unit})", self::count(count), short(rate))
}

/// Formats a number to a few digits: `2.3 M`, `450 k`, `12`.
pub(crate) fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shortened() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(share(1, 8), "1 (12.5 %)");
        assert_eq!(
            rated(3_000_000, Duration::from_secs(2), "r/s"),
            "3,000,000 (1.5 M r/s)"
        );
    }
}
