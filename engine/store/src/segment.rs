//! A segment: rows as one Parquet file that any Parquet reader can read, and what the manifest says of it. Owns how columns
//! are laid out; the caller owns the order of the rows. Reading is in `verified.rs`. It opens no file.

use std::collections::HashSet;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Schema, SchemaRef},
};
use parquet::{
    arrow::{ArrowSchemaConverter, ArrowWriter},
    basic::{Compression, Encoding, Type, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        properties::{EnabledStatistics, WriterProperties},
    },
};
use serde::{Deserialize, Serialize};
use tidewatch_model::{Lsn, Minute, limits};

use crate::{
    error::{Affected, FolderError},
    manifest::FileEntry,
};

/// What every Parquet file begins with.
pub(crate) const PARQUET_MAGIC: [u8; 4] = *b"PAR1";

/// Zstandard's levels for text and for numbers, by how often the rows were merged. What was just written is soon merged, and
/// what was merged once may be merged again: under full load the time of a checkpoint counts more than its bytes.
const ZSTD_FRESH: (i32, i32) = (1, 1);
const ZSTD_MERGED: (i32, i32) = (3, 3);

/// What was merged twice is written seldom and stays. Numbers are few bytes by then: 1.7 % smaller than fresh ones, at some
/// twenty million numbers a second.
const ZSTD_SETTLED: (i32, i32) = (9, 19);

/// Bytes of a data page of numbers. Large pages let the compressor learn: they take 2 % off small counts.
const NUMBER_PAGE_BYTES: usize = 8 << 20;

/// A stretch of a segment's file that is read and checked as one: a column chunk, or everything behind the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u32)", into = "(u64, u64, u32)")]
pub struct Chunk {
    pub offset: u64,
    pub bytes: u64,
    pub crc32c: u32,
}

impl From<(u64, u64, u32)> for Chunk {
    fn from((offset, bytes, crc32c): (u64, u64, u32)) -> Self {
        Self { offset, bytes, crc32c }
    }
}

impl From<Chunk> for (u64, u64, u32) {
    fn from(chunk: Chunk) -> Self {
        (chunk.offset, chunk.bytes, chunk.crc32c)
    }
}

impl Chunk {
    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.bytes)
    }
}

/// What a segment's maker says of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The oldest and the newest.
    pub minutes: (Minute, Minute),
    /// The first and the last record of the log that the rows come from.
    pub lsns: (Lsn, Lsn),
    /// How often the rows were merged.
    pub level: u8,
}

/// A segment as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub file: FileEntry,
    pub rows: u64,
    pub minutes: (Minute, Minute),
    pub lsns: (Lsn, Lsn),
    pub level: u8,
    /// The column chunks as they lie in the file, row group after row group, then the footer. They follow each other
    /// without gaps from behind the magic bytes to the end.
    pub chunks: Vec<Chunk>,
}

impl Segment {
    pub fn contents(&self) -> Contents {
        Contents { minutes: self.minutes, lsns: self.lsns, level: self.level }
    }

    pub(crate) fn affected(&self) -> Affected {
        Affected { rows: self.rows, minutes: self.minutes }
    }

    /// Puts segments of one table in their order: that of the log, and of the minutes where records are shared.
    pub fn sort(segments: &mut [Self]) {
        segments.sort_by_key(|segment| (segment.lsns.0, segment.minutes.0));
    }

    /// Whether there can be a row in both: they have minutes in common, and records.
    pub(crate) fn meets(&self, other: &Contents) -> bool {
        let minutes = self.minutes.0 <= other.minutes.1 && other.minutes.0 <= self.minutes.1;
        minutes && self.lsns.0 <= other.lsns.1 && other.lsns.0 <= self.lsns.1
    }

    /// What must hold of every segment, whatever its rows are.
    pub(crate) fn check(&self) -> Result<(), String> {
        let name = &self.file.name;
        check_contents(&self.contents()).map_err(|what| format!("`{name}`: {what}"))?;
        check_size(self.rows, self.file.bytes).map_err(|what| format!("`{name}`: {what}"))?;
        let begin = PARQUET_MAGIC.len() as u64;
        let end = self.chunks.iter().try_fold(begin, |at, chunk| chunk.end().filter(|_| chunk.offset == at));
        if end != Some(self.file.bytes) || self.chunks.is_empty() {
            return Err(format!("the chunks of `{name}` do not make up its {} bytes", self.file.bytes));
        }
        Ok(())
    }
}

fn check_contents(contents: &Contents) -> Result<(), String> {
    let Contents { minutes, lsns, .. } = contents;
    if minutes.0 > minutes.1 || lsns.0 > lsns.1 {
        return Err("its minutes or records end before they begin".to_owned());
    }
    Ok(())
}

fn check_size(rows: u64, bytes: u64) -> Result<(), String> {
    if rows == 0 {
        return Err("a segment has rows".to_owned());
    }
    if rows > limits::SEGMENT_ROWS_MAX || bytes > limits::SEGMENT_BYTES_MAX {
        return Err(format!(
            "{rows} rows in {bytes} bytes are more than a segment may have ({} rows, {} bytes)",
            limits::SEGMENT_ROWS_MAX,
            limits::SEGMENT_BYTES_MAX
        ));
    }
    Ok(())
}

/// A segment that is not on disk yet. Making it takes the time, and needs no folder: any thread can do it.
#[derive(Debug)]
pub struct EncodedSegment {
    bytes: Vec<u8>,
    rows: u64,
    chunks: Vec<Chunk>,
    contents: Contents,
}

impl EncodedSegment {
    /// Writes `batches`, which are of one schema and in the order that the rows shall have.
    pub fn new(batches: &[RecordBatch], contents: Contents) -> Result<Self, FolderError> {
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        check_contents(&contents).and_then(|()| check_size(rows, 0)).map_err(FolderError::Unsound)?;
        let Some(schema) = batches.first().map(RecordBatch::schema) else {
            return Err(FolderError::Unsound("a segment has rows".to_owned()));
        };
        let (bytes, metadata) = write(&schema, batches, contents.level)
            .map_err(|error| FolderError::Unsound(format!("these rows cannot be written as Parquet: {error}")))?;
        check_size(rows, bytes.len() as u64).map_err(FolderError::Unsound)?;
        let chunks = chunks_of(&metadata, &bytes).map_err(FolderError::Unsound)?;
        Ok(Self { bytes, rows, chunks, contents })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The segment once its bytes are in the file `name`.
    pub(crate) fn named(&self, name: String) -> Segment {
        let file = FileEntry { name, bytes: self.bytes.len() as u64, crc32c: crc32c::crc32c(&self.bytes) };
        let Contents { minutes, lsns, level } = self.contents;
        Segment { file, rows: self.rows, minutes, lsns, level, chunks: self.chunks.clone() }
    }
}

fn write(schema: &SchemaRef, batches: &[RecordBatch], level: u8) -> Result<(Vec<u8>, ParquetMetaData), ParquetError> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, SchemaRef::clone(schema), Some(layout(schema, batches, level)?))?;
    for batch in batches {
        writer.write(batch)?;
    }
    let metadata = writer.close()?;
    Ok((bytes, metadata))
}

/// How each column lies in the file. Numbers that count and times that step differ little from row to row, where rows are
/// sorted: differences in as few bits as they need. Text repeats; where it does not, its lengths and then its bytes.
fn layout(schema: &Schema, batches: &[RecordBatch], level: u8) -> Result<WriterProperties, ParquetError> {
    let (zstd, of_numbers) = match level {
        0 => ZSTD_FRESH,
        1 => ZSTD_MERGED,
        _ => ZSTD_SETTLED,
    };
    let (zstd, of_numbers) = (ZstdLevel::try_new(zstd)?, ZstdLevel::try_new(of_numbers)?);
    let mut layout = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(limits::SEGMENT_ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(limits::SEGMENT_ROW_GROUP_ROWS)
        // Of pages this large an index says nothing that the footer does not.
        .set_offset_index_disabled(true);
    for column in ArrowSchemaConverter::new().convert(schema)?.columns() {
        let path = column.path().clone();
        layout = match column.physical_type() {
            Type::INT32 | Type::INT64 => layout
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_compression(path.clone(), Compression::ZSTD(of_numbers))
                .set_column_data_page_size_limit(path.clone(), NUMBER_PAGE_BYTES)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Type::FLOAT | Type::DOUBLE => layout
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
            Type::BYTE_ARRAY => {
                let repeats = path.parts().first().is_none_or(|name| repeats(name, batches));
                layout
                    .set_column_dictionary_enabled(path.clone(), repeats)
                    .set_column_encoding(path, Encoding::DELTA_LENGTH_BYTE_ARRAY)
            }
            Type::BOOLEAN | Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY => layout,
        };
    }
    Ok(layout.build())
}

/// Whether values of a column come again, judged by its first rows. A dictionary of ids would be filled in vain, and take
/// most of the time of writing.
fn repeats(column: &str, batches: &[RecordBatch]) -> bool {
    const LOOKED_AT: usize = 8_192;
    let texts = batches.iter().filter_map(|batch| batch.column_by_name(column)?.as_string_opt::<i32>());
    let values: Vec<&str> = texts.flat_map(|texts| texts.iter().flatten()).take(LOOKED_AT).collect();
    let distinct: HashSet<&str> = values.iter().copied().collect();
    distinct.len() * 4 <= values.len() * 3
}

/// Where the footer says that the column chunks lie, row group after row group: offset and length.
pub(crate) fn places(metadata: &ParquetMetaData) -> Result<Vec<(u64, u64)>, String> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let place = |column: &ColumnChunkMetaData| {
        let offset = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        Some((u64::try_from(offset).ok()?, u64::try_from(column.compressed_size()).ok()?))
    };
    columns.map(place).collect::<Option<_>>().ok_or_else(|| "a column chunk lies before the file's begin".to_owned())
}

/// The checksum of every column chunk, and then of the footer.
fn chunks_of(metadata: &ParquetMetaData, bytes: &[u8]) -> Result<Vec<Chunk>, String> {
    let mut chunks = Vec::new();
    let mut rest = bytes.get(PARQUET_MAGIC.len()..).unwrap_or_default();
    let mut chunk = |offset: u64, length: u64| {
        let here = (bytes.len() - rest.len()) as u64;
        let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let (chunk, behind) = split
            .filter(|_| here == offset)
            .ok_or_else(|| format!("a column chunk lies at {offset}, and should at {here}"))?;
        rest = behind;
        chunks.push(Chunk { offset, bytes: length, crc32c: crc32c::crc32c(chunk) });
        Ok::<u64, String>(offset + length)
    };
    let mut end = PARQUET_MAGIC.len() as u64;
    for (offset, length) in places(metadata)? {
        end = chunk(offset, length)?;
    }
    chunk(end, (bytes.len() as u64).saturating_sub(end))?;
    Ok(chunks)
}
