//! One holder of a data folder at a time.

use crate::{DataFolderLock, LockError, RESTORING};

#[test]
fn a_second_holder_is_told_of_the_first() {
    let folder = std::env::temp_dir().join(format!("tidewatch-lock-{}", std::process::id()));
    let mut first = DataFolderLock::acquire(&folder).unwrap();
    for address in [None, Some(("127.0.0.1:4701", "127.0.0.1:4700")), Some((":1", ":2"))] {
        if let Some((address, commands)) = address {
            first.announce(address, commands).unwrap();
        }
        match DataFolderLock::acquire(&folder) {
            Err(LockError::Held { pid, address: found, commands, .. }) => {
                assert_eq!(pid, std::process::id().to_string());
                assert_eq!(found.as_deref().zip(commands.as_deref()), address);
            }
            other => panic!("{other:?}"),
        }
    }
    drop(first);
    drop(DataFolderLock::acquire(&folder).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_folder_that_is_restored_in_part_is_nobodys() {
    let folder = std::env::temp_dir().join(format!("tidewatch-restoring-{}", std::process::id()));
    drop(DataFolderLock::acquire(&folder).unwrap());
    std::fs::write(folder.join(RESTORING), "").unwrap();
    let error = DataFolderLock::acquire(&folder).unwrap_err();
    assert!(matches!(&error, LockError::HalfRestored(dir) if *dir == folder), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
