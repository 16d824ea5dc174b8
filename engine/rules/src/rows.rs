//! From the rows of a verdict's SQL to labels, values, severity and summary. Pure: no table is read here.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, Float64Array, RecordBatch, StringArray},
    compute::cast,
    datatypes::DataType,
};
use tidewatch_alerts::VerdictRow;
use tidewatch_model::Severity;

use crate::{check::Role, summary::Template};

/// What the columns of a rule's SELECT mean, and what the file says besides.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub roles: Vec<Role>,
    pub severity: Severity,
    /// Of the file; the alert gets them, the row does not repeat them.
    pub labels: BTreeMap<String, String>,
    pub template: Template,
}

/// One row for each row of the answer, ordered by labels. NULL labels and values are left out.
pub(crate) fn verdict_rows(
    batches: &[RecordBatch],
    meaning: &Meaning,
    warming_up: bool,
) -> Result<Vec<VerdictRow>, String> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns = Columns::new(batch, meaning)?;
        for at in 0..batch.num_rows() {
            rows.push(columns.row(at, meaning, warming_up)?);
        }
    }
    rows.sort_by(|left, right| left.labels.cmp(&right.labels));
    for pair in rows.windows(2) {
        if pair[0].labels == pair[1].labels {
            let labels: Vec<String> = pair[0].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return Err(format!(
                "returned two rows with the same labels ({}); return another text column that tells them apart, or one row",
                if labels.is_empty() { "none at all".to_owned() } else { labels.join(", ") }
            ));
        }
    }
    Ok(rows)
}

/// A batch's columns by role, each in one type.
struct Columns {
    labels: Vec<(String, StringArray)>,
    values: Vec<(String, Float64Array)>,
    severity: Option<StringArray>,
}

impl Columns {
    fn new(batch: &RecordBatch, meaning: &Meaning) -> Result<Self, String> {
        let mut columns = Self { labels: Vec::new(), values: Vec::new(), severity: None };
        let schema = batch.schema();
        for ((field, column), role) in schema.fields().iter().zip(batch.columns()).zip(&meaning.roles) {
            let name = field.name().clone();
            let to = |kind: DataType| cast(column, &kind).map_err(|error| format!("column `{name}`: {error}"));
            match role {
                Role::Minute => {}
                Role::Label => {
                    let texts = to(DataType::Utf8)?;
                    columns.labels.push((name, StringArray::from(texts.to_data())));
                }
                Role::Severity => columns.severity = Some(StringArray::from(to(DataType::Utf8)?.to_data())),
                Role::Value => {
                    let numbers = to(DataType::Float64)?;
                    columns.values.push((name, Float64Array::from(numbers.to_data())));
                }
            }
        }
        Ok(columns)
    }

    fn row(&self, at: usize, meaning: &Meaning, warming_up: bool) -> Result<VerdictRow, String> {
        let labels: BTreeMap<String, String> = self
            .labels
            .iter()
            .filter(|(_, texts)| texts.is_valid(at))
            .map(|(name, texts)| (name.clone(), texts.value(at).to_owned()))
            .collect();
        let values: BTreeMap<String, f64> = self
            .values
            .iter()
            .filter(|(_, numbers)| numbers.is_valid(at))
            .map(|(name, numbers)| (name.clone(), numbers.value(at)))
            .collect();
        let severity = match &self.severity {
            Some(texts) if texts.is_valid(at) => {
                texts.value(at).parse::<Severity>().map_err(|error| format!("the column `severity`: {error}"))?
            }
            _ => meaning.severity,
        };
        let mut texts = meaning.labels.clone();
        texts.extend(labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        if self.severity.is_some() {
            texts.insert("severity".to_owned(), severity.to_string());
        }
        let summary = meaning.template.fill(&texts, &values);
        Ok(VerdictRow { labels, values, severity, summary, warming_up })
    }
}
