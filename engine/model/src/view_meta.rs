//! What a reader needs to know of a view: its name, its keys, its measures and its fill.

use std::sync::Arc;

use crate::{Span, Window};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

/// What a reader sees in a minute in which a known key had no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// No row.
    None,
    /// Measures at zero (counts and sums) or NULL (the rest), as long as the key was seen within `horizon`.
    Zero { horizon: Span },
}

/// One value column of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    pub field: FieldRef,
    /// Cannot be negative and adds up over minutes, so it is also exposed as a counter.
    pub counter: bool,
    /// Reads as zero, not NULL, where a gap is filled.
    pub fills_with_zero: bool,
}

/// The shape of a view as its readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewMeta {
    pub name: String,
    pub keys: Vec<FieldRef>,
    pub measures: Vec<Measure>,
    pub fill: Fill,
    pub retention: Span,
    /// What a row stands for: its `minute` is where that begins.
    pub window: Window,
    /// False for `expose = 'sql'`: no Prometheus series.
    pub exposed: bool,
    schema: SchemaRef,
}

impl ViewMeta {
    pub fn new(name: &str, keys: Vec<FieldRef>, measures: Vec<Measure>, fill: Fill, retention: Span) -> Self {
        let minute = Field::new("minute", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false);
        let mut fields: Vec<FieldRef> = vec![Arc::new(minute)];
        fields.extend(keys.iter().cloned());
        fields.extend(measures.iter().map(|measure| Arc::clone(&measure.field)));
        fields.push(Arc::new(Field::new("sealed", DataType::Boolean, false)));
        let schema = Arc::new(Schema::new(fields));
        Self { name: name.to_owned(), keys, measures, fill, retention, window: Window::Minute, exposed: true, schema }
    }

    /// The shape of a roll-up of this view. It fills no gaps, and is for SQL alone.
    #[must_use]
    pub fn rolled_up(&self, window: Window, retention: Span) -> Self {
        let name = format!("{}{}", self.name, window.suffix());
        Self { name, fill: Fill::None, retention, window, exposed: false, ..self.clone() }
    }

    /// `minute`, the keys, the measures, `sealed`: in this order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}
