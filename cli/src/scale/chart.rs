//! One trace's drawing: the backlog above, workers below, one time axis.

use std::fmt::Write;

use windrow_common::EventTime;
use windrow_scaler::simulate::{Contender, Outcome};

use crate::report::axis::Axis;
use crate::report::text::{Escaped, clock};
use crate::show;

const WIDTH: f64 = 1_040.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 10.0;
const TOP: f64 = 24.0;
const HEIGHT: f64 = 150.0;
const BETWEEN: f64 = 36.0;
const BELOW: f64 = 26.0;
const MINUTE_MS: f64 = 60_000.0;
/// Maximum number of points in a line.
const MAX_POINTS: usize = 1_500;

/// The style of the lines, which differ in colour and in dashes.
pub(super) const STYLE: &str = "\
svg .line { stroke-width: 1.5; stroke-linejoin: round; }
svg .windrow { stroke: #0072b2; } svg .windrow-scheduled { stroke: #56b4e9; stroke-dasharray: 6 2; }
svg .keda { stroke: #d55e00; } svg .fixed { stroke: #999999; stroke-dasharray: 2 3; }
svg .hindsight { stroke: #009e73; stroke-dasharray: 7 3 2 3; }
svg .panel { fill: var(--ink); font-size: 12px; font-weight: 620; }
";

/// Returns the class of a policy's lines.
pub(super) fn class(contender: Contender) -> &'static str {
    match contender {
        Contender::Windrow => "windrow",
        Contender::WindrowScheduled => "windrow-scheduled",
        Contender::Keda => "keda",
        Contender::Fixed => "fixed",
        Contender::Hindsight => "hindsight",
    }
}

/// Renders the drawing. `what` says what it shows, for who cannot see it.
pub(super) fn svg(what: &str, outcomes: &[Outcome]) -> String {
    let minutes = outcomes.iter().map(|outcome| outcome.points.len()).max();
    let time = Axis::new(0.0, minutes.unwrap_or(1).max(1) as f64 * MINUTE_MS, LEFT, RIGHT);
    let below = TOP + HEIGHT + BETWEEN;
    let bottom = below + HEIGHT;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{}\">",
        bottom + BELOW,
        Escaped(what)
    );
    panel(&mut out, "messages that wait", TOP, &time, outcomes, |point| {
        point.0
    });
    panel(&mut out, "workers", below, &time, outcomes, |point| {
        f64::from(point.1)
    });
    for tick in time.time_ticks() {
        let x = time.at(tick);
        // A mark at the very end would be cut off by the edge.
        let anchor = if x > RIGHT - 16.0 {
            " style=\"text-anchor:end\""
        } else {
            ""
        };
        push(
            &mut out,
            format_args!(
                "<text class=\"tick x\" x=\"{x:.1}\" y=\"{:.1}\"{anchor}>{}</text>",
                bottom + 18.0,
                time_of(tick)
            ),
        );
    }
    out.push_str("</svg>");
    out
}

/// Formats a time since the start: `06:00`, from the second day on with its day.
fn time_of(tick: EventTime) -> String {
    match tick.as_millis().div_euclid(86_400_000) {
        0 => clock(tick),
        day => format!("{day}d {}", clock(tick)),
    }
}

fn panel(
    out: &mut String,
    title: &str,
    top: f64,
    time: &Axis,
    outcomes: &[Outcome],
    of: impl Fn(&(f64, u32)) -> f64,
) {
    let bottom = top + HEIGHT;
    let most = outcomes
        .iter()
        .flat_map(|outcome| &outcome.points)
        .map(&of)
        .fold(1.0, f64::max);
    let values = Axis::new(0.0, most * 1.05, bottom, top);
    push(
        out,
        format_args!(
            "<text class=\"panel\" x=\"{LEFT}\" y=\"{:.1}\">{title}</text>",
            top - 8.0
        ),
    );
    for tick in values.ticks(4.0).0 {
        let y = values.place(tick);
        push(
            out,
            format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text class=\"tick y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                show::short(tick)
            ),
        );
    }
    // Windrow is drawn last, over the others.
    for outcome in outcomes.iter().rev() {
        let line = line(&outcome.points, time, &values, &of);
        push(
            out,
            format_args!(
                "<path class=\"line {}\" d=\"{line}\"><title>{}</title></path>",
                class(outcome.contender),
                outcome.contender.title()
            ),
        );
    }
}

/// Returns the path of a stepped line. Of several points in the place of one, the highest is drawn.
fn line(points: &[(f64, u32)], time: &Axis, values: &Axis, of: impl Fn(&(f64, u32)) -> f64) -> String {
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let mut path = String::new();
    let mut last = None;
    for (index, chunk) in points.chunks(every).enumerate() {
        let y = format!("{:.1}", values.place(chunk.iter().map(&of).fold(0.0, f64::max)));
        let x = time.place((index * every) as f64 * MINUTE_MS);
        match &last {
            None => push(&mut path, format_args!("M{x:.1} {y}")),
            Some(before) if *before == y => continue,
            Some(_) => push(&mut path, format_args!("H{x:.1}V{y}")),
        }
        last = Some(y);
    }
    push(
        &mut path,
        format_args!("H{:.1}", time.place(points.len() as f64 * MINUTE_MS)),
    );
    path
}

/// Appends to a string, which cannot fail.
fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}
