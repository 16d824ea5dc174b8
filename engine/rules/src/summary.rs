//! The sentence of an alert: a template with `{{ column }}` in it, filled in row by row.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(String),
}

/// A parsed summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// `known` are the names that a row has: the columns of the SELECT and the rule's labels.
    pub fn parse(text: &str, known: &BTreeSet<String>) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].to_owned()));
            }
            let inside = &rest[open + 2..];
            let Some(close) = inside.find("}}") else {
                return Err(format!("the summary has `{{{{` without `}}}}` after it: `{}`", &rest[open..]));
            };
            let name = inside[..close].trim();
            if !known.contains(name) {
                let hint = match tidewatch_model::nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{{{{ {near} }}}}`?"),
                    None => format!("there are {}", known.iter().cloned().collect::<Vec<_>>().join(", ")),
                };
                return Err(format!("the summary names `{{{{ {name} }}}}`, which the SELECT does not return; {hint}"));
            }
            pieces.push(Piece::Place(name.to_owned()));
            rest = &inside[close + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Texts stand as they are, numbers as a person would say them, what is NULL as a dash.
    pub fn fill(&self, texts: &BTreeMap<String, String>, numbers: &BTreeMap<String, f64>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Place(name) => match (texts.get(name), numbers.get(name)) {
                    (Some(text), _) => out.push_str(text),
                    (None, Some(number)) => out.push_str(&spoken(*number)),
                    (None, None) => out.push('–'),
                },
            }
        }
        out
    }
}

/// A number with as many digits as a person needs: whole numbers whole, large ones without a
/// fraction, others with one decimal, small ones with two digits that say something.
pub fn spoken(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "not a number".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "infinitely many" } else { "minus infinity" }.to_owned()
    } else if size >= 1e15 {
        format!("{number:e}")
    } else if number == number.trunc() || size >= 1_000.0 {
        format!("{number:.0}")
    } else if size >= 1.0 {
        format!("{number:.1}")
    } else {
        // 0.034 for 0.0341…: one place for each leading zero, and one more.
        let places = (-size.log10().floor()) as usize + 1;
        format!("{number:.places$}").trim_end_matches('0').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spoken() {
        for (number, words) in [
            (4.7123, "4.7"),
            (-4.7123, "-4.7"),
            (100.0, "100"),
            (0.0, "0"),
            (12345.678, "12346"),
            (999.96, "1000.0"),
            (0.0341, "0.034"),
            (0.5, "0.5"),
            (1e18, "1e18"),
            (f64::NAN, "not a number"),
            (f64::INFINITY, "infinitely many"),
        ] {
            assert_eq!(spoken(number), words);
        }
    }

    #[test]
    fn templates_are_filled_and_refused() {
        let known: BTreeSet<String> = ["status", "score", "value"].map(str::to_owned).into();
        let texts = BTreeMap::from([("status".to_owned(), "denied".to_owned())]);
        let numbers = BTreeMap::from([("score".to_owned(), 4.66)]);
        for (template, expected) in [
            ("{{ status }}: {{score}} sigma", Ok("denied: 4.7 sigma")),
            ("", Ok("")),
            ("{ no place }", Ok("{ no place }")),
            ("{{ value }}", Ok("–")),
            ("{{ statsu }}", Err("did you mean `{{ status }}`?")),
            ("{{ elephant }}", Err("there are score, status, value")),
            ("{{ status", Err("without `}}`")),
        ] {
            match (Template::parse(template, &known), expected) {
                (Ok(parsed), Ok(filled)) => assert_eq!(parsed.fill(&texts, &numbers), filled),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, expected) => panic!("{template}: {got:?} is not {expected:?}"),
            }
        }
    }
}
