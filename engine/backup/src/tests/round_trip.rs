//! What comes back is what was there, at the moment that the descriptor names.

use std::os::unix::fs::PermissionsExt as _;

use object_store::memory::InMemory;
use tidewatch_log::{DataFolderLock, LockError, RESTORING};

use super::*;

/// The folder opens as an engine opens it, and holds these records.
fn opens(folder: &Path, applied: u64, last: u64) {
    let (store, manifest) = Folder::open(disk(), &folder.join(source::STORE)).unwrap();
    let manifest = manifest.unwrap();
    assert_eq!(manifest.applied, Lsn(applied));
    assert!(store.findings().damaged.is_empty() && store.findings().removed.is_empty(), "{:?}", store.findings());
    let state = store.read_blob(manifest.state.as_ref().unwrap()).unwrap();
    assert_eq!(state, format!("after {applied}").into_bytes());
    let (_, found) = Writer::open(disk(), &folder.join(source::LOG), &LogConfig::new(1)).unwrap();
    assert_eq!((found.log_id, found.last(), found.cut), (LOG_ID, Lsn(last), None));
    assert!(found.first <= Lsn(applied + 1));
}

#[tokio::test]
async fn a_backup_holds_the_moment_in_which_it_was_begun() {
    let mut site = Site::new();
    let target = site.target();
    let source = site.source();
    // The engine goes on, and its checkpoints let go of what they contain.
    site.append(30);
    site.checkpoint();
    site.append(3);
    assert_eq!(site.store.pins().log_from(), Lsn(11));
    site.log.forget_before(site.store.pins().log_from()).unwrap();
    let (descriptor, _) = back_up(source, &target, at(0), |_| {}).await.unwrap();
    assert_eq!((descriptor.applied, descriptor.last), (Lsn(10), Lsn(20)));
    let folder = site.root.path().join("again");
    restored(&target, &descriptor, &folder).await.unwrap();
    opens(&folder, 10, 20);
    let mode = std::fs::metadata(folder.join(source::ID_KEY)).unwrap().permissions().mode();
    assert_eq!((std::fs::read(folder.join(source::ID_KEY)).unwrap(), mode & 0o777), (vec![9; 32], 0o600));
    assert!(!folder.join(RESTORING).exists());
    // What was copied is needed no longer.
    assert_eq!(site.store.pins().log_from(), Lsn(51));
}

#[tokio::test]
async fn only_what_is_new_is_sent() {
    let mut site = Site::new();
    let target = site.target();
    let (first, progress) = site.back_up(&target, 0).await.unwrap();
    assert_eq!((progress.bytes_moved, progress.bytes_done), (progress.bytes, progress.bytes));
    assert_eq!((progress.objects, progress.objects_done), (first.objects.len() as u64, first.objects.len() as u64));
    let (_, progress) = site.back_up(&target, 1).await.unwrap();
    assert_eq!(progress.bytes_moved, 0);
    site.append(1);
    let (third, progress) = site.back_up(&target, 2).await.unwrap();
    let new: Vec<_> = third.objects.iter().filter(|object| !first.objects.contains(object)).collect();
    assert!(new.iter().all(|object| object.path.starts_with("log/")) && !new.is_empty(), "{new:?}");
    assert_eq!(progress.bytes_moved, new.iter().map(|object| object.bytes).sum::<u64>());
    assert_eq!(target.backups().await.unwrap().len(), 3);
    assert_eq!(target.latest().await.unwrap(), third.id);
    for (descriptor, last) in [(&first, 20), (&third, 21)] {
        let folder = site.root.path().join(&descriptor.id);
        restored(&target, &target.descriptor(&descriptor.id).await.unwrap(), &folder).await.unwrap();
        opens(&folder, 10, last);
    }
}

#[tokio::test]
async fn a_folder_that_nobody_uses_is_copied_as_a_start_would_find_it() {
    let site = Site::new();
    let (data, target) = (site.data(), site.target());
    let Site { root, .. } = site;
    // A crash tore the last record.
    let last = files(&data).keys().filter(|name| name.starts_with("log/")).max().unwrap().clone();
    let bytes = std::fs::read(data.join(&last)).unwrap();
    std::fs::write(data.join(&last), &bytes[..bytes.len() - 1]).unwrap();
    let source = Source::standing(disk(), data, 1).unwrap();
    let (descriptor, _) = back_up(source, &target, at(0), |_| {}).await.unwrap();
    assert_eq!((descriptor.log_id, descriptor.last), (LOG_ID, Lsn(19)));
    restored(&target, &descriptor, &root.path().join("again")).await.unwrap();
    opens(&root.path().join("again"), 10, 19);
}

#[tokio::test]
async fn each_object_that_is_damaged_or_gone_is_named_and_nothing_starts_on_a_part() {
    let site = Site::new();
    let target = site.target();
    let (descriptor, _) = site.back_up(&target, 0).await.unwrap();
    for (at, object) in descriptor.objects.iter().enumerate() {
        let path = site.target_folder().join(object.key());
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (case, damage, words) in [
            ("flipped", Some(flipped), "checksum"),
            ("cut", Some(whole[1..].to_vec()), "bytes where"),
            ("gone", None, "missing"),
        ] {
            match damage {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let folder = site.root.path().join(format!("{case} {at}"));
            let error = restored(&target, &descriptor, &folder).await.unwrap_err().to_string();
            assert!(error.contains(&object.key()) && error.contains(words), "{case}: {error}");
            assert!(matches!(DataFolderLock::acquire(&folder), Err(LockError::HalfRestored(_))), "{case}");
            // Nor is it filled by another attempt.
            let again = restored(&target, &descriptor, &folder).await.unwrap_err();
            assert!(matches!(again, BackupError::NotEmpty(_)), "{case}: {again}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    let folder = site.root.path().join("whole");
    drop(DataFolderLock::acquire(&folder).unwrap());
    restored(&target, &descriptor, &folder).await.unwrap();
    opens(&folder, 10, 20);
}

#[tokio::test]
async fn a_damaged_data_folder_gives_no_backup() {
    let site = Site::new();
    let kept = files(&site.data());
    for (name, bytes) in &kept {
        // The secret has no checksum, and the manifest is copied from memory.
        if name == source::ID_KEY || name.ends_with("MANIFEST") {
            continue;
        }
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        std::fs::write(site.data().join(name), flipped).unwrap();
        // What an earlier backup sent is not read again, so there is none.
        let target = Target::over(Arc::new(InMemory::new()));
        let backup = site.back_up(&target, 0).await;
        std::fs::write(site.data().join(name), bytes).unwrap();
        match backup {
            Err(error) => assert!(error.to_string().contains(name.split('/').next_back().unwrap()), "{name}: {error}"),
            // A record that the checkpoint contains, and so the backup does not need.
            Ok((descriptor, _)) => {
                assert!(descriptor.objects.iter().all(|object| object.path != *name), "{name}");
                continue;
            }
        }
        assert_eq!(target.backups().await.unwrap(), Vec::<String>::new(), "{name}");
    }
}
