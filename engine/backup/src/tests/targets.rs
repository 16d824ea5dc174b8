//! Which places are taken for backups, and which are refused.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_folder_has_one_meaning_however_it_is_written() {
    let site = Site::new();
    let folder = site.root.path().join("deep/down here");
    let plain = folder.to_str().unwrap();
    assert!(matches!(Target::open(plain), Err(BackupError::Address { .. })), "it is not there yet");
    let target = Target::make(plain).unwrap();
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "a backup is nobody else's");
    let (descriptor, _) = site.back_up(&target, 0).await.unwrap();
    let url = url::Url::from_file_path(&folder).unwrap();
    let target = Target::open(url.as_str()).unwrap();
    assert_eq!(target.latest().await.unwrap(), descriptor.id);
    assert!(files(&folder).keys().all(|name| name.starts_with("objects/") || name.starts_with("backups/")));
}

#[test]
fn other_places_are_refused_with_what_can_be_written() {
    for url in ["", "ftp://host/x", "http://host/x", "file://host/x", "s3://", "memory:///x", "://"] {
        match Target::make(url) {
            Err(BackupError::Address { .. }) => {}
            other => panic!("{url}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_target_holds_the_backups_of_one_data_folder() {
    let (site, other) = (Site::new(), Site::of_log(LOG_ID + 1));
    let target = site.target();
    let none = target.latest().await.unwrap_err();
    assert!(matches!(none, BackupError::None { .. }), "{none}");
    site.back_up(&target, 0).await.unwrap();
    let source = Source { log_id: LOG_ID + 1, ..other.source() };
    let error = back_up(source, &target, at(1), |_| {}).await.unwrap_err();
    assert!(matches!(error, BackupError::Foreign { .. } | BackupError::Damaged { .. }), "{error}");
    for id in ["20250712T120000.000000Z-0000000000000007-00000000000000000001", "../../x", "latest", ""] {
        let error = target.descriptor(id).await.unwrap_err();
        assert!(matches!(error, BackupError::Unknown { .. }), "{id}: {error}");
    }
}
