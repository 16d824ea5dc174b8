//! `StoreSurvey`: what lies in a store's folder and whether every byte of it is what the manifest says, found by reading
//! alone. Opening a folder looks at names and lengths only; this reads everything.

use std::{io, path::Path, sync::Arc};

use tidewatch_log::FileSystem;

use crate::{
    error::{Damage, FolderError},
    files::Files,
    folder::read_manifest,
    manifest::Manifest,
    name::{self, MANIFEST, MANIFEST_PART},
};

/// A store as it lies there.
#[derive(Debug)]
pub struct StoreSurvey {
    pub manifest: ManifestFound,
    /// Files whose bytes are not what the manifest says.
    pub damaged: Vec<Damage>,
    /// Files of the store that the manifest does not name. Where there is a manifest, the next start removes them.
    pub unnamed: Vec<String>,
    /// Files that are none of the store's.
    pub foreign: Vec<String>,
    /// A manifest that was written and not put in force, where it and all that it names are whole.
    pub next: Option<Manifest>,
}

/// What is there of the manifest in force.
#[derive(Debug)]
pub enum ManifestFound {
    /// There was never a checkpoint.
    Never,
    Good(Arc<Manifest>),
    Damaged(Damage),
}

impl StoreSurvey {
    /// The manifest in force, if it can be read.
    pub fn manifest(&self) -> Option<&Arc<Manifest>> {
        match &self.manifest {
            ManifestFound::Good(manifest) => Some(manifest),
            ManifestFound::Never | ManifestFound::Damaged(_) => None,
        }
    }
}

/// Reads every file of the store in `dir`.
///
/// # Errors
/// The disk does not answer, or a newer version wrote the manifest.
pub fn survey(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<StoreSurvey, FolderError> {
    let names = match fs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(FolderError::io("list", dir)(error)),
    };
    let files = Files::new(Arc::clone(fs), dir);
    let mut found = StoreSurvey {
        manifest: ManifestFound::Never,
        damaged: Vec::new(),
        unnamed: Vec::new(),
        foreign: Vec::new(),
        next: None,
    };
    if names.iter().any(|name| name == MANIFEST) {
        found.manifest = match read_manifest(&**fs, dir, MANIFEST) {
            Ok(manifest) => ManifestFound::Good(Arc::new(manifest)),
            Err(FolderError::Damaged(damage)) => ManifestFound::Damaged(damage),
            Err(error) => return Err(error),
        };
    } else if let Some(orphan) = names.iter().find(|name| name::number(name).is_some()) {
        let what = format!("the manifest is missing, but there are files that it should name, such as `{orphan}`");
        found.manifest = ManifestFound::Damaged(Damage { file: dir.join(MANIFEST), what, affected: None });
    }
    let manifest = found.manifest().cloned();
    if let Some(manifest) = &manifest {
        found.damaged = damaged(&files, manifest)?;
    } else if names.iter().any(|name| name == MANIFEST_PART) {
        found.next = match read_manifest(&**fs, dir, MANIFEST_PART) {
            Ok(next) if damaged(&files, &next)?.is_empty() => Some(next),
            Ok(_) | Err(FolderError::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
    }
    let named = |name: &str| manifest.iter().any(|manifest| manifest.files().any(|(file, _)| file.name == name));
    for name in names.into_iter().filter(|name| name != MANIFEST && !named(name)) {
        let ours = name == MANIFEST_PART || name::number(&name).is_some();
        if ours { &mut found.unnamed } else { &mut found.foreign }.push(name);
    }
    Ok(found)
}

fn damaged(files: &Files, manifest: &Manifest) -> Result<Vec<Damage>, FolderError> {
    let blobs = manifest.state.iter().chain(manifest.id_runs.iter().map(|run| &run.file));
    let blobs = blobs.map(|blob| files.read_blob(blob).err());
    let segments = manifest.segments().map(|segment| files.read_segment(segment).err());
    let mut damaged = Vec::new();
    for error in blobs.chain(segments).flatten() {
        match error {
            FolderError::Damaged(damage) => damaged.push(damage),
            error => return Err(error),
        }
    }
    Ok(damaged)
}
