//! Tables: rows on disk and in memory as one, a row group at a time, and no more of them than a stretch of time needs.

use tidewatch_model::limits;

use super::*;
use crate::{Cold, StoreError, TableShape, TableSnapshot};

const GROUP: i64 = limits::SEGMENT_ROW_GROUP_ROWS as i64;

fn shape(schema: SchemaRef) -> Arc<TableShape> {
    Arc::new(TableShape { name: "t".to_owned(), schema, time: Some(1) })
}

/// A segment of three row groups, in each minute one row.
fn three_groups() -> (MemFs, Folder, Segment) {
    let fs = MemFs::new();
    let (mut folder, _) = open(&fs).unwrap();
    let numbers: Vec<i64> = (0..2 * GROUP + 10).collect();
    let last = numbers.len() as u64 - 1;
    let contents = Contents { lsns: (Lsn(1), Lsn(1)), ..contents(0, last) };
    let segment = folder.write_segment("t", &[rows(&numbers)], contents).unwrap();
    let tables = [("t".to_owned(), vec![segment.clone()])].into();
    folder.commit(Manifest { applied: Lsn(1), tables, ..Manifest::default() }).unwrap();
    (fs, folder, segment)
}

fn cold(folder: &Folder) -> Cold {
    Cold::new(folder.files().clone(), folder.manifest(), 0)
}

/// First, last and count of the numbers that a scan gives.
fn scanned(table: &TableSnapshot, minutes: (u64, u64)) -> Option<(i64, i64, usize)> {
    let scan = table.scan(&[2], (minute(minutes.0), minute(minutes.1))).unwrap();
    let batches: Vec<RecordBatch> = scan.map(Result::unwrap).collect();
    let found = numbers(&batches);
    Some((*found.first()?, *found.last()?, found.len()))
}

#[test]
fn only_row_groups_of_the_stretch_are_read_and_memory_comes_last() {
    let (fs, folder, segment) = three_groups();
    let table = TableSnapshot::new(shape(schema()), Some(cold(&folder)), vec![rows(&[-5])]);
    let (first, second, count) = (GROUP as u64, 2 * GROUP as u64, GROUP as usize);
    assert_eq!(scanned(&table, (0, second + 9)), Some((0, -5, 2 * count + 11)));
    assert_eq!(scanned(&table, (first, first + 1)), Some((GROUP, -5, count + 1)));
    assert_eq!(scanned(&table, (second + 10, second + 20)), Some((-5, -5, 1)));
    assert_eq!(table.scan_all().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2 * count + 11);
    // Rows are counted of no column at all.
    let scan = table.scan(&[], (minute(0), minute(first - 1))).unwrap();
    assert_eq!(scan.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), count + 1);
    // What is damaged in the second is met only by who reads it, and takes what follows in its segment.
    let path = dir().join(&segment.file.name);
    let mut bytes = fs.bytes(&path).unwrap();
    bytes[segment.chunks[3 + 2].offset as usize] ^= 1;
    fs.put(&path, bytes);
    assert_eq!(scanned(&table, (0, 7)), Some((0, -5, count + 1)));
    assert_eq!(scanned(&table, (second, second + 7)), Some((2 * GROUP, -5, 11)));
    assert_eq!(scanned(&table, (0, second + 9)), Some((0, -5, count + 1)));
}

#[test]
fn a_column_that_came_later_is_null_in_what_was_saved_before_it() {
    let (_, folder, _) = three_groups();
    let with = |name: &str, kind: DataType| {
        let fields: Vec<_> =
            schema().fields().iter().cloned().chain([Arc::new(Field::new(name, kind, true))]).collect();
        TableSnapshot::new(shape(Arc::new(Schema::new(fields))), Some(cold(&folder)), Vec::new())
    };
    let mut scan = with("later", DataType::Utf8).scan(&[3, 0], (minute(0), minute(1))).unwrap();
    let batch = scan.next().unwrap().unwrap();
    assert_eq!((batch.column(0).null_count(), batch.num_columns()), (batch.num_rows(), 2));
    // One that became another is not misread.
    let fields = vec![Field::new("status", DataType::Int64, true), schema().field(1).clone()];
    let other = TableSnapshot::new(shape(Arc::new(Schema::new(fields))), Some(cold(&folder)), Vec::new());
    let error = other.scan_all().unwrap().next().unwrap().unwrap_err();
    assert!(matches!(&error, StoreError::Table { table, .. } if table == "t"), "{error}");
    assert!(error.to_string().contains("undo the change"), "{error}");
}
