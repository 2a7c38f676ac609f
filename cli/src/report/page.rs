//! The page around the charts.

use super::chart::figure;
use super::text::Escaped;
use super::{Card, Detection, FileLink, Incidents, Report, Verdict};
use windrow_common::{Length, format_duration};

const STYLE: &str = include_str!("style.css");

/// Renders the whole page.
pub(crate) fn render(report: &Report) -> String {
    let main = [
        verdict(&report.audit),
        cards(&report.summary),
        detection(&report.detection),
        incidents(&report.incidents),
        charts(report),
        files(&report.files),
    ];
    document(&report.title, &report.subtitle, "", &main.concat())
}

/// Returns an HTML file: a headline, a sentence or two under it, and the content. `style` adds to the style sheet.
pub(crate) fn document(title: &str, subtitle: &str, style: &str, main: &str) -> String {
    let lead = match subtitle {
        "" => String::new(),
        subtitle => format!("<p class=\"lead\">{}</p>\n", Escaped(subtitle)),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}{style}</style>\n\
         </head>\n<body>\n<header>\n<h1>{title}</h1>\n{lead}</header>\n<main>\n{main}</main>\n</body>\n</html>\n",
        title = Escaped(title),
    )
}

fn verdict(verdict: &Verdict) -> String {
    let (class, mark, word) = if verdict.ok {
        ("verdict ok", "\u{2713}", "Audit passed")
    } else {
        ("verdict bad", "\u{2717}", "Audit failed")
    };
    format!(
        "<p class=\"{class}\"><span class=\"mark\" aria-hidden=\"true\">{mark}</span>\
         <span><strong>{word}.</strong> {}</span></p>\n",
        Escaped(&verdict.line)
    )
}

fn cards(cards: &[Card]) -> String {
    if cards.is_empty() {
        return String::new();
    }
    let mut out = "<dl class=\"cards\">\n".to_owned();
    for card in cards {
        out.push_str(&format!(
            "<div><dt>{}</dt><dd>{}</dd><dd class=\"note\">{}</dd></div>\n",
            Escaped(&card.label),
            Escaped(&card.value),
            Escaped(&card.note)
        ));
    }
    out.push_str("</dl>\n");
    out
}

fn detection(rows: &[Detection]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut out = "<section>\n<h2>Detected anomalies</h2>\n\
        <p>The simulator knows every anomaly that it put into the readings. An anomaly counts as found when an \
        incident overlaps it, or is less than a window apart from it.</p>\n\
        <div class=\"wide\"><table>\n<thead><tr><th>Kind</th><th class=\"n\">Anomalies</th><th class=\"n\">Found</th>\
        <th colspan=\"2\">Share</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for row in rows {
        out.push_str(&detection_row(&row.kind, row.episodes, row.detected));
    }
    let total = |of: fn(&Detection) -> u64| rows.iter().map(of).sum();
    out.push_str("</tbody>\n<tfoot>");
    out.push_str(&detection_row(
        "all",
        total(|row| row.episodes),
        total(|row| row.detected),
    ));
    out.push_str("</tfoot>\n</table></div>\n</section>\n");
    out
}

fn detection_row(kind: &str, episodes: u64, detected: u64) -> String {
    let percent = if episodes == 0 {
        0.0
    } else {
        100.0 * detected as f64 / episodes as f64
    };
    let shown = if episodes == 0 {
        "\u{2013}".to_owned()
    } else {
        format!("{percent:.0} %")
    };
    format!(
        "<tr><th scope=\"row\">{}</th><td class=\"n\">{episodes}</td><td class=\"n\">{detected}</td>\
         <td class=\"n\">{shown}</td><td class=\"bar\"><span><i style=\"width:{:.1}%\"></i></span></td></tr>\n",
        Escaped(kind),
        percent.clamp(0.0, 100.0)
    )
}

fn incidents(incidents: &Incidents) -> String {
    if incidents.rows.is_empty() {
        return String::new();
    }
    let mut out = "<section>\n<h2>Incidents</h2>\n".to_owned();
    out.push_str(&match incidents.all == incidents.rows.len() {
        true => "<p>Anomalous windows that belong together, the highest scores first.</p>\n".to_owned(),
        false => format!(
            "<p>Anomalous windows that belong together: the {} with the highest scores of {}.</p>\n",
            incidents.rows.len(),
            incidents.all
        ),
    });
    out.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for column in &incidents.columns {
        out.push_str(&format!("<th>{}</th>", Escaped(column)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &incidents.rows {
        out.push_str("<tr>");
        for cell in row {
            out.push_str(&format!("<td>{}</td>", Escaped(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n</section>\n");
    out
}

fn charts(report: &Report) -> String {
    if report.sensors.is_empty() {
        return String::new();
    }
    let known = report.sensors.iter().any(|sensor| !sensor.truth.is_empty());
    let window = format_duration(report.window);
    let mut out = format!(
        "<section>\n<h2>Sensors</h2>\n\
         <p>Each chart shows one sensor. The line is the mean of each window of {window}; the band around it \
         reaches from the window\u{2019}s smallest reading to its largest. The strip below is the \
         model\u{2019}s decision: above zero the window is normal; otherwise it is flagged, with a dot on the \
         line. The strip\u{2019}s scale is compressed towards its ends.</p>\n\
         <p>{}Point at a dot or a span to see its figures.</p>\n<ul class=\"legend\">\n",
        if known {
            "Shaded spans are the true anomalies, which the model does not know. A filled dot lies in one of them, \
             a hollow dot outside all of them. "
        } else {
            ""
        }
    );
    let mut entry = |drawing: &str, text: &str| {
        out.push_str(&format!(
            "<li><svg viewBox=\"0 0 26 14\" width=\"26\" height=\"14\" aria-hidden=\"true\">{drawing}</svg>{text}</li>\n"
        ));
    };
    entry("<path class=\"mean\" d=\"M0 7H26\"/>", "window mean");
    entry(
        "<path class=\"band\" d=\"M0 1H26V13H0z\"/>",
        "smallest to largest",
    );
    if known {
        entry(
            "<g class=\"truth\"><path d=\"M1 1H25V13H1z\"/></g>",
            "true anomaly",
        );
        entry(
            "<g class=\"truth missed\"><path d=\"M1 1H25V13H1z\"/></g>",
            "missed",
        );
        entry(
            "<circle class=\"flag\" cx=\"13\" cy=\"7\" r=\"3.6\"/>",
            "flagged, in a true anomaly",
        );
        entry(
            "<circle class=\"flag outside\" cx=\"13\" cy=\"7\" r=\"3.6\"/>",
            "flagged, outside all",
        );
    } else {
        entry(
            "<circle class=\"flag\" cx=\"13\" cy=\"7\" r=\"3.6\"/>",
            "flagged window",
        );
    }
    entry(
        "<path class=\"normal\" stroke-width=\"5\" d=\"M6.5 7V1\"/><path class=\"anomalous\" stroke-width=\"5\" d=\"M19.5 7V13\"/>\
         <path class=\"zero\" d=\"M0 7H26\"/>",
        "decision: normal / anomalous",
    );
    out.push_str("</ul>\n");
    for sensor in &report.sensors {
        out.push_str(&figure(sensor, Length::from_duration(report.window)));
    }
    out.push_str("</section>\n");
    out
}

fn files(files: &[FileLink]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let mut out =
        "<section>\n<h2>Files</h2>\n<div class=\"wide\"><table class=\"files\">\n<tbody>\n".to_owned();
    for file in files {
        out.push_str(&format!(
            "<tr><th scope=\"row\">{}</th><td><code>{}</code></td></tr>\n",
            Escaped(&file.what),
            Escaped(&file.path)
        ));
    }
    out.push_str("</tbody>\n</table></div>\n</section>\n");
    out
}
