//! One sensor's drawing: values above, decisions below, one time axis.

use std::fmt::Write;

use super::axis::{Axis, is_midnight};
use super::series::{Flag, Series};
use super::text::{Escaped, clock, count, day, moment, number, significant};
use super::{ChartPoint, SensorChart};
use windrow_common::Length;

const WIDTH: f64 = 1_040.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 10.0;
const LABEL_ROW: f64 = 17.0;
const VALUES: f64 = 200.0;
const BETWEEN: f64 = 20.0;
const DECISIONS: f64 = 58.0;
const BELOW: f64 = 26.0;
/// Approximate width of a character in a label.
const CHARACTER: f64 = 6.3;
/// Minimum width of a true anomaly; without it, an anomaly of one reading would be invisible.
const NARROWEST: f64 = 3.0;

/// Renders a chart as a `figure` element.
pub(super) fn figure(chart: &SensorChart, window: Length) -> String {
    let series = Series::new(chart, window);
    let mut out = format!(
        "<figure class=\"chart\"><figcaption><h3>{}</h3><p>{}</p></figcaption>",
        Escaped(&chart.sensor),
        Escaped(&caption(chart, &series))
    );
    if series.runs.is_empty() {
        out.push_str("<p class=\"none\">No window of this sensor was scored.</p></figure>\n");
        return out;
    }
    out.push_str(&Drawing::new(chart, &series, window).svg());
    out.push_str("</figure>\n");
    out
}

fn caption(chart: &SensorChart, series: &Series) -> String {
    let flagged = count(series.flagged, "window");
    if chart.truth.is_empty() {
        return format!("{flagged} of {} flagged", chart.windows.len());
    }
    let noticed = series.noticed.iter().filter(|noticed| **noticed).count();
    let outside = match series.outside {
        0 => "none of them outside".to_owned(),
        outside => format!("{outside} of them outside"),
    };
    format!(
        "{noticed} of {} noticed \u{b7} {flagged} flagged, {outside}",
        count(chart.truth.len(), "true anomaly").replace("anomalys", "anomalies"),
    )
}

/// A label above the values.
struct Label {
    x: f64,
    row: usize,
    text: String,
    noticed: bool,
}

struct Drawing<'a> {
    chart: &'a SensorChart,
    series: &'a Series,
    window: Length,
    labels: Vec<Label>,
    time: Axis,
    values: Axis,
    decisions: Axis,
    /// The magnitude of a decision up to which the strip's scale is about linear.
    usual_decision: f64,
    top: f64,
}

impl<'a> Drawing<'a> {
    fn new(chart: &'a SensorChart, series: &'a Series, window: Length) -> Self {
        let range = |of: fn(&ChartPoint) -> f64| {
            series
                .points()
                .map(of)
                .fold((f64::MAX, f64::MIN), |(low, high), value| {
                    (low.min(value), high.max(value))
                })
        };
        let (first, last) = range(|point| point.time.as_millis() as f64);
        let time = Axis::new(first, last + window.as_millis() as f64, LEFT, RIGHT);
        let labels = labels(chart, series, &time);
        let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
        let top = 8.0 + rows as f64 * LABEL_ROW;

        let (low, high) = (range(|point| point.min).0, range(|point| point.max).1);
        let room = (high - low) * 0.05;
        let values = Axis::new(low - room, high + room, top + VALUES, top);

        let mut sizes: Vec<f64> = series.points().map(|point| point.decision.abs()).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let usual_decision = sizes[sizes.len() / 2].max(f64::MIN_POSITIVE);
        let (lowest, highest) = range(|point| point.decision);
        let squeezed = |decision: f64| (decision / usual_decision).asinh();
        let strip = top + VALUES + BETWEEN;
        let decisions = Axis::new(
            squeezed(lowest.min(0.0)),
            squeezed(highest.max(0.0)),
            strip + DECISIONS,
            strip,
        );
        Self {
            chart,
            series,
            window,
            labels,
            time,
            values,
            decisions,
            usual_decision,
            top,
        }
    }

    fn decision(&self, decision: f64) -> f64 {
        self.decisions.place((decision / self.usual_decision).asinh())
    }

    /// Returns the position of a window's middle, where its point is drawn.
    fn x(&self, point: &ChartPoint) -> f64 {
        self.time
            .place(point.time.as_millis() as f64 + self.window.as_millis() as f64 / 2.0)
    }

    fn svg(&self) -> String {
        let bottom = self.top + VALUES + BETWEEN + DECISIONS;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">",
            bottom + BELOW,
            Escaped(&format!(
                "{}: window means with flagged windows and true anomalies over time, and the model's decisions",
                self.chart.sensor
            ))
        );
        self.grid(&mut svg, bottom);
        self.truth(&mut svg, bottom);
        self.lines(&mut svg);
        self.strip(&mut svg);
        for flag in &self.series.flags {
            self.flag(&mut svg, flag);
        }
        svg.push_str("</svg>");
        svg
    }

    fn grid(&self, svg: &mut String, bottom: f64) {
        let (ticks, step) = self.values.ticks(5.0);
        for tick in ticks {
            let y = self.values.place(tick);
            push(
                svg,
                format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"),
            );
            push(
                svg,
                format_args!(
                    "<text class=\"tick y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                    LEFT - 8.0,
                    y + 4.0,
                    number(tick, step)
                ),
            );
        }
        for tick in self.time.time_ticks() {
            let x = self.time.at(tick);
            let (class, text) = if is_midnight(tick) {
                ("tick x day", day(tick))
            } else {
                ("tick x", clock(tick))
            };
            // A mark at the very end would be cut off by the edge.
            let anchor = if x > RIGHT - 16.0 {
                " style=\"text-anchor:end\""
            } else {
                ""
            };
            push(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{x:.1} {:.1}V{:.1}M{x:.1} {:.1}V{:.1}\"/>\
                     <text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\"{anchor}>{text}</text>",
                    self.top,
                    self.top + VALUES,
                    bottom - DECISIONS,
                    bottom + 4.0,
                    bottom + 18.0
                ),
            );
        }
        // At the left edge, clear of the first tick's text.
        push(
            svg,
            format_args!(
                "<text class=\"tick\" x=\"0\" y=\"{:.1}\">UTC</text>",
                bottom + 18.0
            ),
        );
    }

    fn truth(&self, svg: &mut String, bottom: f64) {
        for (span, noticed) in self.chart.truth.iter().zip(&self.series.noticed) {
            let (from, to) = (self.time.at(span.from), self.time.at(span.to));
            let width = (to - from).max(NARROWEST);
            let x = (from + to - width) / 2.0;
            let missed = if *noticed { "" } else { " missed" };
            push(
                svg,
                format_args!(
                    "<g class=\"truth{missed}\"><title>{}</title>\
                     <path d=\"M{x:.1} {:.1}h{width:.1}V{:.1}h{:.1}z\"/></g>",
                    Escaped(&format!(
                        "true anomaly: {}{}\n{} to {}",
                        span.kind,
                        if *noticed { "" } else { " (missed)" },
                        moment(span.from),
                        moment(span.to)
                    )),
                    self.top,
                    bottom,
                    -width
                ),
            );
        }
        for label in &self.labels {
            let missed = if label.noticed { "" } else { " missed" };
            let y = 8.0 + (label.row as f64 + 0.7) * LABEL_ROW;
            push(
                svg,
                format_args!(
                    "<text class=\"kind{missed}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                    label.x,
                    Escaped(&label.text)
                ),
            );
        }
    }

    fn lines(&self, svg: &mut String) {
        let (mut band, mut line) = (String::new(), String::new());
        for run in &self.series.runs {
            for (i, point) in run.iter().enumerate() {
                let command = if i == 0 { 'M' } else { 'L' };
                let x = self.x(point);
                push(
                    &mut band,
                    format_args!("{command}{x:.1} {:.1}", self.values.place(point.max)),
                );
                push(
                    &mut line,
                    format_args!("{command}{x:.1} {:.1}", self.values.place(point.mean)),
                );
            }
            for point in run.iter().rev() {
                push(
                    &mut band,
                    format_args!("L{:.1} {:.1}", self.x(point), self.values.place(point.min)),
                );
            }
            band.push('z');
            // A run of one point has no line; the round ends of a tiny one make it visible.
            line.push_str("h.01");
        }
        push(
            svg,
            format_args!("<path class=\"band\" d=\"{band}\"/><path class=\"mean\" d=\"{line}\"/>"),
        );
    }

    fn strip(&self, svg: &mut String) {
        let zero = self.decision(0.0);
        let (mut normal, mut anomalous) = (String::new(), String::new());
        for point in self.series.points() {
            let path = if point.decision > 0.0 {
                &mut normal
            } else {
                &mut anomalous
            };
            push(
                path,
                format_args!(
                    "M{:.1} {zero:.1}V{:.1}",
                    self.x(point),
                    self.decision(point.decision)
                ),
            );
        }
        let width = ((RIGHT - LEFT) / self.series.points().count() as f64).clamp(0.8, 8.0);
        push(
            svg,
            format_args!(
                "<g stroke-width=\"{width:.1}\"><path class=\"normal\" d=\"{normal}\"/>\
                 <path class=\"anomalous\" d=\"{anomalous}\"/></g>\
                 <path class=\"zero\" d=\"M{LEFT} {zero:.1}H{RIGHT}\"/>\
                 <text class=\"tick y\" x=\"{}\" y=\"{:.1}\">0</text>",
                LEFT - 8.0,
                zero + 4.0
            ),
        );
        let ends = self
            .series
            .points()
            .map(|point| point.decision)
            .fold((0.0, 0.0), |(low, high): (f64, f64), value| {
                (low.min(value), high.max(value))
            });
        for end in [ends.0, ends.1] {
            let y = self.decision(end);
            if (y - zero).abs() > 14.0 {
                push(
                    svg,
                    format_args!(
                        "<text class=\"tick y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                        LEFT - 8.0,
                        y + 4.0,
                        significant(end)
                    ),
                );
            }
        }
    }

    fn flag(&self, svg: &mut String, flag: &Flag) {
        let point = &flag.point;
        let truth = flag.truth.map(|index| self.chart.truth[index].kind.as_str());
        let class = match truth {
            None if !self.chart.truth.is_empty() => "flag outside",
            _ => "flag",
        };
        let title = format!(
            "{}\nmean {} ({} to {})\ndecision {}{}",
            moment(point.time),
            significant_value(point.mean),
            significant_value(point.min),
            significant_value(point.max),
            significant(point.decision),
            truth
                .map(|kind| format!("\ntrue anomaly: {kind}"))
                .unwrap_or_default()
        );
        push(
            svg,
            format_args!(
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\"><title>{}</title></circle>",
                self.x(point),
                self.values.place(point.mean),
                Escaped(&title)
            ),
        );
    }
}

/// Formats a measured value to five significant digits, about the resolution of a sensor.
fn significant_value(value: f64) -> String {
    let power = if value == 0.0 {
        0.0
    } else {
        value.abs().log10().floor()
    };
    number(value, 10_f64.powf(power - 4.0))
}

/// Places each label in the lowest row where it does not touch the label before it.
fn labels(chart: &SensorChart, series: &Series, time: &Axis) -> Vec<Label> {
    let mut ends: Vec<f64> = Vec::new();
    let mut labels = Vec::new();
    for (span, noticed) in chart.truth.iter().zip(&series.noticed) {
        let text = if *noticed {
            span.kind.clone()
        } else {
            format!("{} (missed)", span.kind)
        };
        let width = text.chars().count() as f64 * CHARACTER;
        let middle = (time.at(span.from) + time.at(span.to)) / 2.0;
        let x = middle.clamp(LEFT + width / 2.0, (RIGHT - width / 2.0).max(LEFT + width / 2.0));
        let start = x - width / 2.0;
        let row = ends.iter().position(|end| *end < start).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(0.0);
        }
        ends[row] = x + width / 2.0 + 8.0;
        labels.push(Label {
            x,
            row,
            text,
            noticed: *noticed,
        });
    }
    // The rows are counted from below, next to the values.
    let rows = ends.len();
    for label in &mut labels {
        label.row = rows - 1 - label.row;
    }
    labels
}

/// Appends to a string, which cannot fail.
fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}
