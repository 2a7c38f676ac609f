//! Progress bars on standard error; hidden when it is not a terminal.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::pipeline::Counts;
use crate::show;

/// A progress bar of a run: the share of the source that is read, and the counts so far.
pub(crate) struct RunBar {
    bar: ProgressBar,
}

impl RunBar {
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_prefix(Cow::Borrowed(what));
        bar.set_style(style("{spinner} {prefix} {msg}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    pub(crate) fn show(&self, counts: &Counts) {
        let (produced, worked) = (&counts.produced, &counts.worked);
        if produced.source_total > 0 && self.bar.length() != Some(produced.source_total) {
            self.bar.set_length(produced.source_total);
            self.bar
                .set_style(style("{spinner} {prefix} [{bar:24}] {percent:>3} % {msg}"));
        }
        self.bar.set_position(produced.source_done);
        self.bar.set_message(format!(
            "{} readings, {} predictions, {} anomalies",
            show::count(produced.accepted),
            show::count(worked.predictions),
            show::count(worked.anomalies)
        ));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Creates a progress bar for a known number of steps.
pub(crate) fn steps(what: &'static str, count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    bar.set_prefix(Cow::Borrowed(what));
    bar.set_style(style("{spinner} {prefix} [{bar:24}] {pos}/{len}"));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

pub(crate) fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this program, so an invalid one may fall back to the default bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
