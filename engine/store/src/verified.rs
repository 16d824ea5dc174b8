//! Reading a segment: nothing is decoded whose checksum was not found to be the one in the manifest. Reads only the
//! columns that are asked for. It writes nothing.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    datatypes::{Schema, TimestampMicrosecondType},
    error::ArrowError,
};
use bytes::{Buf, Bytes, buf};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter,
        },
    },
    errors::ParquetError,
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
        reader::{ChunkReader, Length},
        statistics::Statistics,
    },
};
use tidewatch_log::ReadFile;
use tidewatch_model::{Minute, limits};

use crate::{
    error::{Damage, FolderError},
    files::Files,
    segment::{Chunk, PARQUET_MAGIC, Segment, places},
};

/// The stretches of a segment's file that were read and found to be what they were, by where they begin.
#[derive(Clone, Debug, Default)]
struct Verified {
    length: u64,
    chunks: BTreeMap<u64, Bytes>,
}

impl Length for Verified {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Verified {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.at(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.at(start)?;
        if length > bytes.len() {
            return Err(unread(start));
        }
        Ok(bytes.slice(..length))
    }
}

impl Verified {
    /// What was read from `start` on.
    fn at(&self, start: u64) -> Result<Bytes, ParquetError> {
        let (offset, bytes) = self.chunks.range(..=start).next_back().ok_or_else(|| unread(start))?;
        let skip = usize::try_from(start - offset).ok().filter(|skip| *skip <= bytes.len());
        Ok(bytes.slice(skip.ok_or_else(|| unread(start))?..))
    }
}

fn unread(at: u64) -> ParquetError {
    ParquetError::General(format!("byte {at} is in no column chunk that was asked for"))
}

/// One segment that is being read.
struct Reading<'a> {
    path: &'a Path,
    file: &'a dyn ReadFile,
    segment: &'a Segment,
}

/// What is wanted of a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection<'a> {
    /// Only the columns with these names.
    pub columns: Option<&'a [&'a str]>,
    /// Only rows of these minutes, the last among them: by the column `minute`, which is then read, too.
    pub minutes: Option<(Minute, Minute)>,
}

/// The segment's rows, or what is wanted of them.
pub(crate) fn read(
    path: &Path,
    file: &dyn ReadFile,
    segment: &Segment,
    wanted: Selection<'_>,
) -> Result<Vec<RecordBatch>, FolderError> {
    let reading = Reading { path, file, segment };
    let mut verified = Verified { length: segment.file.bytes, chunks: BTreeMap::new() };
    let metadata = reading.footer(&mut verified)?;
    let schema = metadata.file_metadata().schema_descr();
    let mask = match wanted.columns {
        Some(names) => ProjectionMask::columns(schema, names.iter().copied()),
        None => ProjectionMask::all(),
    };
    // A segment that lies between the minutes as a whole needs no filter.
    let minutes = wanted.minutes.filter(|(from, to)| segment.minutes.0 < *from || *to < segment.minutes.1);
    let of_minute = minutes.map(|minutes| (ProjectionMask::columns(schema, [MINUTE]), minutes));
    let leaves = schema.num_columns();
    for (at, chunk) in reading.column_chunks().iter().enumerate() {
        // A footer without columns was refused, because the manifest's chunks would not be its chunks.
        let (group, leaf) = (at / leaves, at % leaves);
        let filters = of_minute.as_ref().is_some_and(|(minute, _)| minute.leaf_included(leaf));
        if filters || mask.leaf_included(leaf) {
            let name = || format!("column `{}` of row group {group}", schema.column(leaf).path().string());
            reading.verify(&mut verified, chunk, name)?;
        }
    }
    let filtered = of_minute.is_some();
    let wanted = Wanted { mask, of_minute, group: None };
    let batches =
        caught(|| decode(verified, Arc::new(metadata), wanted)).map_err(|error| reading.not_parquet(&error))?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    if !filtered && rows != segment.rows {
        return Err(reading.damaged(format!("it has {rows} rows where the manifest says {}", segment.rows)));
    }
    Ok(batches)
}

/// A segment that is read row group by row group.
#[derive(Debug)]
pub(crate) struct Groups {
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    segment: Segment,
    /// The footer.
    verified: Verified,
    metadata: Arc<ParquetMetaData>,
    next: usize,
}

impl Groups {
    pub fn open(files: &Files, segment: Segment) -> Result<Self, FolderError> {
        let file = files.open(&segment.file, Some(segment.affected()))?;
        let path = files.path(&segment.file.name);
        let mut verified = Verified { length: segment.file.bytes, chunks: BTreeMap::new() };
        let metadata = Reading { path: &path, file: &*file, segment: &segment }.footer(&mut verified)?;
        Ok(Self { path, file, segment, verified, metadata: Arc::new(metadata), next: 0 })
    }

    /// The next row group in which the column `time` can be in one of these minutes, of it the columns with these names;
    /// `None` after the last.
    pub fn next(
        &mut self,
        columns: &[&str],
        time: Option<&str>,
        minutes: (Minute, Minute),
    ) -> Result<Option<Vec<RecordBatch>>, FolderError> {
        let metadata = Arc::clone(&self.metadata);
        let schema = metadata.file_metadata().schema_descr();
        let mask = ProjectionMask::columns(schema, columns.iter().copied());
        let reading = Reading { path: &self.path, file: &*self.file, segment: &self.segment };
        let leaves = schema.num_columns();
        for (at, group) in metadata.row_groups().iter().enumerate().skip(self.next) {
            self.next = at + 1;
            if time.is_some_and(|time| !may_have(group, time, minutes)) {
                continue;
            }
            let mut verified = self.verified.clone();
            let chunks = reading.column_chunks().iter().skip(at * leaves).take(leaves);
            for (leaf, chunk) in chunks.enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf)) {
                let name = || format!("column `{}` of row group {at}", schema.column(leaf).path().string());
                reading.verify(&mut verified, chunk, name)?;
            }
            let wanted = Wanted { mask, of_minute: None, group: Some(at) };
            let batches = caught(|| decode(verified, Arc::clone(&metadata), wanted))
                .map_err(|error| reading.not_parquet(&error))?;
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if i64::try_from(rows) != Ok(group.num_rows()) {
                let said = group.num_rows();
                return Err(reading.damaged(format!("row group {at} has {rows} rows where the footer says {said}")));
            }
            return Ok(Some(batches));
        }
        Ok(None)
    }
}

/// False where the statistics of a row group say that no row's time is in these minutes.
fn may_have(group: &RowGroupMetaData, time: &str, (first, last): (Minute, Minute)) -> bool {
    let column = group.columns().iter().find(|column| column.column_path().string() == time);
    let Some(Statistics::Int64(of)) = column.and_then(|column| column.statistics()) else { return true };
    match (of.min_opt(), of.max_opt()) {
        (Some(least), Some(most)) => *least < last.end().micros() && first.start().micros() <= *most,
        _ => true,
    }
}

/// The Parquet reader panics on some bytes that no writer makes, though a checksum may vouch for them: here that is damage
/// as any other. What it was working on is dropped.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the Parquet reader broke off".to_owned()))
}

/// The column that says which minute a row belongs to.
const MINUTE: &str = "minute";

/// What is decoded of what was verified.
struct Wanted {
    mask: ProjectionMask,
    of_minute: Option<(ProjectionMask, (Minute, Minute))>,
    /// Only this row group.
    group: Option<usize>,
}

fn decode(verified: Verified, metadata: Arc<ParquetMetaData>, wanted: Wanted) -> Result<Vec<RecordBatch>, String> {
    let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new());
    let mut builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(verified, metadata.map_err(|e| e.to_string())?);
    if let Some(group) = wanted.group {
        builder = builder.with_row_groups(vec![group]);
    }
    let about = builder.schema().metadata().clone();
    if let Some((minute, (from, to))) = wanted.of_minute {
        let between = ArrowPredicateFn::new(minute, move |rows| rows_between(&rows, from, to));
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(between)]));
    }
    let reader = builder.with_projection(wanted.mask).with_batch_size(limits::BATCH_EVENTS_MAX).build();
    let batches = reader.map_err(|error| error.to_string())?.map(|batch| {
        // The reader gives columns without what the schema says of the whole.
        let batch = batch?;
        let schema = Schema::new_with_metadata(batch.schema_ref().fields().clone(), about.clone());
        batch.with_schema(Arc::new(schema))
    });
    batches.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn rows_between(rows: &RecordBatch, from: Minute, to: Minute) -> Result<BooleanArray, ArrowError> {
    let times = rows.columns().first().and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| ArrowError::SchemaError("the segment's minutes are no times".to_owned()))?;
    let (first, last) = (from.start().micros(), to.start().micros());
    Ok(BooleanArray::from_unary(times, |micros| (first..=last).contains(&micros)))
}

impl<'a> Reading<'a> {
    fn damaged(&self, what: impl Into<String>) -> FolderError {
        Damage { file: self.path.to_owned(), what: what.into(), affected: Some(self.segment.affected()) }.into()
    }

    fn not_parquet(&self, error: &str) -> FolderError {
        self.damaged(format!("its checksums are right, but it cannot be read as Parquet: {error}"))
    }

    /// The footer comes last, the column chunks before it.
    fn column_chunks(&self) -> &'a [Chunk] {
        self.segment.chunks.split_last().map_or(&[], |(_, columns)| columns)
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, FolderError> {
        // A segment that passed `Segment::check` has no length beyond SEGMENT_BYTES_MAX.
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| self.damaged("it is too long"))?];
        match self.file.read_exact_at(offset, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(format!("it ends before byte {}", offset.saturating_add(length))))
            }
            Err(error) => Err(FolderError::io("read", self.path)(error)),
        }
    }

    fn verify(&self, verified: &mut Verified, chunk: &Chunk, name: impl FnOnce() -> String) -> Result<(), FolderError> {
        let bytes = self.bytes(chunk.offset, chunk.bytes)?;
        if crc32c::crc32c(&bytes) != chunk.crc32c {
            let end = chunk.offset.saturating_add(chunk.bytes);
            return Err(self.damaged(format!("the checksum of {} (bytes {} to {end}) is wrong", name(), chunk.offset)));
        }
        verified.chunks.insert(chunk.offset, bytes.into());
        Ok(())
    }

    /// The footer, after checking that file, footer and manifest speak of the same column chunks.
    fn footer(&self, verified: &mut Verified) -> Result<ParquetMetaData, FolderError> {
        self.segment.check().map_err(|what| self.damaged(what))?;
        let length = self.file.len().map_err(FolderError::io("read", self.path))?;
        if length != self.segment.file.bytes {
            let whole = self.segment.file.bytes;
            return Err(self.damaged(format!("it has {length} bytes where the manifest says {whole}")));
        }
        if self.bytes(0, PARQUET_MAGIC.len() as u64)? != PARQUET_MAGIC {
            return Err(self.damaged("it does not begin as a Parquet file does"));
        }
        let Some(footer) = self.segment.chunks.last() else { return Err(self.damaged("it has no footer")) };
        self.verify(verified, footer, || "the footer".to_owned())?;
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
        let metadata = caught(|| reader.parse_and_finish(&*verified).map_err(|error| error.to_string()))
            .map_err(|error| self.damaged(format!("the footer cannot be read: {error}")))?;
        let said = places(&metadata).map_err(|what| self.damaged(what))?;
        if said.is_empty() || !said.into_iter().eq(self.column_chunks().iter().map(|chunk| (chunk.offset, chunk.bytes)))
        {
            return Err(self.damaged("its footer speaks of other column chunks than the manifest"));
        }
        Ok(metadata)
    }
}
