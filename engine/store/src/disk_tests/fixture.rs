//! The fixture of version 1: a folder that was written once, and that every later version reads.

use std::collections::BTreeMap;

use super::*;

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

fn everything(fs: &MemFs) -> BTreeMap<String, Vec<u8>> {
    files(fs).into_iter().map(|name| (name.clone(), fs.bytes(&dir().join(name)).unwrap())).collect()
}

#[test]
fn version_1_is_read() {
    // Only for making the fixture of a new version: those of old ones never change.
    if std::env::var_os("TIDEWATCH_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(fixture()).unwrap();
        for (name, bytes) in everything(&small_store()) {
            std::fs::write(fixture().join(name), bytes).unwrap();
        }
    }
    let fs = MemFs::new();
    fs.create_dir(dir()).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap() {
        let path = entry.unwrap().path();
        fs.put(&dir().join(path.file_name().unwrap()), std::fs::read(&path).unwrap());
    }
    let kept = everything(&fs);
    let (mut folder, found) = open(&fs).unwrap();
    let found = found.unwrap();
    assert_eq!((found.log_id, found.views["payments"].fingerprint), (7, u64::MAX));
    assert_eq!(check_content(&folder, &fs, "fixture"), 4);
    assert_eq!(found.encode().unwrap(), kept["MANIFEST"], "version 1 is written otherwise than the fixture");
    checkpoint(&mut folder, 5).unwrap();
    assert_eq!(check_content(&folder, &fs, "after the fixture"), 5);
}
