//! The report of a run: one HTML file that needs nothing but a browser.
//!
//! Rendering is pure: it turns a [`Report`] into the text of the page. The page uses no script and no external
//! resource, so the file opens from disk, can be mailed, and prints.

pub(crate) mod axis;
mod chart;
mod page;
mod series;
pub(crate) mod text;

use std::time::Duration;

use windrow_common::EventTime;

pub(crate) use page::{document, render};

/// The contents of the page, in page order.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The headline.
    pub(crate) title: String,
    /// A sentence or two under the headline about the run; may be empty.
    pub(crate) subtitle: String,
    /// The figures at the top.
    pub(crate) summary: Vec<Card>,
    /// The result of the audit.
    pub(crate) audit: Verdict,
    /// How many true anomalies of each kind were found; empty when the true anomalies are unknown.
    pub(crate) detection: Vec<Detection>,
    /// The incidents.
    pub(crate) incidents: Incidents,
    /// Length of a window.
    pub(crate) window: Duration,
    /// The sensors, with one chart each.
    pub(crate) sensors: Vec<SensorChart>,
    /// Where to find what the run wrote.
    pub(crate) files: Vec<FileLink>,
}

/// A figure at the top of the page.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// Its name, in a word or two.
    pub(crate) label: String,
    /// The figure, formatted.
    pub(crate) value: String,
    /// Unit or remark below it; may be empty.
    pub(crate) note: String,
}

/// A result, passed or failed, with its reason.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether the audit passed.
    pub(crate) ok: bool,
    /// The reason, in one line.
    pub(crate) line: String,
}

/// The incidents worth a look, as a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incidents {
    /// Number of all incidents, those without a row included.
    pub(crate) all: usize,
    /// The headings.
    pub(crate) columns: Vec<&'static str>,
    /// A cell for each heading.
    pub(crate) rows: Vec<Vec<String>>,
}

/// How many anomalies of one kind were found.
#[derive(Clone, Debug)]
pub(crate) struct Detection {
    /// The kind.
    pub(crate) kind: String,
    /// Number of anomalies of this kind.
    pub(crate) episodes: u64,
    /// Of these, anomalies that are in an incident.
    pub(crate) detected: u64,
}

/// One sensor's windows and true anomalies.
#[derive(Clone, Debug)]
pub(crate) struct SensorChart {
    /// Its name.
    pub(crate) sensor: String,
    /// Its windows, in time order.
    pub(crate) windows: Vec<ChartPoint>,
    /// Its true anomalies, in time order; empty when they are unknown.
    pub(crate) truth: Vec<TruthSpan>,
}

/// One scored window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ChartPoint {
    /// Start of the window.
    pub(crate) time: EventTime,
    /// Mean of its readings.
    pub(crate) mean: f64,
    /// Smallest of them.
    pub(crate) min: f64,
    /// Largest of them.
    pub(crate) max: f64,
    /// The model's decision; above 0 is normal.
    pub(crate) decision: f64,
    /// Whether it was flagged.
    pub(crate) anomaly: bool,
}

/// A true anomaly, [from, to).
#[derive(Clone, Debug)]
pub(crate) struct TruthSpan {
    /// Its first instant.
    pub(crate) from: EventTime,
    /// The first instant after it.
    pub(crate) to: EventTime,
    /// What kind it is.
    pub(crate) kind: String,
}

/// A link to something the run wrote.
#[derive(Clone, Debug)]
pub(crate) struct FileLink {
    /// What it is.
    pub(crate) what: String,
    /// Where it is.
    pub(crate) path: String,
}

#[cfg(test)]
pub(crate) mod tests;
