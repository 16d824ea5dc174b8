//! Splits a body into the texts of its events without parsing them, so that one broken event does not
//! take its neighbours with it. What the texts mean is the business of `json`.

/// The text of one event, where it stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// The line of the body on which it begins, from 1.
    pub(crate) line: u32,
    pub(crate) bytes: &'a [u8],
}

/// The elements of a JSON array, and what is wrong with the array itself.
pub(crate) struct Elements<'a> {
    pub(crate) pieces: Vec<Piece<'a>>,
    pub(crate) flaw: Option<&'static str>,
}

/// Each line that is not blank.
pub(crate) fn lines(body: &[u8]) -> Vec<Piece<'_>> {
    (1u32..)
        .zip(body.split(|byte| *byte == b'\n'))
        .map(|(line, bytes)| Piece { line, bytes: bytes.trim_ascii() })
        .filter(|piece| !piece.bytes.is_empty())
        .collect()
}

/// What stands between the commas of the outermost brackets. The body begins with `[`.
pub(crate) fn elements(body: &[u8]) -> Elements<'_> {
    let mut pieces = Vec::new();
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let (mut line, mut begin, mut begin_line) = (1u32, 0usize, 1u32);
    let mut closed_at = None;
    for (at, byte) in body.iter().enumerate() {
        if *byte == b'\n' {
            line = line.saturating_add(1);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth == 1 {
                    (begin, begin_line) = (at + 1, line);
                }
            }
            b',' if depth == 1 => {
                pieces.push((begin_line, begin..at));
                (begin, begin_line) = (at + 1, line);
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    closed_at = Some(at);
                    break;
                }
            }
            _ => {}
        }
    }
    let end = closed_at.unwrap_or(body.len());
    pieces.push((begin_line, begin..end));
    let rest = body.get(end + 1..).unwrap_or_default();
    let flaw = match closed_at {
        None => Some("the array is not closed: the body may have been cut short"),
        Some(_) if !rest.trim_ascii().is_empty() => Some("the body goes on after the end of the array"),
        Some(_) => None,
    };
    let only_one = pieces.len() == 1;
    let pieces = pieces
        .into_iter()
        .map(|(line, range)| Piece { line, bytes: body.get(range).unwrap_or_default().trim_ascii() })
        // `[]` has one piece, which is empty; `[1,,2]` has an empty one that is a mistake.
        .filter(|piece| !(only_one && piece.bytes.is_empty()))
        .collect();
    Elements { pieces, flaw }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_split_at_their_own_commas() {
        for (body, expected, sound) in [
            ("[]", vec![], true),
            ("[ ]", vec![], true),
            ("[1]", vec!["1"], true),
            (r#"[{"a":[1,2]}, {"b":"],{"}]"#, vec![r#"{"a":[1,2]}"#, r#"{"b":"],{"}"#], true),
            (r#"[{"a":"\"],"},2]"#, vec![r#"{"a":"\"],"}"#, "2"], true),
            ("[1,,2]", vec!["1", "", "2"], true),
            ("[1,2", vec!["1", "2"], false),
            ("[1] 2", vec!["1"], false),
            ("[\"a", vec!["\"a"], false),
        ] {
            let elements = elements(body.as_bytes());
            let texts: Vec<_> = elements.pieces.iter().map(|piece| str::from_utf8(piece.bytes).unwrap()).collect();
            assert_eq!((texts, elements.flaw.is_none()), (expected, sound), "{body}");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let numbers: Vec<_> = lines(b"a\n\n  \r\nb\r\nc").iter().map(|piece| (piece.line, piece.bytes.len())).collect();
        assert_eq!(numbers, [(1, 1), (4, 1), (5, 1)]);
    }
}
