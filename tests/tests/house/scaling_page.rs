//! docs/scaling.md: its commands run, and its outputs are what the programs print.

use windrow_tests::{block, windrow};

use super::{page_is, repository};

const PAGE: &str = "docs/scaling.md";

/// Returns the page with the block after each `<!-- output: COMMAND -->` replaced by what the command prints.
fn with_outputs(page: &str) -> String {
    let mut parts = page.split("<!-- output: ");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (command, rest) = part.split_once(" -->").unwrap();
        let (_, rest) = rest.split_once("```\n").unwrap();
        let (_, rest) = rest.split_once("```").unwrap();
        let words: Vec<_> = command.split(' ').skip(1).collect();
        let output = windrow(&words).output();
        text += &format!(
            "<!-- output: {command} -->\n```\n{}\n```{rest}",
            output.trim_end()
        );
    }
    text
}

#[test]
fn the_outputs_on_the_page_are_real() {
    let page = std::fs::read_to_string(repository(PAGE)).unwrap();
    assert_eq!(page.matches("<!-- output: ").count(), 2);
    page_is(PAGE, &with_outputs(&page));
}

#[test]
fn the_command_for_your_own_arrivals_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (arrivals, chart) = (
        folder.path().join("arrivals.csv"),
        folder.path().join("scale.html"),
    );
    std::fs::write(&arrivals, "seconds,messages\n0,1200\n3600,1000000\n").unwrap();
    for command in block(PAGE, "your own arrivals") {
        let command = command
            .replace("arrivals.csv", arrivals.to_str().unwrap())
            .replace("scale.html", chart.to_str().unwrap());
        let words: Vec<_> = command.split(' ').skip(1).collect();
        assert!(windrow(&words).output().contains("Windrow with the schedule"));
    }
    assert!(chart.exists());
}
