//! Histograms as a column of partial state: the reader's form, but with the sum's compensation beside the sum.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, PrimitiveArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::{ArrowPrimitiveType, DataType, Field, Fields, Int32Type, Int64Type},
};

use super::{
    FloatSum, HistogramState,
    column::{
        Damage, MISSING, Unwritable, by_row, child, float_sum_fields, not_negative, numbers, other_type,
        read_float_sums, structs, within_offsets, write_float_sums,
    },
    histogram::{Buckets, bucket_of, item_field},
};

pub fn column_type() -> DataType {
    DataType::Struct(fields())
}

fn fields() -> Fields {
    let list = |name: &str, item: DataType| Field::new(name, DataType::List(item_field(item)), false);
    Fields::from(vec![
        Field::new("count", DataType::Int64, false),
        Field::new("sum", DataType::Struct(float_sum_fields()), true),
        Field::new("zero", DataType::Int64, false),
        list("index", DataType::Int32),
        list("bucket", DataType::Int64),
        list("negative_index", DataType::Int32),
        list("negative_bucket", DataType::Int64),
    ])
}

pub fn write(states: &[&HistogramState]) -> Result<StructArray, Unwritable> {
    let sides = |side: fn(&HistogramState) -> &Buckets| -> Result<[ArrayRef; 2], Unwritable> {
        within_offsets(states.iter().map(|state| side(state).len()).sum())?;
        let offsets = OffsetBuffer::from_lengths(states.iter().map(|state| side(state).len()));
        let buckets = || states.iter().flat_map(|state| side(state));
        let indexes: Int32Array = buckets().map(|(index, _)| *index).collect();
        let counts: Int64Array = buckets().map(|(_, count)| *count).collect();
        let list = |item: DataType, values: ArrayRef| -> ArrayRef {
            Arc::new(ListArray::new(item_field(item), offsets.clone(), values, None))
        };
        Ok([list(DataType::Int32, Arc::new(indexes)), list(DataType::Int64, Arc::new(counts))])
    };
    let [index, bucket] = sides(|state| &state.positive)?;
    let [negative_index, negative_bucket] = sides(|state| &state.negative)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(states.iter().map(|state| state.count))),
        Arc::new(write_float_sums(states.iter().map(|state| &state.sum))),
        Arc::new(Int64Array::from_iter_values(states.iter().map(|state| state.zero))),
        index,
        bucket,
        negative_index,
        negative_bucket,
    ];
    Ok(StructArray::new(fields(), columns, None))
}

pub fn read(column: &ArrayRef) -> Result<Vec<HistogramState>, Damage> {
    let column = structs(column)?;
    let counts = numbers::<Int64Type>(child(column, 0)?)?;
    let sums: Vec<FloatSum> = read_float_sums(child(column, 1)?)?;
    let zeros = numbers::<Int64Type>(child(column, 2)?)?;
    let (positive, negative) = (Side::of(column, 3)?, Side::of(column, 5)?);
    by_row(column, |row| {
        if column.is_null(row) {
            return Err(MISSING);
        }
        let state = HistogramState {
            count: not_negative(counts, row)?,
            sum: sums.get(row).copied().ok_or(MISSING)?,
            zero: not_negative(zeros, row)?,
            positive: positive.buckets(row)?,
            negative: negative.buckets(row)?,
        };
        // Counts stop at the greatest number, so beyond it that is what the total is.
        let parts = [&state.positive, &state.negative].into_iter().flatten().map(|(_, count)| *count);
        if state.count != parts.fold(state.zero, i64::saturating_add) {
            return Err("a histogram's buckets do not add up to its count");
        }
        Ok(state)
    })
}

/// The buckets of positive or of negative values, in two lists a row.
struct Side<'a> {
    indexes: List<'a, Int32Type>,
    counts: List<'a, Int64Type>,
}

impl<'a> Side<'a> {
    fn of(column: &'a StructArray, at: usize) -> Result<Self, Damage> {
        Ok(Self { indexes: List::of(child(column, at)?)?, counts: List::of(child(column, at + 1)?)? })
    }

    fn buckets(&self, row: usize) -> Result<Buckets, &'static str> {
        let (indexes, counts) = (self.indexes.values(row)?, self.counts.values(row)?);
        if indexes.len() != counts.len() {
            return Err("a histogram has another number of buckets than of their indexes");
        }
        if !indexes.windows(2).all(|pair| matches!(pair, [before, after] if before < after)) {
            return Err("a histogram's buckets are not in order");
        }
        let possible = bucket_of(f64::from_bits(1))..=bucket_of(f64::MAX);
        if !indexes.iter().all(|index| possible.contains(index)) {
            return Err("a histogram has a bucket that no value falls into");
        }
        if counts.iter().any(|count| *count < 1) {
            return Err("a histogram has a bucket that counts nothing");
        }
        Ok(indexes.iter().copied().zip(counts.iter().copied()).collect())
    }
}

struct List<'a, P: ArrowPrimitiveType> {
    lists: &'a ListArray,
    items: &'a PrimitiveArray<P>,
}

impl<'a, P: ArrowPrimitiveType> List<'a, P> {
    fn of(column: &'a ArrayRef) -> Result<Self, Damage> {
        let lists = column.as_list_opt::<i32>().ok_or_else(other_type)?;
        Ok(Self { lists, items: numbers::<P>(lists.values())? })
    }

    fn values(&self, row: usize) -> Result<&'a [P::Native], &'static str> {
        let offsets = self.lists.value_offsets();
        let (Some(from), Some(to)) = (offsets.get(row), offsets.get(row + 1)) else { return Err(MISSING) };
        let range = usize::try_from(*from).map_err(|_| MISSING)?..usize::try_from(*to).map_err(|_| MISSING)?;
        let missing = self.lists.is_null(row)
            || (self.items.null_count() > 0
                && range.clone().any(|at| at >= self.items.len() || self.items.is_null(at)));
        if missing { Err(MISSING) } else { self.items.values().get(range).ok_or(MISSING) }
    }
}
