//! The installation's secret, from which masked event ids get their tags: a file in the data folder, made at the first
//! start and read at every later one. With another secret an id that is sent again would count again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom, SystemRandom};
pub use tidewatch_backup::ID_KEY as FILE_NAME;
use tidewatch_log::FileSystem;
use tidewatch_serve::IdKey;

#[derive(Debug, thiserror::Error)]
pub enum IdSecretError {
    #[error("could not {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} holds {found} bytes where the secret has {}: restore it from a backup; without it, masked event ids that are \
         sent again count again (to accept that, remove the file)",
        .path.display(),
        IdKey::SECRET_BYTES
    )]
    Damaged { path: PathBuf, found: usize },
    #[error("the operating system gives no random numbers, so no secret could be made for {}", .0.display())]
    NoRandomness(PathBuf),
}

/// The key of the data folder, which must be locked by the caller.
pub fn id_key(data_dir: &Path) -> Result<IdKey, IdSecretError> {
    let path = data_dir.join(FILE_NAME);
    let secret = match fs::read(&path) {
        Ok(bytes) => bytes
            .as_slice()
            .try_into()
            .map_err(|_| IdSecretError::Damaged { path: path.clone(), found: bytes.len() })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if has_data(data_dir) {
                tracing::error!(
                    path = %path.display(),
                    "there is data, but its secret is missing: a new one is made, and masked event ids that are sent \
                     again COUNT AGAIN. To prevent that, stop the engine and restore the file from a backup"
                );
            }
            made(data_dir, &path)?
        }
        Err(source) => return Err(IdSecretError::Io { action: "read", path, source }),
    };
    Ok(IdKey::new(&secret))
}

/// Whether an engine has written anything here: every start makes both folders, and the first makes the secret before.
fn has_data(data_dir: &Path) -> bool {
    data_dir.join("log").exists() || data_dir.join("store").exists()
}

/// What there is of a secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Whole,
    Missing,
    Damaged { bytes: u64 },
}

/// Looks for the secret, and makes none.
pub fn found(disk: &dyn FileSystem, data_dir: &Path) -> io::Result<Found> {
    match disk.open(&data_dir.join(FILE_NAME)).and_then(|file| file.len()) {
        Ok(bytes) if bytes == IdKey::SECRET_BYTES as u64 => Ok(Found::Whole),
        Ok(bytes) => Ok(Found::Damaged { bytes }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) => Err(error),
    }
}

fn made(data_dir: &Path, path: &Path) -> Result<[u8; IdKey::SECRET_BYTES], IdSecretError> {
    let mut secret = [0; IdKey::SECRET_BYTES];
    SystemRandom::new().fill(&mut secret).map_err(|_| IdSecretError::NoRandomness(path.to_owned()))?;
    written(data_dir, path, &secret).map_err(|source| IdSecretError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(secret)
}

/// Under a name of its own first, so that a crash leaves no half of a secret.
fn written(data_dir: &Path, path: &Path, secret: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        id_key(folder.path()).unwrap();
        let path = folder.path().join(FILE_NAME);
        let first = fs::read(&path).unwrap();
        assert_eq!((first.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (32, 0o600));
        id_key(folder.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_damaged_secret_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, b"short").unwrap();
        let error = id_key(folder.path()).unwrap_err().to_string();
        assert!(error.contains("holds 5 bytes where the secret has 32"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }
}
