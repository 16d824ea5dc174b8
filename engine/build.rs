//! Makes the `.sql` files of `queries/` part of the binary, so that it needs nothing beside it. It
//! writes one list, `shipped_queries.rs`, into `OUT_DIR`, and touches nothing else.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let variable =
        |name: &str| env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set: run this through Cargo"));
    let queries = variable("CARGO_MANIFEST_DIR")?.join("queries");
    let mut list = String::from("&[\n");
    // Cargo looks into a folder for changes, so that a new file is noticed as well.
    println!("cargo:rerun-if-changed={}", queries.display());
    for kind in ["streams", "views", "rules"] {
        for file in sql_files(&queries.join(kind))? {
            let name = file.file_name().and_then(|name| name.to_str()).ok_or("a query file's name is not UTF-8")?;
            writeln!(list, "    ({:?}, include_str!({:?})),", format!("{kind}/{name}"), file)?;
        }
    }
    list.push_str("]\n");
    fs::write(variable("OUT_DIR")?.join("shipped_queries.rs"), list)?;
    Ok(())
}

/// In the order of their names, so that every build is the same.
fn sql_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
