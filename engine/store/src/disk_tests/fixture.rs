//! Fixtures: folders that were written once, one for each version of the format, and that every later version reads.

use std::collections::BTreeMap;

use super::*;

fn fixture(version: u32) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/v{version}"))
}

fn everything(fs: &MemFs) -> BTreeMap<String, Vec<u8>> {
    files(fs).into_iter().map(|name| (name.clone(), fs.bytes(&dir().join(name)).unwrap())).collect()
}

/// The fixture opens, and goes on as this version does once it is of its format. Answers its manifest's bytes, and what was
/// read of them.
fn check(version: u32) -> (Vec<u8>, Manifest) {
    let fs = MemFs::new();
    fs.create_dir(dir()).unwrap();
    for entry in std::fs::read_dir(fixture(version)).unwrap() {
        let path = entry.unwrap().path();
        fs.put(&dir().join(path.file_name().unwrap()), std::fs::read(&path).unwrap());
    }
    let kept = everything(&fs);
    let (mut folder, found) = open(&fs).unwrap();
    let found = found.unwrap();
    assert_eq!((found.log_id, found.views["payments"].fingerprint), (7, u64::MAX));
    assert_eq!(check_content(&folder, &fs, "fixture"), 4);
    if version < MANIFEST_VERSION {
        let refused = checkpoint(&mut folder, 5).unwrap_err();
        assert!(matches!(refused, FolderError::Older { found, .. } if found == version), "{refused}");
        assert!(everything(&fs) == kept, "something was changed");
        folder.upgrade().unwrap();
        assert_eq!(check_content(&folder, &fs, "after the upgrade"), 4);
    }
    checkpoint(&mut folder, 5).unwrap();
    assert_eq!(check_content(&folder, &fs, "after the fixture"), 5);
    (kept["MANIFEST"].clone(), found)
}

#[test]
fn version_1_is_read() {
    check(1);
}

#[test]
fn version_2_is_read_and_written() {
    // Only for making the fixture of a new version: those of old ones never change.
    if std::env::var_os("TIDEWATCH_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(fixture(2)).unwrap();
        for (name, bytes) in everything(&small_store()) {
            std::fs::write(fixture(2).join(name), bytes).unwrap();
        }
    }
    let (bytes, found) = check(2);
    assert_eq!(found.encode().unwrap(), bytes, "version 2 is written otherwise than the fixture");
}
