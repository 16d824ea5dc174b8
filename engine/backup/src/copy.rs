//! Making a backup: what the target does not have is sent, and the descriptor comes last. Dropping the future gives the
//! backup up; what was sent stays, and the next backup need not send it again.

use std::sync::Arc;

use futures::{StreamExt, stream};
use tidewatch_log::{FORMAT_VERSION, FileSystem};
use tidewatch_model::{EventTime, limits};
use tidewatch_store::MANIFEST_VERSION;

use crate::{
    descriptor::{self, Descriptor, Formats},
    error::BackupError,
    source::{Piece, PieceReader, Source},
    target::Target,
};

/// When a backup is made, and by which version of the program.
#[derive(Clone, Debug)]
pub struct Making {
    pub at: EventTime,
    pub engine: String,
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub objects: u64,
    pub bytes: u64,
    pub objects_done: u64,
    pub bytes_done: u64,
    /// Of those that are done, what had to be sent or fetched.
    pub bytes_moved: u64,
}

impl Progress {
    pub(crate) fn of<'a>(objects: impl Iterator<Item = &'a descriptor::Object>) -> Self {
        objects.fold(Self::default(), |all, object| Self {
            objects: all.objects + 1,
            bytes: all.bytes + object.bytes,
            ..all
        })
    }

    pub(crate) fn done(&mut self, bytes: u64, moved: bool) {
        self.objects_done += 1;
        self.bytes_done += bytes;
        self.bytes_moved += if moved { bytes } else { 0 };
    }
}

/// Copies what the source names. The descriptor says what was copied; `tell` hears of every object.
pub async fn back_up(
    source: Source,
    target: &Target,
    making: Making,
    mut tell: impl FnMut(Progress) + Send,
) -> Result<(Descriptor, Progress), BackupError> {
    if let Some(other) = target.backups().await?.pop()
        && descriptor::log_id_of(&other) != Some(source.log_id)
    {
        return Err(BackupError::Foreign { target: target.shown().to_owned(), other });
    }
    let blocking = tokio::task::spawn_blocking(move || source.pieces().map(|pieces| (source, pieces)));
    let (source, pieces) = blocking.await.map_err(|error| BackupError::BrokenOff(error.to_string()))??;
    let descriptor = Descriptor {
        id: descriptor::id(making.at, source.log_id, source.last),
        made_at: making.at,
        engine: making.engine,
        formats: Formats { log: FORMAT_VERSION, manifest: MANIFEST_VERSION },
        log_id: source.log_id,
        applied: source.pin.applied,
        last: source.last,
        objects: pieces.iter().map(|piece| piece.object.clone()).collect(),
    };
    let mut progress = Progress::of(descriptor.objects.iter());
    tell(progress);
    let mut sent = Vec::new();
    let copies = pieces.into_iter().map(|piece| {
        let (target, disk) = (target.clone(), Arc::clone(&source.disk));
        async move {
            let (key, bytes) = (piece.object.key(), piece.object.bytes);
            let there = target.has(&key, bytes).await?;
            if !there {
                target.tried(|| send(&target, &disk, &piece)).await?;
            }
            Ok::<_, BackupError>((key, bytes, !there))
        }
    });
    let mut copies = stream::iter(copies).buffer_unordered(limits::BACKUP_OBJECTS_IN_FLIGHT);
    while let Some(copied) = copies.next().await {
        let (key, bytes, moved) = copied?;
        progress.done(bytes, moved);
        if moved {
            sent.push(key);
        }
        tell(progress);
    }
    target.settle(&sent).await?;
    target.conclude(&descriptor).await?;
    Ok((descriptor, progress))
}

/// One object, in one piece or in parts. It bears its name only when all of it is there.
async fn send(target: &Target, disk: &Arc<dyn FileSystem>, piece: &Piece) -> Result<(), BackupError> {
    let key = piece.object.key();
    let mut reader = PieceReader::open(&**disk, piece)?;
    if piece.object.bytes <= limits::BACKUP_PART_BYTES as u64 {
        let (rest, bytes) = next(reader).await?;
        // Nothing follows, and the checksum of all was right.
        next(rest).await?;
        return target.put(&key, bytes.unwrap_or_default()).await;
    }
    let mut upload = target.put_in_parts(&key).await?;
    let sent = async {
        loop {
            let (rest, bytes) = next(reader).await?;
            reader = rest;
            let Some(bytes) = bytes else { break };
            upload.put_part(bytes.into()).await.map_err(target.failed("write", &key))?;
        }
        upload.complete().await.map(drop).map_err(target.failed("write", &key))
    };
    let sent = sent.await;
    if sent.is_err()
        && let Err(error) = upload.abort().await
    {
        tracing::warn!(key, %error, "parts of an object that was not finished stay at the target");
    }
    sent
}

/// Reads on a thread that may wait for the disk.
async fn next(mut reader: PieceReader) -> Result<(PieceReader, Option<bytes::Bytes>), BackupError> {
    let reading = tokio::task::spawn_blocking(move || reader.next().map(|bytes| (reader, bytes)));
    reading.await.map_err(|error| BackupError::BrokenOff(error.to_string()))?
}
