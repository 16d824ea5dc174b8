//! Takes a JSON object apart without turning its numbers into floats. The text was found to be valid
//! JSON before; this only finds where the members of the outermost object begin and end.

use std::borrow::Cow;

/// One member of an object: its name, and its value as it stands in the text.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub name: Cow<'a, str>,
    value: &'a str,
}

impl Member<'_> {
    pub fn is_nested(&self) -> bool {
        self.value.starts_with(['{', '['])
    }

    /// The value as text: a string without its quotes and escapes, anything else as written; `null` is
    /// no value.
    pub fn text(&self) -> Result<Option<String>, String> {
        match self.value {
            "null" => Ok(None),
            value if value.starts_with('"') => unquote(value).map(|text| Some(text.into_owned())),
            value => Ok(Some(value.to_owned())),
        }
    }
}

/// The members of an object that is valid JSON. Of anything else, what looks like them.
pub(crate) fn members(text: &str) -> Vec<Member<'_>> {
    let mut found = Vec::new();
    let Some(mut rest) = text.trim_start().strip_prefix('{') else { return found };
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        let Some(name_length) = value_length(rest).filter(|_| rest.starts_with('"')) else { return found };
        let (name, after) = rest.split_at(name_length);
        let Some(after) = after.trim_start().strip_prefix(':') else { return found };
        let after = after.trim_start();
        let Some(length) = value_length(after) else { return found };
        let (value, after) = after.split_at(length);
        let Ok(name) = unquote(name) else { return found };
        found.push(Member { name, value });
        rest = after;
    }
}

/// The bytes of the value at the beginning of a text; `None` where it does not end. All the bytes that
/// count are ASCII, so the length is always at the boundary of a character.
fn value_length(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    quoted = false;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> Result<Cow<'_, str>, String> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(text).map(Cow::Owned).map_err(|error| format!("a text is not valid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_text() {
        let text = r#" {"a":1.10, "b" : "x\"}\u00e9,", "c\n":null,"d":{"e":[1,"]"]},"f":true ,"g":00e1,"h":-9007199254740993} "#;
        let found: Vec<(String, bool, Option<String>)> =
            members(text).into_iter().map(|m| (m.name.to_string(), m.is_nested(), m.text().unwrap())).collect();
        let wanted = [
            ("a", false, Some("1.10")),
            ("b", false, Some("x\"}é,")),
            ("c\n", false, None),
            ("d", true, Some("{\"e\":[1,\"]\"]}")),
            ("f", false, Some("true")),
            ("g", false, Some("00e1")),
            ("h", false, Some("-9007199254740993")),
        ];
        let wanted: Vec<_> = wanted.map(|(n, nested, t)| (n.to_owned(), nested, t.map(str::to_owned))).into();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["", "{", "{}", "[1]", "{\"a\"", "{\"a\":", "{a:1}", "{\"a\" 1}", "\"{\""] {
            assert_eq!(members(text).len(), 0, "{text}");
        }
    }
}
