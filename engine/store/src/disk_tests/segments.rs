//! Segments: every shape of column comes back as it was, any Parquet reader reads them, and small ones are small.

use arrow::{
    array::{
        ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeBinaryBuilder, Float64Array, Int32Array,
        ListBuilder, MapBuilder, MapFieldNames, StringBuilder, StructArray, UInt64Array,
    },
    compute::concat_batches,
    datatypes::{Fields, Int32Type},
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tidewatch_model::limits;

use super::*;
use crate::EncodedSegment;

/// A folder with one segment of these rows.
fn stored(batches: &[RecordBatch]) -> (MemFs, Folder, Segment) {
    let fs = MemFs::new();
    let (mut folder, _) = open(&fs).unwrap();
    let segment = folder.write_segment("all", batches, contents(1, 9)).unwrap();
    let manifest = Manifest { applied: Lsn(9), ..Manifest::default() };
    let tables = [("all".to_owned(), vec![segment.clone()])].into();
    folder.commit(Manifest { tables, ..manifest }).unwrap();
    (fs, folder, segment)
}

fn check_round_trip(batches: &[RecordBatch]) {
    let (_, folder, segment) = stored(batches);
    let read = folder.read_segment(&segment).unwrap();
    let schema = batches[0].schema();
    assert_eq!(read[0].schema(), schema);
    assert_eq!(concat_batches(&schema, &read).unwrap(), concat_batches(&schema, batches).unwrap());
    assert_eq!(segment.rows, batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
    segment.check().unwrap();
}

fn maps(count: usize) -> ArrayRef {
    let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..count {
        for entry in 0..row % 4 {
            maps.keys().append_value(format!("key {entry}"));
            maps.values().append_option((row % 3 > 0).then_some("größer"));
        }
        maps.append(row % 5 > 0).unwrap();
    }
    Arc::new(maps.finish())
}

fn lists(count: usize) -> ArrayRef {
    let mut lists = ListBuilder::new(arrow::array::Int64Builder::new());
    for row in 0..count {
        for entry in 0..row % 3 {
            lists.values().append_option((entry > 0).then_some(row as i64));
        }
        lists.append(row % 4 > 0);
    }
    Arc::new(lists.finish())
}

/// Every type that views and streams have, and some more, with nulls in each.
fn every_type(count: usize) -> RecordBatch {
    let some = |row: usize| !row.is_multiple_of(7);
    let times = (0..count).map(|row| some(row).then_some(1_752_321_600_000_000 + row as i64 * 60_000_000));
    let times = TimestampMicrosecondArray::from_iter(times);
    let mut hashes = FixedSizeBinaryBuilder::new(16);
    for row in 0..count {
        if some(row) { hashes.append_value([row as u8; 16]).unwrap() } else { hashes.append_null() }
    }
    let parts = vec![
        Arc::new(Field::new("count", DataType::Int64, true)),
        Arc::new(Field::new("buckets", lists(0).data_type().clone(), true)),
    ];
    let nested: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..count as i64)), lists(count)];
    let sums = (0..count).map(|row| some(row).then_some(i128::from(i64::MAX) * row as i128));
    let statuses: DictionaryArray<Int32Type> = (0..count).map(|row| some(row).then_some("approved")).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("minute", Arc::new(times.clone().with_timezone("UTC"))),
        ("there", Arc::new(times.clone().with_timezone("Europe/Berlin"))),
        ("nowhere", Arc::new(times)),
        ("text", Arc::new((0..count).map(|row| some(row).then(|| format!("event {row}"))).collect::<StringArray>())),
        ("status", Arc::new(statuses)),
        ("count", Arc::new((0..count).map(|row| some(row).then_some(i64::MIN + row as i64)).collect::<Int64Array>())),
        ("small", Arc::new((0..count).map(|row| some(row).then_some(row as i32)).collect::<Int32Array>())),
        ("hash", Arc::new((0..count).map(|row| some(row).then_some(u64::MAX - row as u64)).collect::<UInt64Array>())),
        ("risk", Arc::new((0..count).map(|row| some(row).then_some(-0.1 * row as f64)).collect::<Float64Array>())),
        ("flagged", Arc::new((0..count).map(|row| some(row).then_some(row % 2 > 0)).collect::<BooleanArray>())),
        ("sum", Arc::new(sums.collect::<Decimal128Array>().with_precision_and_scale(38, 0).unwrap())),
        ("id", Arc::new(hashes.finish())),
        ("attributes", maps(count)),
        ("buckets", lists(count)),
        ("state", Arc::new(StructArray::new(Fields::from(parts), nested, None))),
    ];
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let metadata = [("view".to_owned(), "payments".to_owned()), ("fingerprint".to_owned(), "7".to_owned())].into();
    let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata);
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

#[test]
fn every_type_comes_back_as_it_was() {
    let batch = every_type(1_000);
    check_round_trip(std::slice::from_ref(&batch));
    check_round_trip(&[batch.slice(0, 1)]);
    check_round_trip(&[batch.slice(3, 500), batch.slice(999, 1), batch.slice(10, 0), batch.slice(70, 30)]);
    check_round_trip(&[rows(&[i64::MIN, i64::MAX, 0, -1])]);
}

#[test]
fn columns_are_read_alone() {
    let batch = every_type(300);
    let (_, folder, segment) = stored(std::slice::from_ref(&batch));
    let read = folder.files().read_columns(&segment, &["state", "minute", "no such column"]).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].num_columns(), 2);
    for name in ["minute", "state"] {
        assert_eq!(read[0].column_by_name(name), batch.column_by_name(name), "{name}");
    }
    // Even of no columns at all the rows are counted.
    assert_eq!(folder.files().read_columns(&segment, &[]).unwrap()[0].num_rows(), 300);
}

#[test]
fn several_row_groups_and_pages_are_read_whole() {
    let count = limits::SEGMENT_ROW_GROUP_ROWS as i64 * 2 + 10;
    let numbers_in: Vec<i64> = (0..count).map(|number| number * number % 1_009).collect();
    let (fs, folder, segment) = stored(&[rows(&numbers_in)]);
    assert_eq!(segment.chunks.len(), 3 * 3 + 1);
    assert_eq!(numbers(&folder.read_segment(&segment).unwrap()), numbers_in);
    let mut flipped = fs.bytes(&dir().join(&segment.file.name)).unwrap();
    flipped[segment.chunks[7].offset as usize + 9] ^= 1;
    fs.put(&dir().join(&segment.file.name), flipped);
    let error = folder.read_segment(&segment).unwrap_err().to_string();
    assert!(error.contains("column `minute` of row group 2"), "{error}");
}

#[test]
fn any_parquet_reader_reads_a_segment() {
    let batch = every_type(5_000);
    let (fs, _, segment) = stored(std::slice::from_ref(&batch));
    let bytes = Bytes::from(fs.bytes(&dir().join(&segment.file.name)).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let group = reader.metadata().row_group(0).clone();
    assert_eq!(group.num_rows(), 5_000);
    let count = group.columns().iter().find(|column| column.column_path().string() == "count").unwrap();
    let statistics = count.statistics().unwrap();
    assert!(statistics.min_bytes_opt().is_some() && statistics.max_bytes_opt().is_some());
    assert_eq!(statistics.null_count_opt(), Some(5_000_u64.div_ceil(7)));
    let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(concat_batches(&batch.schema(), &read).unwrap(), batch);
}

#[test]
fn a_segment_has_bounds_and_one_schema() {
    let batch = rows(&(0..1 << 16).collect::<Vec<_>>());
    let too_many = vec![batch.clone(); (limits::SEGMENT_ROWS_MAX >> 16) as usize + 1];
    let error = EncodedSegment::new(&too_many, contents(1, 1)).unwrap_err();
    assert!(error.to_string().contains("more than a segment may have"), "{error}");
    let error = EncodedSegment::new(&[batch, every_type(3)], contents(1, 1)).unwrap_err();
    assert!(matches!(error, FolderError::Unsound(_)), "{error}");
}

#[test]
fn a_counter_a_minute_takes_few_bytes() {
    // 60 keys of a day, whose counts wander: sorted by key, then minute.
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as i64
    };
    let numbers_in: Vec<i64> = (0..60 * 1_440).map(|_| 100 + (0..8).map(|_| next() % 9).sum::<i64>()).collect();
    let (_, _, segment) = stored(&[rows(&numbers_in)]);
    // Their entropy is about 5 bits, of which differences take half a bit more.
    let of_numbers = segment.chunks[2].bytes as f64 / numbers_in.len() as f64;
    assert!(of_numbers < 0.90, "{of_numbers} bytes a number");
}
