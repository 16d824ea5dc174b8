//! The name that a person most likely meant. Used in messages only; it decides nothing.

/// Beyond this many letters nobody has mistyped one of our names, and the comparison would cost time.
const LETTERS_MAX: usize = 128;

/// The known name with the fewest edits, where it is near enough to be a likely slip.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wanted.len() > LETTERS_MAX {
        return None;
    }
    let wanted = wanted.to_lowercase();
    names
        .into_iter()
        .map(|name| {
            // A name cut short (`amount` for `amount_minor`) is a likelier slip than one with as many edits.
            let cut_short = wanted.len() > 2 && name.starts_with(&wanted);
            (!cut_short, edit_distance(&wanted, name), name)
        })
        .filter(|(other, distance, name)| !other || *distance <= (name.len().max(wanted.len()) / 2).max(1))
        .min()
        .map(|(_, _, name)| name)
}

/// `; did you mean …?`, or nothing where no name is near.
pub fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wanted, names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// How many single letters must be inserted, deleted, replaced or swapped with their neighbour to get from one name to
/// the other, whatever their case (optimal string alignment).
pub fn edit_distance(left: &str, right: &str) -> usize {
    let letters =
        |text: &str| -> Vec<char> { text.chars().take(LETTERS_MAX).map(|c| c.to_ascii_lowercase()).collect() };
    let (left, right) = (letters(left), letters(right));
    let width = right.len() + 1;
    // Every index below is of a table of (left.len() + 1) × width cells.
    let mut table = vec![0_usize; (left.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    for j in 0..width {
        table[at(0, j)] = j;
    }
    for i in 1..=left.len() {
        table[at(i, 0)] = i;
        for j in 1..width {
            let replaced = table[at(i - 1, j - 1)] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(table[at(i - 1, j)] + 1).min(table[at(i, j - 1)] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(table[at(i - 2, j - 2)] + 1);
            }
            table[at(i, j)] = best;
        }
    }
    table[at(left.len(), right.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_slips() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("same", "same", 0),
            ("adress", "address", 1),
            ("durabiltiy", "durability", 1),
            ("Timeout", "timeout", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(left, right), expected, "{left} {right}");
            assert_eq!(edit_distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let names = ["occurred_at", "status", "amount_minor", "account_id"];
        for (wanted, expected) in [
            ("ocurred_at", Some("occurred_at")),
            ("Status", Some("status")),
            ("amount", Some("amount_minor")),
            ("account", Some("account_id")),
            ("acount_id", Some("account_id")),
            ("zzzzzzzzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), expected, "{wanted}");
        }
        assert_eq!(did_you_mean("statsu", names), "; did you mean `status`?");
    }
}
