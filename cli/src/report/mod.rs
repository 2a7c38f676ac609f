//! The report of a run: one HTML file that needs nothing but a browser.
//!
//! Pure: what is to be shown comes in, the page's text comes out. No script and no outside resource is used, so the file
//! opens from disk, can be mailed, and prints.

mod axis;
mod chart;
mod page;
mod series;
mod text;

use std::time::Duration;

use windrow_common::EventTime;

pub(crate) use page::render;

/// Everything the page shows, in its order.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// The headline.
    pub(crate) title: String,
    /// What was run, in a sentence or two under the headline; may be empty.
    pub(crate) subtitle: String,
    /// The figures at the top.
    pub(crate) summary: Vec<Card>,
    /// What the audit says.
    pub(crate) audit: Verdict,
    /// How many of the true anomalies were noticed; empty where the truth is unknown.
    pub(crate) detection: Vec<Detection>,
    /// Length of a window.
    pub(crate) window: Duration,
    /// One chart each.
    pub(crate) sensors: Vec<SensorChart>,
    /// Where things are.
    pub(crate) files: Vec<FileLink>,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// What it is, in a word or two.
    pub(crate) label: String,
    /// The figure, formatted.
    pub(crate) value: String,
    /// Unit or remark below it; may be empty.
    pub(crate) note: String,
}

/// A yes or no, with its sentence.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Whether all is well.
    pub(crate) ok: bool,
    /// Why, in a line.
    pub(crate) line: String,
}

/// How well one kind of anomaly was noticed.
#[derive(Clone, Debug)]
pub(crate) struct Detection {
    /// The kind.
    pub(crate) kind: String,
    /// How many there were.
    pub(crate) episodes: u64,
    /// In how many of them at least one window was flagged.
    pub(crate) detected: u64,
}

/// One sensor's windows and its truth.
#[derive(Clone, Debug)]
pub(crate) struct SensorChart {
    /// Its name.
    pub(crate) sensor: String,
    /// Its windows, by time.
    pub(crate) windows: Vec<ChartPoint>,
    /// When it really was wrong, by time; empty where that is unknown.
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
    /// The model's score; above 0 is normal.
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

/// Something the run wrote.
#[derive(Clone, Debug)]
pub(crate) struct FileLink {
    /// What it is.
    pub(crate) what: String,
    /// Where it is.
    pub(crate) path: String,
}

#[cfg(test)]
mod tests;
