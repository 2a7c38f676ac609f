//! Reads what a page of the documentation shows, so that tests can run it.

use std::path::Path;

/// Returns the lines of the fenced block that follows the marker `<!-- tested: NAME -->` on a page of the repository.
pub fn block(page: &str, name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let marker = format!("<!-- tested: {name} -->");
    let (_, rest) = text
        .split_once(&marker)
        .unwrap_or_else(|| panic!("{page} has no {marker}"));
    let (_, rest) = rest.split_once("```").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    block.lines().skip(1).map(str::to_owned).collect()
}
