//! docs/metrics.md names every metric with its type, unit and meaning.

use std::collections::BTreeMap;
use std::fmt::Write;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::page_is;

/// A metric as the text format describes it.
#[derive(Default)]
struct Described {
    kind: String,
    unit: String,
    meaning: String,
    labels: String,
}

/// Everything that a registry exports, by name.
fn described(registry: &Registry) -> BTreeMap<String, Described> {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let mut metrics: BTreeMap<String, Described> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, Some(name), Some(value)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let metric = metrics.entry(name.to_owned()).or_default();
            match what {
                Some("TYPE") => metric.kind = value.to_owned(),
                Some("UNIT") => metric.unit = value.to_owned(),
                Some("HELP") => metric.meaning = value.trim_end_matches('.').to_owned(),
                _ => {}
            }
        } else if let Some((name, rest)) = line.split_once('{')
            && let Some((label, _)) = rest.split_once('=')
            && label != "le"
        {
            let of = |metric: &&String| name.starts_with(metric.as_str());
            let family = metrics
                .keys()
                .filter(of)
                .max_by_key(|metric| metric.len())
                .cloned();
            if let Some(family) = family {
                metrics.entry(family).or_default().labels = label.to_owned();
            }
        }
    }
    metrics
}

fn append(page: &mut String, title: &str, registry: &Registry) {
    write!(
        page,
        "\n## {title}\n\n| metric | type | unit | label | meaning |\n|---|---|---|---|---|\n"
    )
    .unwrap();
    for (name, metric) in described(registry) {
        let Described {
            kind,
            unit,
            meaning,
            labels,
        } = metric;
        let ending = if kind == "counter" { "_total" } else { "" };
        writeln!(
            page,
            "| `{name}{ending}` | {kind} | {unit} | {labels} | {meaning} |"
        )
        .unwrap();
    }
}

#[test]
fn every_metric_is_on_the_page() {
    let mut page = "# Metrics\n\nWhat the services export on `/metrics` (OpenMetrics text). Written by `UPDATE_DOCS=1 cargo test \
                    --workspace --test house`,\nwhich otherwise checks that this page is up to date. Counts start at 0 when a \
                    process starts.\n"
        .to_owned();
    let mut all = Registry::default();
    windrow_service::Readiness::default()
        .depend_on("store", || None)
        .register(&mut all);
    append(&mut page, "All services", &all);
    let mut producer = Registry::default();
    let stats = windrow_producer::Stats::default();
    // Partitions get their metrics once they are read.
    stats.set_lag("0", 0, 0.0);
    stats.register(&mut producer);
    append(&mut page, "`windrow-producer`", &producer);
    let mut worker = Registry::default();
    windrow_worker::Stats::default().register(&mut worker);
    append(&mut page, "`windrow-worker`", &worker);
    let mut scaler = Registry::default();
    windrow_scaler::control::Stats::default().register(&mut scaler);
    append(&mut page, "`windrow-scaler run`", &scaler);
    let mut agent = Registry::default();
    windrow_scaler::agent::Agent::default().register(&mut agent);
    append(&mut page, "`windrow-scaler agent`", &agent);
    let mut alerter = Registry::default();
    windrow_alerter::Stats::default().register(&mut alerter, &["webhook".to_owned()]);
    append(&mut page, "`windrow-alerter`", &alerter);
    let mut grouper = Registry::default();
    windrow_grouper::Stats::default().register(&mut grouper);
    append(&mut page, "`windrow-grouper`", &grouper);
    page_is("docs/metrics.md", &page);
}
