//! Finds the known name that a misspelt one was most likely meant to be.

/// The candidate with the least distance to `wanted`; the earlier one where two are equally near.
/// `None` only where there are no candidates.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| score(wanted, candidate))
}

/// Paths are compared whole and by their last part, so that a key in the wrong table is found in the
/// right one; where that does not tell two apart, the whole path does.
fn score(wanted: &str, candidate: &str) -> (usize, usize) {
    let whole = distance(wanted, candidate);
    (whole.min(distance(last(wanted), last(candidate)) + 1), whole)
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

/// How many single letters must be inserted, deleted, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    // Names are short; a pasted text in a key's place must not cost quadratic time.
    const LETTERS_MAX: usize = 128;
    let left: Vec<char> = left.chars().take(LETTERS_MAX).map(|c| c.to_ascii_lowercase()).collect();
    let right: Vec<char> = right.chars().take(LETTERS_MAX).map(|c| c.to_ascii_lowercase()).collect();
    let width = right.len() + 1;
    // Row `i`, column `j` of the table is the distance of the first `i` letters to the first `j`;
    // every index below is at most (left.len(), right.len()), which is the table's last cell.
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
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn the_nearest_is_found_across_tables() {
        let known = ["data_dir", "grpc.address", "log.segment_bytes", "query.timeout", "rules.timeout"];
        for (wanted, expected) in [
            ("data_dri", "data_dir"),
            ("grpc.adress", "grpc.address"),
            ("segment_bytes", "log.segment_bytes"),
            ("store.segment_byte", "log.segment_bytes"),
            ("rule.timeout", "rules.timeout"),
        ] {
            assert_eq!(nearest(wanted, known), Some(expected), "{wanted}");
        }
        assert_eq!(nearest("x", []), None);
    }
}
