//! One holder of a data folder at a time.

use crate::{DataFolderLock, LockError};

#[test]
fn a_second_holder_is_told_of_the_first() {
    let folder = std::env::temp_dir().join(format!("tidewatch-lock-{}", std::process::id()));
    let mut first = DataFolderLock::acquire(&folder).unwrap();
    for address in [None, Some("127.0.0.1:4700"), Some(":1")] {
        if let Some(address) = address {
            first.announce(address).unwrap();
        }
        match DataFolderLock::acquire(&folder) {
            Err(LockError::Held { pid, address: found, .. }) => {
                assert_eq!(pid, std::process::id().to_string());
                assert_eq!(found.as_deref(), address);
            }
            other => panic!("{other:?}"),
        }
    }
    drop(first);
    drop(DataFolderLock::acquire(&folder).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
}
