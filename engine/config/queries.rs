//! The query files that the engine starts with: the operator's folder, or those that are part of
//! the binary. It reads text; what a file means is the business of `views` and `rules`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tidewatch_model::limits;

use super::settings::Queries;

/// The folders of `queries/`, in the order in which they build on each other.
const KINDS: [&str; 3] = ["streams", "views", "rules"];

/// Path below `queries/` and text of each file of the source tree.
const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped_queries.rs"));

/// One file, unparsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryFile {
    /// As messages name it: the path on disk, or `(shipped) views/payments.sql`.
    pub name: String,
    /// The path below the folder: `views/payments.sql`.
    pub path: String,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
pub enum QueriesError {
    #[error("the folder of queries `{}` does not exist; make it or correct `queries_dir`", .0.display())]
    NoFolder(PathBuf),
    #[error("`{}` cannot be read; check its owner and mode, and that it is UTF-8", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` has {bytes} bytes; at most {max} are allowed in a query file", .path.display(), max = limits::QUERY_FILE_BYTES_MAX)]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("`{}` holds more than {max} query files, which is the limit", .0.display(), max = limits::QUERY_FILES_MAX)]
    TooMany(PathBuf),
}

/// All query files: streams, then views, then rules, each in the order of their names.
pub fn load(queries: &Queries) -> Result<Vec<QueryFile>, QueriesError> {
    match queries {
        Queries::Dir(folder) if !folder.is_dir() => Err(QueriesError::NoFolder(folder.clone())),
        Queries::DirOrShipped(folder) if !folder.is_dir() => Ok(shipped()),
        Queries::Dir(folder) | Queries::DirOrShipped(folder) => in_folder(folder),
    }
}

/// The files that are part of the binary.
pub fn shipped() -> Vec<QueryFile> {
    let file = |(path, text): &(&str, &str)| QueryFile {
        name: format!("(shipped) {path}"),
        path: (*path).to_owned(),
        text: (*text).to_owned(),
    };
    SHIPPED.iter().map(file).collect()
}

fn in_folder(folder: &Path) -> Result<Vec<QueryFile>, QueriesError> {
    let mut files = Vec::new();
    for kind in KINDS {
        let below = folder.join(kind);
        // A folder without rules, say, is one that only keeps series.
        if !below.is_dir() {
            continue;
        }
        let unreadable = |source| QueriesError::Unreadable { path: below.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&below).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                paths.push(path);
            }
            if files.len() + paths.len() > limits::QUERY_FILES_MAX {
                return Err(QueriesError::TooMany(folder.to_owned()));
            }
        }
        paths.sort();
        for path in paths {
            files.push(read(kind, path)?);
        }
    }
    Ok(files)
}

fn read(kind: &str, path: PathBuf) -> Result<QueryFile, QueriesError> {
    let unreadable = |source| QueriesError::Unreadable { path: path.clone(), source };
    let bytes = fs::metadata(&path).map_err(unreadable)?.len();
    if bytes > limits::QUERY_FILE_BYTES_MAX {
        return Err(QueriesError::TooLarge { path, bytes });
    }
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(QueryFile { name: path.display().to_string(), path: format!("{kind}/{file_name}"), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_holds_the_files_of_the_source_tree() {
        let tree = in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("queries")).unwrap();
        let of = |files: Vec<QueryFile>| files.into_iter().map(|file| (file.path, file.text)).collect::<Vec<_>>();
        assert_eq!(of(tree), of(shipped()));
    }

    #[test]
    fn the_shipped_stream_is_the_one_that_clients_know() {
        let file = shipped().into_iter().find(|file| file.path == "streams/transactions.sql").unwrap();
        let shipped = tidewatch_views::compile_stream(&file.name, &file.text).unwrap();
        assert_eq!(*shipped.schema, tidewatch_model::transactions().unwrap());
    }

    #[test]
    fn a_named_folder_must_exist_and_the_default_need_not() {
        let missing = PathBuf::from("/nonexistent/queries");
        let error = load(&Queries::Dir(missing.clone())).unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/queries` does not exist"), "{error}");
        assert_eq!(load(&Queries::DirOrShipped(missing)).unwrap(), shipped());
    }

    #[test]
    fn a_folder_is_read_in_order_and_other_files_are_left_alone() {
        let folder = std::env::temp_dir().join(format!("tidewatch-queries-{}", std::process::id()));
        let write = |path: &str, text: &[u8]| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for path in ["rules/a.sql", "views/b.sql", "views/a.sql", "views/notes.md", "streams/z.sql", "other/x.sql"] {
            write(path, path.as_bytes());
        }
        let files = load(&Queries::Dir(folder.clone())).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["streams/z.sql", "views/a.sql", "views/b.sql", "rules/a.sql"]);
        assert!(files.iter().all(|file| file.text == file.path && file.name.ends_with(&file.path)));
        write("rules/broken.sql", &[0xff, 0xfe]);
        assert!(matches!(load(&Queries::Dir(folder.clone())), Err(QueriesError::Unreadable { .. })));
        write("rules/broken.sql", &vec![b' '; usize::try_from(limits::QUERY_FILE_BYTES_MAX).unwrap() + 1]);
        assert!(matches!(load(&Queries::Dir(folder.clone())), Err(QueriesError::TooLarge { .. })));
        fs::remove_dir_all(folder).unwrap();
    }
}
