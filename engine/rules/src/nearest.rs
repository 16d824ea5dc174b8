//! The nearest of the known names, for messages about a name that is not known. Decides nothing.

/// A known name that is at most a few letters away.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(away, name)| *away <= name.chars().count().max(3) / 3 + 1)
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be changed, added or removed to get from one to the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, l) in left.chars().enumerate() {
        let mut corner = row[0];
        row[0] = above + 1;
        for (at, r) in right.iter().enumerate() {
            let replaced = corner + usize::from(l != *r);
            corner = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(corner + 1);
        }
    }
    row[right.len()]
}
