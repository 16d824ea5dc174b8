//! Parts that a machine may lack: a test skips with a printed line, unless `TIDEWATCH_REQUIRE` names the part.

use std::{path::PathBuf, process::Command};

use super::Folder;

fn missing(part: &str, what: &str) {
    let required = std::env::var("TIDEWATCH_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == part), "TIDEWATCH_REQUIRE names `{part}`, but {what}");
    println!("skipped: {what}");
}

/// A file of the shared data next to the project's root.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.is_file() {
        return Some(path);
    }
    missing("shared", &format!("there is no {}", path.display()));
    None
}

/// A folder with a file system of so many megabytes mounted on it, for which one must be root.
pub fn small_disk(megabytes: u32) -> Option<Folder> {
    let folder = Folder::new();
    let size = format!("size={megabytes}M");
    let mounting = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
    if mounting.is_ok_and(|mounting| mounting.status.success()) {
        return Some(folder);
    }
    missing("tmpfs", "no file system can be mounted here (one must be root)");
    None
}

/// Whether a program can be started; `part` is its name in `TIDEWATCH_REQUIRE`.
pub fn program(part: &str, name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        missing(part, &format!("there is no program `{name}` here (Debian: apt-get install prometheus)"));
    }
    found
}
