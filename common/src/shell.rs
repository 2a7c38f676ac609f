//! Command lines that can be copied into a shell.

/// Quotes a word for a shell, if it needs that.
pub fn shell_word(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:@%+=,".contains(char);
    match !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, right) in [
            ("/data/readings", "/data/readings"),
            ("my data", "'my data'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("--from", "'--from'"),
            ("$(rm -r x)", "'$(rm -r x)'"),
            ("temp_*", "'temp_*'"),
        ] {
            assert_eq!(shell_word(word), right);
        }
    }
}
