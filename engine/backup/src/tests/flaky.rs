//! An object store that fails for a while, and one that was told twice.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path as Key,
};
use tidewatch_model::limits;

use super::*;

/// The next calls fail, so many of them.
#[derive(Debug)]
struct Flaky {
    within: InMemory,
    failures: Arc<AtomicU32>,
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flaky")
    }
}

impl Flaky {
    fn call(&self) -> Result<()> {
        let left = self.failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(object_store::Error::Generic { store: "Flaky", source: "the line is bad".into() }),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, at: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call()?;
        self.within.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.call()?;
        self.within.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Key, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.within.get_opts(at, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
        self.within.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.within.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.within.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.within.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again_and_not_for_ever() {
    for failures in [0, 1, limits::BACKUP_ATTEMPTS - 1, 1_000_000] {
        let site = Site::new();
        let left = Arc::new(AtomicU32::new(0));
        let flaky = Flaky { within: InMemory::new(), failures: Arc::clone(&left) };
        let target = Target::over(Arc::new(flaky));
        left.store(failures, Ordering::Release);
        let made = site.back_up(&target, 0).await;
        left.store(0, Ordering::Release);
        if failures < limits::BACKUP_ATTEMPTS {
            let (descriptor, _) = made.unwrap();
            left.store(failures, Ordering::Release);
            let folder = site.root.path().join("again");
            restored(&target, &descriptor, &folder).await.unwrap();
            assert_eq!(files(&folder).len(), descriptor.objects.len());
        } else {
            let error = made.unwrap_err().to_string();
            assert!(error.contains("the line is bad"), "{error}");
            assert_eq!(target.backups().await.unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn an_object_of_many_parts_comes_back_whole() {
    let mut site = Site::new();
    let large: Vec<u8> = (0..2 * limits::BACKUP_PART_BYTES + 5).map(|at| (at * 7 / 3) as u8).collect();
    let mut next = Manifest { ..Manifest::clone(&site.store.manifest()) };
    let blob = site.store.write_blob("state", &large).unwrap();
    next.state = Some(blob.clone());
    site.store.commit(next).unwrap();
    for target in [site.target(), Target::over(Arc::new(InMemory::new()))] {
        let (descriptor, _) = site.back_up(&target, 0).await.unwrap();
        let folder = site.root.path().join(format!("from {}", target.shown().len()));
        restored(&target, &descriptor, &folder).await.unwrap();
        assert!(std::fs::read(folder.join("store").join(&blob.name)).unwrap() == large);
    }
    // Damage shows at the end, when parts have been sent: none of them gets a name.
    let path = site.data().join("store").join(&blob.name);
    let mut damaged = large;
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(path, damaged).unwrap();
    let target = Target::over(Arc::new(InMemory::new()));
    let error = site.back_up(&target, 0).await.unwrap_err();
    assert!(matches!(&error, BackupError::Damaged { file, .. } if file.ends_with(&blob.name)), "{error}");
    assert_eq!(target.backups().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_descriptor_is_never_replaced() {
    let mut site = Site::new();
    let target = Target::over(Arc::new(InMemory::new()));
    let (first, _) = site.back_up(&target, 0).await.unwrap();
    // The same again is the same backup.
    assert_eq!(site.back_up(&target, 0).await.unwrap().0, first);
    site.checkpoint();
    let error = site.back_up(&target, 0).await.unwrap_err();
    assert!(error.to_string().contains("could not write backups/"), "{error}");
    assert_eq!(target.descriptor(&first.id).await.unwrap(), first);
}
