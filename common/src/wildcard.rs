//! Patterns in which `*` stands for any text.

/// Returns whether `name` matches `pattern`, in which `*` stands for any text. `same` decides whether two bytes are
/// equal.
pub fn matches_wildcard(pattern: &str, name: &str, same: impl Fn(u8, u8) -> bool) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // After the last `*`: where to go on in the pattern, and in the name with one byte more taken by that `*`.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|&byte| same(byte, name[n])) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, n) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}
