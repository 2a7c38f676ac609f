//! The HTML page of a simulation: one file that needs nothing but a browser.

use windrow_scaler::simulate::{Contender, Outcome};

use super::chart::{STYLE, class, svg};
use super::simulate::{HEADINGS, Replayed, Simulated, row};
use crate::report::document;
use crate::report::text::Escaped;
use crate::show;

/// Renders the page.
pub(super) fn render(simulated: &Simulated) -> String {
    let mut main = format!(
        "<section>\n<h2>Windrow against KEDA</h2>\n{}</section>\n<section>\n<h2>Where Windrow loses</h2>\n{}</section>\n",
        list(&simulated.comparisons),
        match simulated.losses.is_empty() {
            true => "<p>Nowhere in these traces.</p>\n".to_owned(),
            false => list(&simulated.losses),
        }
    );
    main.push_str(&legend(simulated));
    for replayed in &simulated.replayed {
        main.push_str(&trace(replayed));
    }
    document(
        "Windrow: scaling policies compared",
        &simulated.setting,
        STYLE,
        &main,
    )
}

fn list(sentences: &[String]) -> String {
    let items: String = sentences
        .iter()
        .map(|sentence| format!("<li>{}</li>\n", Escaped(sentence)))
        .collect();
    format!("<ul>\n{items}</ul>\n")
}

fn legend(simulated: &Simulated) -> String {
    let all = [
        Contender::Windrow,
        Contender::WindrowScheduled,
        Contender::Keda,
        Contender::Fixed,
        Contender::Hindsight,
    ];
    let is_shown = |contender: &Contender| {
        let outcomes = simulated.replayed.iter().flat_map(|replayed| &replayed.outcomes);
        outcomes
            .into_iter()
            .any(|outcome| outcome.contender == *contender)
    };
    let entries: String = all
        .iter()
        .filter(|contender| is_shown(contender))
        .map(|contender| {
            format!(
                "<li><svg viewBox=\"0 0 26 14\" width=\"26\" height=\"14\" aria-hidden=\"true\">\
                 <path class=\"line {}\" d=\"M0 7H26\"/></svg>{}</li>\n",
                class(*contender),
                contender.title()
            )
        })
        .collect();
    format!("<section>\n<h2>Traces</h2>\n<ul class=\"legend\">\n{entries}</ul>\n</section>\n")
}

fn trace(replayed: &Replayed) -> String {
    let Replayed { trace, outcomes } = replayed;
    let title = trace.title();
    format!(
        "<figure class=\"chart\"><figcaption><h3>{}</h3><p>{} messages</p></figcaption>{}</figure>\n{}",
        Escaped(&title),
        show::short(trace.messages()),
        svg(
            &format!("{title}: messages that wait, and workers, over time, for each policy"),
            outcomes
        ),
        table(outcomes)
    )
}

fn table(outcomes: &[Outcome]) -> String {
    let head: String = HEADINGS
        .iter()
        .enumerate()
        .map(|(column, heading)| format!("<th{}>{heading}</th>", number(column)))
        .collect();
    let rows: String = outcomes
        .iter()
        .map(|outcome| {
            let cells: String = row(outcome)
                .iter()
                .enumerate()
                .map(|(column, cell)| format!("<td{}>{}</td>", number(column), Escaped(cell)))
                .collect();
            format!("<tr>{cells}</tr>\n")
        })
        .collect();
    format!(
        "<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// Returns the class of a column of numbers: all but the first.
fn number(column: usize) -> &'static str {
    if column == 0 { "" } else { " class=\"n\"" }
}

#[cfg(test)]
mod tests {
    use windrow_scaler::simulate::Trace;

    use super::*;
    use crate::report::tests::assert_balanced;

    fn outcome(contender: Contender, points: Vec<(f64, u32)>) -> Outcome {
        Outcome {
            contender,
            drain_seconds: [10.0, 20.0, 30.0],
            worker_hours: 2.0,
            cost: 0.5,
            starts: 3,
            most_workers: 4,
            left: 0.0,
            points,
        }
    }

    fn page(name: &str, points: &[(f64, u32)]) -> String {
        let outcomes = vec![
            outcome(Contender::Windrow, points.to_vec()),
            outcome(Contender::Keda, points.to_vec()),
        ];
        render(&Simulated {
            replayed: vec![Replayed {
                trace: Trace::parse(name, "0,100").unwrap(),
                outcomes,
            }],
            setting: "A worker costs <nothing>.".to_owned(),
            comparisons: vec!["a < b".to_owned()],
            losses: vec![format!("on {name}, something is lost")],
        })
    }

    #[test]
    fn the_page_needs_nothing_from_outside_and_shows_backlog_workers_and_losses() {
        let points: Vec<_> = (0..1_440)
            .map(|minute| (f64::from(minute % 60) * 1e4, minute / 100))
            .collect();
        let html = page("t", &points);
        assert_balanced(&html);
        for outside in [
            "http://", "https://", "url(", "@import", "<script", "<link", " src=",
        ] {
            assert!(!html.contains(outside), "{outside}");
        }
        for text in [
            "messages that wait",
            ">workers<",
            "p95",
            "0.50 $",
            "on t, something is lost",
            "KEDA + HPA",
            "12:00",
        ] {
            assert!(html.contains(text), "{text}");
        }
        // Two policies in two panels, and the legend.
        assert_eq!(html.matches("class=\"line ").count(), 6);
        assert!(!html.contains("a fixed fleet"), "it was not simulated");
    }

    #[test]
    fn weeks_of_points_stay_small_and_an_empty_trace_has_a_page() {
        let weeks: Vec<_> = (0..40_320)
            .map(|minute| (f64::from(minute % 7), minute % 5))
            .collect();
        let html = page("weeks", &weeks);
        assert!(html.contains("d 00:00"), "days are marked");
        assert!(html.len() < 500_000, "{}", html.len());
        for points in [&[][..], &[(0.0, 0)], &[(1e12, 10_000)]] {
            let html = page("t", points);
            assert_balanced(&html);
            assert!(!html.contains("NaN") && !html.contains("inf"));
        }
    }

    #[test]
    fn a_name_from_outside_cannot_add_markup() {
        let html = page("<script>alert('x')</script>", &[(1.0, 1)]);
        assert!(!html.contains("<script"));
        assert_balanced(&html);
    }
}
