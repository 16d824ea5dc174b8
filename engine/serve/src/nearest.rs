//! Which known name someone may have meant. Used in messages only.

/// The name with the fewest edits, where it is near enough to be a likely slip.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this length nobody has mistyped one of our names, and the comparison would cost time.
    const LENGTH_MAX: usize = 64;
    if wanted.len() > LENGTH_MAX {
        return None;
    }
    let wanted = wanted.to_lowercase();
    names
        .into_iter()
        .map(|name| {
            // A name cut short (`amount` for `amount_minor`) is a likelier slip than one with as many edits.
            let cut_short = wanted.len() > 2 && name.starts_with(&wanted);
            (!cut_short, distance(&wanted, name), name)
        })
        .filter(|(other, distance, name)| !other || *distance <= (name.len().max(wanted.len()) / 2).max(1))
        .min()
        .map(|(_, _, name)| name)
}

/// ` — did you mean …?`, or nothing.
pub(crate) fn hint<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wanted, names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Insertions, deletions and substitutions that turn one text into the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (b, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(a != *b);
            diagonal = *cell;
            before = changed.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let names = ["occurred_at", "status", "amount_minor", "account_id"];
        for (wanted, expected) in [
            ("ocurred_at", Some("occurred_at")),
            ("Status", Some("status")),
            ("amount", Some("amount_minor")),
            ("account", Some("account_id")),
            ("zzzzzzzzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), expected, "{wanted}");
        }
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }
}
