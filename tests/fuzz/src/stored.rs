//! The decoders of the store's files. The store stands on the views, and so on the whole of SQL.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use tidewatch_log::{FileSystem, MemFs};
use tidewatch_model::{Lsn, Minute};
use tidewatch_store::{Contents, Folder, FolderError, Manifest, Segment};

pub const DECODERS: [super::decoders_without_sql::Decoder; 2] = [("manifest", manifest), ("segment", segment)];

/// A manifest's body, with a header that vouches for it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"TIDEMANI".to_vec();
    bytes.extend(tidewatch_store::MANIFEST_VERSION.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(crc32c::crc32c(body).to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    [bytes, body.to_vec()].concat()
}

/// The bytes as a manifest's file, and as a body whose checksums are right: a folder with it is opened, and opened again.
pub fn manifest(bytes: &[u8]) {
    for file in [bytes.to_vec(), sealed(bytes)] {
        let fs = MemFs::new();
        let dir = Path::new("/store");
        fs.create_dir(dir).unwrap();
        fs.put(&dir.join("MANIFEST"), file);
        let Ok((folder, found)) = Folder::open(Arc::new(fs.clone()), dir) else { continue };
        for (file, _) in folder.manifest().files() {
            assert!(folder.read_blob(file).is_err(), "there are no files");
        }
        drop(folder);
        assert_eq!(Folder::open(Arc::new(fs), dir).unwrap().1, found);
    }
}

/// A small segment as it is written, and the folder that it is in.
pub fn whole_segment() -> (MemFs, Folder, Segment) {
    let fs = MemFs::new();
    let (mut folder, _) = Folder::open(Arc::new(fs.clone()), Path::new("/store")).unwrap();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Schema::new(vec![
        Field::new("minute", time, false),
        Field::new("status", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![60_000_000, 60_000_000, 120_000_000]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some("approved"), None, Some("denied")])),
        Arc::new(Int64Array::from(vec![Some(1), Some(i64::MIN), None])),
    ];
    let rows = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let contents =
        Contents { minutes: (Minute::from_index(1), Minute::from_index(2)), lsns: (Lsn(1), Lsn(1)), level: 0 };
    let segment = folder.write_segment("fuzz", &[rows], contents).unwrap();
    (fs, folder, segment)
}

/// A file in a segment's place, as if the manifest had been written for these bytes: its last chunk, the footer, begins
/// where that of the whole segment does.
pub fn segment(bytes: &[u8]) {
    let (fs, folder, whole) = whole_segment();
    let (mut entry, length) = (whole.clone(), bytes.len() as u64);
    entry.file.bytes = length;
    entry.file.crc32c = crc32c::crc32c(bytes);
    for chunk in &mut entry.chunks {
        chunk.offset = chunk.offset.min(length);
        chunk.bytes = chunk.bytes.min(length - chunk.offset);
    }
    if let Some(footer) = entry.chunks.last_mut() {
        footer.bytes = length - footer.offset;
    }
    for chunk in &mut entry.chunks {
        let stretch = &bytes[chunk.offset as usize..][..chunk.bytes as usize];
        chunk.crc32c = crc32c::crc32c(stretch);
    }
    let path = Path::new("/store").join(&entry.file.name);
    fs.put(&path, bytes.to_vec());
    if let Ok(batches) = folder.read_segment(&entry) {
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }
    // Against the manifest that was written for other bytes it is damage, if it is not the same file.
    let original = folder.read_segment(&whole);
    let same = length == whole.file.bytes && crc32c::crc32c(bytes) == whole.file.crc32c;
    assert!(same || matches!(original, Err(FolderError::Damaged(_))), "{original:?}");
}

/// A good input for each, from which the corpus is made.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (store, mut folder, segment) = whole_segment();
    let mut next = Manifest::clone(&folder.manifest());
    next.applied = Lsn(1);
    next.tables.insert("transactions".to_owned(), vec![segment.clone()]);
    folder.commit(next).unwrap();
    let file = store.bytes(Path::new("/store/MANIFEST")).unwrap();
    vec![
        ("manifest", file.clone()),
        ("manifest", file[32..].to_vec()),
        ("segment", store.bytes(&Path::new("/store").join(&segment.file.name)).unwrap()),
    ]
}
