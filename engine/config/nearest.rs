//! Finds the known name that a misspelt one was most likely meant to be.

use tidewatch_model::edit_distance;

/// The candidate with the least distance to `wanted`; the earlier one where two are equally near.
/// `None` only where there are no candidates.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates.into_iter().min_by_key(|candidate| score(wanted, candidate))
}

/// Paths are compared whole and by their last part, so that a key in the wrong table is found in the
/// right one; where that does not tell two apart, the whole path does.
fn score(wanted: &str, candidate: &str) -> (usize, usize) {
    let whole = edit_distance(wanted, candidate);
    (whole.min(edit_distance(last(wanted), last(candidate)) + 1), whole)
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

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
