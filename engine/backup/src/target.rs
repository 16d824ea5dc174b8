//! `Target`: the folder of an object store that holds backups. It knows where objects lie and what to do when the store
//! fails for a moment; it knows nothing of data folders.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, local::LocalFileSystem,
    path::Path as Key, prefix::PrefixStore,
};
use tidewatch_model::limits;
use url::Url;

use crate::{
    descriptor::{self, BACKUP_VERSION, Descriptor, DescriptorFault},
    error::BackupError,
};

/// Where descriptors lie, and how their names end.
const BACKUPS: &str = "backups";
const SUFFIX: &str = ".backup";

/// Between two attempts; longer each time.
const PAUSE: Duration = Duration::from_secs(1);

/// Clones are cheap and speak of the same place.
#[derive(Clone, Debug)]
pub struct Target {
    store: Arc<dyn ObjectStore>,
    /// As it was written; it is never a place for secrets.
    shown: Arc<str>,
    /// The folder, where the objects are files of this machine: then they are synced here.
    folder: Option<Arc<Path>>,
    pub(crate) pause: Duration,
}

impl Target {
    /// A place for a new backup. A folder that does not exist is made, for its owner alone: a backup holds what the data
    /// folder holds.
    pub fn make(url: &str) -> Result<Self, BackupError> {
        if let Some(folder) = local(url)?
            && !folder.is_dir()
        {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(BackupError::io("make the folder", &folder))?;
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            synced(parent)?;
        }
        Self::open(url)
    }

    /// A place that has backups.
    pub fn open(url: &str) -> Result<Self, BackupError> {
        let address = |reason: String| BackupError::Address { url: url.to_owned(), reason };
        let (store, folder): (Arc<dyn ObjectStore>, _) = match local(url)? {
            Some(folder) => {
                if !folder.is_dir() {
                    return Err(address("there is no such folder".to_owned()));
                }
                let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| address(error.to_string()))?;
                (Arc::new(store.with_automatic_cleanup(false)), Some(folder.into()))
            }
            None => (remote(url)?, None),
        };
        Ok(Self { store, shown: url.into(), folder, pause: PAUSE })
    }

    /// As people wrote it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The names of all backups, oldest first.
    pub async fn backups(&self) -> Result<Vec<String>, BackupError> {
        let mut found = BTreeSet::new();
        let mut listing: BoxStream<'_, _> = self.store.list(Some(&Key::from(BACKUPS)));
        while let Some(object) = listing.next().await {
            let object = object.map_err(self.failed("list the backups below", BACKUPS))?;
            let id = object.location.filename().and_then(|name| name.strip_suffix(SUFFIX));
            // Other objects are none of ours.
            found.extend(id.filter(|id| descriptor::log_id_of(id).is_some()).map(str::to_owned));
            if found.len() > limits::BACKUPS_MAX {
                return Err(BackupError::TooMany { target: self.shown.to_string() });
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The newest backup.
    pub async fn latest(&self) -> Result<String, BackupError> {
        self.backups().await?.pop().ok_or_else(|| BackupError::None { target: self.shown.to_string() })
    }

    pub async fn descriptor(&self, id: &str) -> Result<Descriptor, BackupError> {
        if descriptor::log_id_of(id).is_none() {
            return Err(self.unknown(id));
        }
        let key = descriptor_key(id);
        let read = || async {
            let found = self.store.get(&Key::from(key.as_str())).await;
            let found = found.map_err(|error| match error {
                object_store::Error::NotFound { .. } => self.unknown(id),
                error => self.failed("read", &key)(error),
            })?;
            if found.meta.size > limits::BACKUP_DESCRIPTOR_BYTES_MAX as u64 {
                return Err(self.unsound(&key, "it is too large for a descriptor"));
            }
            found.bytes().await.map_err(self.failed("read", &key))
        };
        let bytes = self.tried(read).await?;
        match Descriptor::decode(&bytes) {
            Ok(descriptor) if descriptor.id == id => Ok(descriptor),
            Ok(descriptor) => Err(self.unsound(&key, format!("it is that of the backup {}", descriptor.id))),
            Err(DescriptorFault::Damaged(what)) => Err(self.unsound(&key, what)),
            Err(DescriptorFault::Newer(found)) => {
                let what = format!("{key} at {}", self.shown);
                Err(BackupError::Newer { what, found, known: BACKUP_VERSION })
            }
        }
    }

    /// Writes the descriptor; from then on the backup is one. One that is there already is never replaced.
    pub(crate) async fn conclude(&self, descriptor: &Descriptor) -> Result<(), BackupError> {
        let key = descriptor_key(&descriptor.id);
        let bytes: Bytes = descriptor.encode().map_err(|what| self.unsound(&key, what))?.into();
        let written = self.tried(|| async {
            let at = Key::from(key.as_str());
            let put = self.store.put_opts(&at, bytes.clone().into(), PutMode::Create.into()).await;
            put.map(drop).map_err(self.failed("write", &key))
        });
        match written.await {
            // An attempt may have been done although nobody heard of it.
            Err(BackupError::Target { source, .. })
                if matches!(*source, object_store::Error::AlreadyExists { .. })
                    && self.descriptor(&descriptor.id).await.is_ok_and(|there| there == *descriptor) => {}
            written => written?,
        }
        self.settle(&[key]).await
    }

    /// Whether an object of this name and length is there. What is there was put there as a whole.
    pub(crate) async fn has(&self, key: &str, bytes: u64) -> Result<bool, BackupError> {
        let look = || async {
            match self.store.head(&Key::from(key)).await {
                Ok(found) => Ok(found.size == bytes),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(self.failed("look for", key)(error)),
            }
        };
        self.tried(look).await
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BackupError> {
        let put = self.store.put(&Key::from(key), bytes.into()).await;
        put.map(drop).map_err(self.failed("write", key))
    }

    pub(crate) async fn put_in_parts(&self, key: &str) -> Result<Box<dyn MultipartUpload>, BackupError> {
        self.store.put_multipart(&Key::from(key)).await.map_err(self.failed("begin to write", key))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<GetResult, BackupError> {
        self.store.get(&Key::from(key)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => self.unsound(key, "it is missing"),
            error => self.failed("read", key)(error),
        })
    }

    /// When this returns, new objects survive a crash of the machine that keeps them. An object store's answer means
    /// that already.
    pub(crate) async fn settle(&self, keys: &[String]) -> Result<(), BackupError> {
        let Some(root) = self.folder.clone() else { return Ok(()) };
        let files: Vec<PathBuf> = keys.iter().map(|key| root.join(key)).collect();
        let settled = tokio::task::spawn_blocking(move || {
            let mut folders = BTreeSet::from([root.to_path_buf()]);
            for file in &files {
                synced(file)?;
                let above = file.ancestors().skip(1).take_while(|above| above.starts_with(&root));
                folders.extend(above.map(Path::to_owned));
            }
            folders.iter().try_for_each(|folder| synced(folder))
        });
        settled.await.map_err(|error| BackupError::BrokenOff(error.to_string()))?
    }

    /// Tries again, for a bounded number of times, what can pass.
    pub(crate) async fn tried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, BackupError>
    where
        F: Future<Output = Result<T, BackupError>>,
    {
        for before in 1..limits::BACKUP_ATTEMPTS {
            match attempt().await {
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "tried again in a moment");
                    tokio::time::sleep(self.pause * before).await;
                }
                done => return done,
            }
        }
        attempt().await
    }

    pub(crate) fn failed(&self, action: &'static str, key: &str) -> impl FnOnce(object_store::Error) -> BackupError {
        let (key, target) = (key.to_owned(), self.shown.to_string());
        move |source| BackupError::Target { action, key, target, source: Arc::new(source) }
    }

    pub(crate) fn unsound(&self, key: &str, what: impl Into<String>) -> BackupError {
        BackupError::Unsound { key: key.to_owned(), target: self.shown.to_string(), what: what.into() }
    }

    fn unknown(&self, id: &str) -> BackupError {
        BackupError::Unknown { id: id.to_owned(), target: self.shown.to_string() }
    }
}

fn descriptor_key(id: &str) -> String {
    format!("{BACKUPS}/{id}{SUFFIX}")
}

/// The folder that is meant, where it is one of this machine.
fn local(url: &str) -> Result<Option<PathBuf>, BackupError> {
    let address = |reason: &str| BackupError::Address { url: url.to_owned(), reason: reason.to_owned() };
    if url.is_empty() {
        return Err(address("it is empty"));
    }
    if !url.contains("://") {
        return Ok(Some(PathBuf::from(url)));
    }
    if !url.starts_with("file:") {
        return Ok(None);
    }
    let folder = Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
    folder.map(Some).ok_or_else(|| address("it names no folder of this machine"))
}

/// A folder of a bucket.
fn remote(url: &str) -> Result<Arc<dyn ObjectStore>, BackupError> {
    let address = |reason: String| BackupError::Address { url: url.to_owned(), reason };
    let parsed = Url::parse(url).map_err(|error| address(error.to_string()))?;
    let (scheme, folder) = ObjectStoreScheme::parse(&parsed).map_err(|error| address(error.to_string()))?;
    let bucket = bucket(&scheme, url).map_err(|error| address(error.to_string()))?;
    let bucket = bucket.ok_or_else(|| address("no backups are kept in such a place".to_owned()))?;
    Ok(Arc::new(PrefixStore::new(bucket, folder)))
}

/// Until the features of `object_store` for them are built in, there are none.
fn bucket(_: &ObjectStoreScheme, _: &str) -> Result<Option<Arc<dyn ObjectStore>>, object_store::Error> {
    Ok(None)
}

fn synced(path: &Path) -> Result<(), BackupError> {
    let sync = || -> io::Result<()> { File::open(path)?.sync_all() };
    sync().map_err(BackupError::io("sync", path))
}

#[cfg(test)]
impl Target {
    /// Over a store of a test's own, without pauses.
    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, shown: "nowhere".into(), folder: None, pause: Duration::ZERO }
    }
}
