//! Bringing a backup back into an empty folder. A marker stands there from before the first file until after the last, so
//! that nothing starts on a part of it; every checksum is compared.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use tidewatch_log::{FORMAT_VERSION, FileSystem, LOCK, RESTORING, WriteFile};
use tidewatch_store::MANIFEST_VERSION;

use crate::{
    copy::Progress,
    descriptor::{Descriptor, Object},
    error::BackupError,
    source::{ID_KEY, LOG, STORE},
    target::Target,
};

/// Fills `data_dir`, whose lock the caller holds. After an error the folder is marked as a part, and no engine takes it.
pub async fn restore(
    descriptor: &Descriptor,
    target: &Target,
    disk: &dyn FileSystem,
    data_dir: &Path,
    mut tell: impl FnMut(Progress),
) -> Result<(), BackupError> {
    for (what, found, known) in [
        ("the log in the backup", descriptor.formats.log, FORMAT_VERSION),
        ("the manifest in the backup", descriptor.formats.manifest, MANIFEST_VERSION),
    ] {
        if found > known {
            return Err(BackupError::Newer { what: format!("{what} {}", descriptor.id), found, known });
        }
    }
    empty(data_dir)?;
    let marker = data_dir.join(RESTORING);
    let mut file = disk.create(&marker).map_err(BackupError::io("make", &marker))?;
    let text = format!("{} from {}\n", descriptor.id, target.shown());
    file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(BackupError::io("write", &marker))?;
    sync_dir(disk, data_dir)?;
    let (log, store) = (data_dir.join(LOG), data_dir.join(STORE));
    for folder in [&log, &store] {
        disk.create_dir(folder).map_err(BackupError::io("make the folder", folder))?;
    }
    let mut progress = Progress::of(descriptor.objects.iter());
    tell(progress);
    for object in &descriptor.objects {
        target.tried(|| fetch(target, disk, data_dir, object)).await?;
        progress.done(object.bytes, true);
        tell(progress);
    }
    for folder in [&log, &store, data_dir] {
        sync_dir(disk, folder)?;
    }
    disk.remove(&marker).map_err(BackupError::io("remove", &marker))?;
    sync_dir(disk, data_dir)
}

/// Nothing is there but the lock.
fn empty(data_dir: &Path) -> Result<(), BackupError> {
    let entries = std::fs::read_dir(data_dir).map_err(BackupError::io("list", data_dir))?;
    for entry in entries {
        if entry.map_err(BackupError::io("list", data_dir))?.file_name() != LOCK {
            return Err(BackupError::NotEmpty(data_dir.to_owned()));
        }
    }
    Ok(())
}

/// Brings one object into its file, as far as it is what it was.
async fn fetch(target: &Target, disk: &dyn FileSystem, data_dir: &Path, object: &Object) -> Result<(), BackupError> {
    let (key, path) = (object.key(), data_dir.join(&object.path));
    let mut file = made(disk, object, &path)?;
    let mut bytes = target.get(&key).await?.into_stream();
    let (mut length, mut crc) = (0, 0);
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(target.failed("read", &key))?;
        length += piece.len() as u64;
        crc = crc32c::crc32c_append(crc, &piece);
        file.write_all(&piece).map_err(BackupError::io("write", &path))?;
    }
    if length != object.bytes {
        return Err(target.unsound(&key, format!("it has {length} bytes where the descriptor says {}", object.bytes)));
    }
    if crc != object.crc32c {
        return Err(target.unsound(&key, "its checksum is wrong"));
    }
    file.sync_data().map_err(BackupError::io("sync", &path))
}

fn made(disk: &dyn FileSystem, object: &Object, path: &Path) -> Result<Box<dyn WriteFile>, BackupError> {
    let create = || if object.path == ID_KEY { disk.create_private(path) } else { disk.create(path) };
    let file = create().or_else(|error| match error.kind() {
        // Left by an attempt before.
        std::io::ErrorKind::AlreadyExists => disk.remove(path).and_then(|()| create()),
        _ => Err(error),
    });
    file.map_err(BackupError::io("make", PathBuf::from(path)))
}

fn sync_dir(disk: &dyn FileSystem, dir: &Path) -> Result<(), BackupError> {
    disk.sync_dir(dir).map_err(BackupError::io("sync the folder", dir))
}
