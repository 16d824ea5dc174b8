//! Each format, read back by Arrow's own readers.

use std::io::Cursor;

use arrow::{array::AsArray, compute::concat_batches};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tidewatch_model::Minute;

use super::*;
use crate::{Profile, Traffic};

fn exported(format: ExportFormat, batches: &[RecordBatch]) -> Vec<u8> {
    let mut exporter = Exporter::new(format, &batches[0].schema(), Vec::new()).unwrap();
    for batch in batches {
        exporter.write(batch).unwrap();
    }
    exporter.finish().unwrap()
}

fn read(format: ExportFormat, bytes: &[u8], schema: &SchemaRef) -> RecordBatch {
    let batches: Vec<RecordBatch> = match format {
        ExportFormat::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).unwrap();
            builder.build().unwrap().map(Result::unwrap).collect()
        }
        ExportFormat::Csv => {
            let builder = csv::ReaderBuilder::new(schema.clone()).with_header(true);
            builder.build(Cursor::new(bytes)).unwrap().map(Result::unwrap).collect()
        }
        ExportFormat::JsonLines => {
            json::ReaderBuilder::new(schema.clone()).build(Cursor::new(bytes)).unwrap().map(Result::unwrap).collect()
        }
    };
    concat_batches(schema, &batches).unwrap()
}

#[test]
fn what_is_written_can_be_read_back() {
    let minute = Minute::from_index(29_189_280);
    let mut traffic = Traffic::new(Profile::with_rate(600.0).unwrap(), 1).unwrap();
    let batches: Vec<RecordBatch> =
        (0..3).map(|m| traffic.arrivals(minute.plus(m).start(), minute.plus(m).end()).unwrap()).collect();
    let whole = concat_batches(traffic.schema(), &batches).unwrap();
    for format in ExportFormat::ALL {
        let wanted = if format == ExportFormat::Csv { without_maps(&whole).unwrap() } else { whole.clone() };
        let bytes = exported(format, &batches);
        assert_eq!(read(format, &bytes, &wanted.schema()), wanted, "{format}");
    }
}

#[test]
fn csv_is_plain_text_with_its_zeros() {
    let minute = Minute::from_index(29_189_280);
    let mut traffic = Traffic::new(Profile::default(), 2).unwrap();
    let batch = traffic.arrivals(minute.start(), minute.end()).unwrap();
    let text = String::from_utf8(exported(ExportFormat::Csv, std::slice::from_ref(&batch))).unwrap();
    let mut lines = text.lines();
    let header = "event_id,occurred_at,status,kind,channel,region,account_id,counterparty_id,amount_minor,currency,\
                  latency_us,auth_code,ip,count,attributes";
    assert_eq!(lines.next(), Some(header));
    let codes = batch.column_by_name("auth_code").unwrap().as_string::<i32>();
    for (line, code) in lines.zip(codes) {
        let fields: Vec<&str> = line.splitn(15, ',').collect();
        assert!(fields[1].starts_with("2025-") && fields[1].ends_with('Z'), "{line}");
        assert_eq!(fields[11], code.unwrap_or_default(), "{line}");
        assert!(fields[14].is_empty() || fields[14].starts_with("\"{\"\""), "{line}");
    }
    assert!(codes.iter().any(|code| code == Some("05")));
}

#[test]
fn formats_have_names() {
    for format in ExportFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert_eq!("NDJSON".parse(), Ok(ExportFormat::JsonLines));
    assert!("xlsx".parse::<ExportFormat>().is_err());
}
