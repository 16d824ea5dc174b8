//! The names of all views together: a view or a roll-up that has another's name is refused.

use std::sync::Arc;

use super::{Refusal, Source};
use crate::view::View;

/// A view with the file that it comes from.
#[derive(Clone, Debug)]
pub struct ViewFile<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub view: Arc<View>,
}

/// Views of one name, and roll-ups whose name is a view's.
pub fn name_clashes(files: &[ViewFile<'_>]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (at, ViewFile { file, text, view }) in files.iter().enumerate() {
        let source = Source { file, text };
        let name = &view.meta.name;
        if let Some(other) = files.iter().take(at).find(|other| other.view.meta.name == *name) {
            refusals.push(source.refuse(format!("{} defines the view `{name}` already", other.file)));
        }
        for roll_up in &view.roll_ups {
            let name = &roll_up.meta.name;
            if let Some(other) = files.iter().find(|other| other.view.meta.name == *name) {
                let option = format!("retention{}", roll_up.meta.window.suffix());
                let reason =
                    format!("option `{option}` makes the roll-up `{name}`, and {} has a view of that name", other.file);
                refusals.push(source.refuse_at(&option, reason));
            }
        }
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile_stream, compile_view};

    const STREAM: &str = "CREATE TABLE events (at TIMESTAMP NOT NULL, name TEXT) WITH (event_time = 'at')";
    const SELECT: &str = "SELECT date_trunc('minute', at) AS minute, count(*) AS events FROM events GROUP BY ALL";

    fn text(name: &str, options: &str, having: &str) -> String {
        format!("CREATE MATERIALIZED VIEW {name}\nWITH ({options}) AS\n{SELECT}{having}")
    }

    fn refused(options: &str, having: &str) -> String {
        let stream = compile_stream("events.sql", STREAM).unwrap();
        compile_view(&stream, "v.sql", &text("v", options, having)).unwrap_err().to_string()
    }

    #[test]
    fn roll_ups_that_cannot_be_kept_are_refused_where_they_stand() {
        for (options, having, expected) in [
            (
                "retention_1h = '1 day'",
                "",
                "v.sql:2: option `retention_1h` is 1d and `retention` is 90d: a roll-up is kept",
            ),
            (
                "retention = '1m', retention_1d = '1h'",
                "",
                "v.sql:2: option `retention_1d` is 1h, which is shorter than the window",
            ),
            (
                "retention_5m = '1 year'",
                " HAVING count(*) > 1",
                "v.sql:2: option `retention_5m`: a view with HAVING has no",
            ),
        ] {
            let refusal = refused(options, having);
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }

    #[test]
    fn a_roll_up_has_a_name_of_its_own() {
        let stream = compile_stream("events.sql", STREAM).unwrap();
        let texts = [text("v", "retention_1h = '1 year'", ""), text("v_1h", "retention = '1d'", "")];
        let files: Vec<ViewFile<'_>> = ["v.sql", "v_1h.sql"]
            .iter()
            .zip(&texts)
            .map(|(file, text)| ViewFile { file, text, view: Arc::new(compile_view(&stream, file, text).unwrap()) })
            .collect();
        let clashes: Vec<String> = name_clashes(&files).iter().map(ToString::to_string).collect();
        assert_eq!(
            clashes,
            ["v.sql:2: option `retention_1h` makes the roll-up `v_1h`, and v_1h.sql has a view of that name"]
        );
        assert_eq!(name_clashes(&files[..1]), []);
    }
}
