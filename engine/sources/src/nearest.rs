//! The name that a person most likely meant.

/// ` (did you mean …?)` with the nearest of the names, or nothing where none is near.
pub(crate) fn or_nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let lower = wanted.to_lowercase();
    names
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + wanted.len().max(name.len()) / 3)
        .map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

/// Levenshtein's distance. Names are short: the whole table is never kept, only its last row.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (at, a) in left.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(right.chars()) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            *cell = replaced.min(*cell + 1).min(before + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["occurred_at", "status", "account_id"];
        for (wanted, found) in [("ocurred_at", "occurred_at"), ("Status", "status"), ("acount", "account_id")] {
            assert!(or_nearest(wanted, names.into_iter()).contains(found), "{wanted}");
        }
        assert_eq!(or_nearest("xyz", names.into_iter()), "");
    }

    #[test]
    fn distances() {
        for (left, right, wanted) in [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3)] {
            assert_eq!((distance(left, right), distance(right, left)), (wanted, wanted), "{left} {right}");
        }
    }
}
