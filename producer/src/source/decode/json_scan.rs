//! Scans the common form of a JSON row without a general parser: a flat object with the keys of the row before.
//!
//! Any other form (an escape, a nested value, another order of keys, an error) is left to serde_json, so the scan must
//! be right only about the rows that it accepts.

use memchr::memchr;

use super::json_row::KeyOrder;

/// The value that a row holds for a role, as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::source) enum Token<'a> {
    /// The text within quotes.
    Text(&'a [u8]),
    /// A whole number, written as Rust prints it.
    Integer(&'a [u8]),
    /// Any other number.
    Number(&'a [u8]),
}

impl<'a> Token<'a> {
    pub(in crate::source) fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) | Self::Integer(text) | Self::Number(text) => text,
        }
    }
}

/// Returns the tokens of the fields that have a role, by role; `None` if the row does not have the common form.
#[inline]
pub(in crate::source) fn scan<'a>(line: &'a [u8], keys: &KeyOrder) -> Option<[Token<'a>; 4]> {
    // One pass checks the whole row. Without escapes, a quote always ends a text; control characters are not allowed in
    // any text.
    let (mut odd, mut foreign) = (false, false);
    for &byte in line {
        odd |= (byte < b' ') | (byte == b'\\');
        foreign |= byte >= 0x80;
    }
    if odd || (foreign && std::str::from_utf8(line).is_err()) {
        return None;
    }
    let mut found: [Option<(u8, Token<'a>)>; 4] = [None; 4];
    let mut rest = behind(line, b'{')?;
    for (place, (key, meaning)) in keys.known().iter().enumerate() {
        if place > 0 {
            rest = behind(rest, b',')?;
        }
        rest = behind(rest, b'"')?.strip_prefix(key.as_bytes())?;
        rest = behind(rest.strip_prefix(b"\"")?, b':')?;
        let (token, next) = token(skip_spaces(rest))?;
        if let Some((role, rank)) = *meaning {
            let best = &mut found[role as usize];
            match best {
                None => *best = Some((rank, token)),
                Some((first, _)) if *first == rank => {}
                // Two fields could have the role.
                Some(_) => return None,
            }
        }
        rest = next;
        if let Some(end) = behind(rest, b'}') {
            let [time, device, tag, value] = found;
            return skip_spaces(end)
                .is_empty()
                .then_some([time?.1, device?.1, tag?.1, value?.1]);
        }
    }
    None
}

#[inline(always)]
fn skip_spaces(text: &[u8]) -> &[u8] {
    match text {
        [b' ', ..] => skip_some(text),
        _ => text,
    }
}

/// Apart, because the compiler unrolls it, and the unrolled loop took a tenth of all instructions where no space is.
#[inline(never)]
fn skip_some(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Returns what follows `byte`, if `byte` is the first of `text` after any spaces.
#[inline(always)]
fn behind(text: &[u8], byte: u8) -> Option<&[u8]> {
    match skip_spaces(text) {
        [first, rest @ ..] if *first == byte => Some(rest),
        _ => None,
    }
}

/// Returns the text or number at the start of `rest`, and what follows it.
#[inline(always)]
fn token(rest: &[u8]) -> Option<(Token<'_>, &[u8])> {
    if let [b'"', text @ ..] = rest {
        let end = memchr(b'"', text)?;
        return Some((Token::Text(&text[..end]), &text[end + 1..]));
    }
    let digits = |from: usize| {
        let digits = rest[from..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.count()
    };
    let start = usize::from(rest.starts_with(b"-"));
    let whole = digits(start);
    if whole == 0 || (whole > 1 && rest[start] == b'0') {
        return None;
    }
    let mut end = start + whole;
    // To serde_json, a negative zero is not an integer, and neither is a number too long for one.
    let mut plain = whole <= 18 && &rest[..end] != b"-0";
    if rest.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if fraction == 0 {
            return None;
        }
        end += 1 + fraction;
        plain = false;
    }
    let (number, next) = rest.split_at(end);
    let token = if plain { Token::Integer } else { Token::Number };
    // An exponent, or anything else that cannot follow a number, is left to serde_json.
    matches!(next.first(), Some(b',' | b'}' | b' ')).then_some((token(number), next))
}

#[cfg(test)]
mod tests {
    use super::super::mapping::ColumnMapping;
    use super::*;

    fn keys(names: &[&str]) -> KeyOrder {
        let mut keys = KeyOrder::default();
        for (place, name) in names.iter().enumerate() {
            keys.meaning(place, name, &ColumnMapping::default());
        }
        keys
    }

    #[test]
    fn usual_rows_are_taken() {
        let keys = keys(&["ts", "device", "tag", "value", "unit"]);
        let expected = Some([
            Token::Integer(b"1767225600"),
            Token::Text("ä 1".as_bytes()),
            Token::Integer(b"7"),
            Token::Number(b"-0.5"),
        ]);
        for row in [
            r#"{"ts":1767225600,"device":"ä 1","tag":7,"value":-0.5}"#,
            r#" { "ts" : 1767225600 , "device" : "ä 1" , "tag" : 7 , "value" : -0.5 } "#,
            r#"{"ts":1767225600,"device":"ä 1","tag":7,"value":-0.5,"unit":"bar"}"#,
        ] {
            assert_eq!(scan(row.as_bytes(), &keys), expected, "{row}");
        }
    }

    #[test]
    fn unusual_rows_are_left_alone() {
        let keys = keys(&["ts", "device", "tag", "value", "unit"]);
        for row in [
            "",
            "{}",
            r#"{"ts":1,"device":"d","tag":"t"}"#,
            r#"{"device":"d","ts":1,"tag":"t","value":1}"#,
            r#"{"ts":1,"device":"d\n","tag":"t","value":1}"#,
            "{\"ts\":1,\"device\":\"d\t\",\"tag\":\"t\",\"value\":1}",
            r#"{"ts":1,"device":"d","tag":"t","value":1,}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":1} x"#,
            r#"{"ts":1,"device":"d","tag":"t","value":01}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":1.}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":.5}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":1e5}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":null}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":[1]}"#,
            r#"{"ts":1,"device":"d","tag":"t","value":1"#,
            r#"{"ts":1,"device":"d","tag":"t","value":1,"unit":"a","x":1}"#,
        ] {
            assert_eq!(scan(row.as_bytes(), &keys), None, "{row}");
        }
    }
}
