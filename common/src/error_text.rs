//! Errors as sentences for people.

use std::error::Error;

/// Returns an error and its causes on one line. Leaves out a cause that the text already contains.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = one_line(&error.to_string());
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// Joins the lines of a text, such as the XML in a cloud's response.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
