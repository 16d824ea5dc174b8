//! `View`: a compiled view. It evaluates its filter, keys and aggregates over columns of events,
//! and turns partial rows into the rows that readers see. It holds no state.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray},
    compute,
    datatypes::{Field, Schema, SchemaRef},
    error::ArrowError,
    row::{RowConverter, SortField},
};
use datafusion::{error::DataFusionError, physical_plan::PhysicalExpr};
use tidewatch_model::{Minute, Span, ViewMeta, Window};

use crate::{
    partial::PartialRows,
    states::{Kind, States},
};

/// One aggregate of a view: what is kept, of which arguments, for which rows.
#[derive(Debug, Clone)]
pub struct Aggregate {
    pub kind: Kind,
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

/// What happens to the key that a minute has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimit {
    /// Keys of one minute that are kept as they are.
    pub keys_max: usize,
    /// The key whose new values become `__other__` beyond it; without one, every key of the row does.
    pub overflow: Option<usize>,
}

/// A view, compiled from its SQL.
#[derive(Debug, Clone)]
pub struct View {
    pub meta: Arc<ViewMeta>,
    /// The SELECT as it was written.
    pub sql: String,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    pub aggregates: Vec<Aggregate>,
    /// Over [minute, keys…, aggregates…]: which rows survive a seal.
    pub having: Option<Arc<dyn PhysicalExpr>>,
    /// Over [minute, keys…, aggregates…]: the measures, in the order of the meta.
    pub measures: Vec<Arc<dyn PhysicalExpr>>,
    /// The schema of [minute, keys…, aggregates…].
    pub inner: SchemaRef,
    /// For each key of the meta, its place among `keys`.
    pub key_order: Vec<usize>,
    pub limit: KeyLimit,
    pub fill_horizon: Span,
    /// The same over longer windows: what the view's partial rows are merged into. Of a roll-up there are none.
    pub roll_ups: Vec<Arc<View>>,
}

/// All views, and behind them the roll-ups of each in turn: everything that is stored, at the place that it has in the store.
pub fn with_roll_ups(views: &[Arc<View>]) -> Vec<Arc<View>> {
    let roll_ups = views.iter().flat_map(|view| &view.roll_ups);
    views.iter().chain(roll_ups).cloned().collect()
}

/// The value that stands for keys beyond a limit.
pub const OTHER: &str = "__other__";

/// Rows of a minute as readers see them, with the partial rows that they were read from:
/// row `i` of `rows` is key `i` of `partial`.
#[derive(Clone, Debug)]
pub struct Finished {
    pub partial: PartialRows,
    /// The keys and measures in the order of the view's meta, without `minute` and `sealed`.
    pub keys: Vec<ArrayRef>,
    pub measures: Vec<ArrayRef>,
    /// Integer sums that did not fit and read as NULL.
    pub overflowed: usize,
}

impl View {
    /// The same view over a longer window.
    #[must_use]
    pub fn rolled_up(&self, window: Window, retention: Span) -> Self {
        Self { meta: Arc::new(self.meta.rolled_up(window, retention)), roll_ups: Vec::new(), ..self.clone() }
    }

    /// The codec of this view's keys. Every user of the view's key bytes shares one.
    pub fn key_codec(&self) -> Result<KeyCodec, ArrowError> {
        let fields = self.inner.fields().iter().skip(1).take(self.keys.len());
        let fields: Vec<SortField> = fields.map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(KeyCodec { converter: RowConverter::new(fields)?, columns: self.keys.len() })
    }

    /// A minute in which nothing was.
    pub fn no_rows(&self, minute: Minute) -> PartialRows {
        PartialRows::new(minute, Vec::new(), self.aggregates.iter().map(|of| States::new(&of.kind)).collect())
    }

    /// Partial rows as readers see them; rows that HAVING does not let through are left out of both.
    pub fn finish(&self, codec: &KeyCodec, partial: PartialRows) -> Result<Finished, DataFusionError> {
        let (partial, inner) = match &self.having {
            None => {
                let inner = self.inner_rows(codec, &partial)?;
                (partial, inner)
            }
            Some(having) => {
                let inner = self.inner_rows(codec, &partial)?;
                let survives = having.evaluate(&inner)?.into_array(inner.num_rows())?;
                let survives = truth(survives.as_boolean());
                let places: Vec<u32> = survives.values().set_indices_u32().collect();
                (partial.select(&places), compute::filter_record_batch(&inner, &survives)?)
            }
        };
        let rows = inner.num_rows();
        let measures = self.measures.iter().zip(&self.meta.measures).map(|(expr, measure)| {
            // A measure that cannot be computed for the minute as a whole (a division by zero, say)
            // is computed row by row, so that one key's fault costs only that key's value.
            let array = match expr.evaluate(&inner).and_then(|value| value.into_array(rows)) {
                Ok(array) => array,
                Err(_) => row_by_row(expr, &inner, measure.field.data_type())?,
            };
            if array.data_type() == measure.field.data_type() {
                Ok(array)
            } else {
                Ok(compute::cast(&array, measure.field.data_type())?)
            }
        });
        let measures = measures.collect::<Result<Vec<_>, DataFusionError>>()?;
        let keys = self.key_order.iter().map(|at| Arc::clone(inner.column(at + 1))).collect();
        let overflowed = partial.states().iter().map(States::overflowed).sum();
        Ok(Finished { partial, keys, measures, overflowed })
    }

    /// [minute, keys…, aggregates…], one row a key.
    fn inner_rows(&self, codec: &KeyCodec, partial: &PartialRows) -> Result<RecordBatch, ArrowError> {
        let rows = partial.len();
        let minute =
            TimestampMicrosecondArray::from_value(partial.minute().start().micros(), rows).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![Arc::new(minute)];
        columns.extend(codec.decode(partial.keys())?);
        columns.extend(partial.states().iter().map(States::finish));
        RecordBatch::try_new(Arc::clone(&self.inner), columns)
    }
}

fn row_by_row(
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    kind: &arrow::datatypes::DataType,
) -> Result<ArrayRef, DataFusionError> {
    let values = (0..rows.num_rows()).map(|row| {
        let value = expr.evaluate(&rows.slice(row, 1)).and_then(|value| value.into_array(1));
        match value {
            Ok(value) => Ok(compute::cast(&value, kind)?),
            Err(_) => Ok(arrow::array::new_null_array(kind, 1)),
        }
    });
    let values: Vec<ArrayRef> = values.collect::<Result<_, DataFusionError>>()?;
    let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    if values.is_empty() { Ok(arrow::array::new_empty_array(kind)) } else { Ok(compute::concat(&values)?) }
}

/// Keys to comparable bytes and back.
#[derive(Debug)]
pub struct KeyCodec {
    converter: RowConverter,
    columns: usize,
}

impl KeyCodec {
    /// The bytes of each row of `keys`; a view without keys has one empty key.
    pub fn encode(&self, keys: &[ArrayRef]) -> Result<Option<arrow::row::Rows>, ArrowError> {
        if self.columns == 0 { Ok(None) } else { self.converter.convert_columns(keys).map(Some) }
    }

    pub fn decode(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<ArrayRef>, ArrowError> {
        if self.columns == 0 {
            return Ok(Vec::new());
        }
        let parser = self.converter.parser();
        self.converter.convert_rows(keys.iter().map(|key| parser.parse(key.as_ref())))
    }
}

/// NULL is not true.
fn truth(condition: &BooleanArray) -> BooleanArray {
    if condition.null_count() > 0 { compute::prep_null_mask_filter(condition) } else { condition.clone() }
}

/// A batch's rows for which `filter` holds, or the batch itself where all do.
pub fn filtered(
    filter: Option<&Arc<dyn PhysicalExpr>>,
    rows: &RecordBatch,
) -> Result<Option<BooleanArray>, DataFusionError> {
    let Some(filter) = filter else { return Ok(None) };
    let passed = filter.evaluate(rows)?.into_array(rows.num_rows())?;
    let passed = truth(passed.as_boolean());
    Ok((passed.true_count() < rows.num_rows()).then_some(passed))
}

/// A batch with the reader's schema: minute, keys, measures, sealed.
pub fn reader_rows(
    meta: &ViewMeta,
    minute: Minute,
    keys: &[ArrayRef],
    measures: &[ArrayRef],
    rows: usize,
    sealed: bool,
) -> Result<RecordBatch, ArrowError> {
    let minutes = TimestampMicrosecondArray::from_value(minute.start().micros(), rows).with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = vec![Arc::new(minutes)];
    columns.extend(keys.iter().cloned());
    columns.extend(measures.iter().cloned());
    columns.push(Arc::new(BooleanArray::from(vec![sealed; rows])));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(meta.schema()), columns, &options)
}

/// [minute, keys…, aggregates…] with every column but the minute nullable: a state may read as NULL.
pub fn inner_schema(fields: impl Iterator<Item = Arc<Field>>) -> SchemaRef {
    let fields: Vec<Field> = fields.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}
