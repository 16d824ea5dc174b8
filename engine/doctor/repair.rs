//! Does what an examination said would be done. What it takes away it first copies or moves into the quarantine.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use tidewatch_log::FileSystem;
use tidewatch_model::Lsn;
use tidewatch_store::{Folder, Manifest};

use super::{Action, Examination, examine::loses};
use crate::quarantine::Quarantine;

/// Repairs what can be repaired. Returns what was done; whether the folder is sound then, another examination says.
pub fn repair(
    disk: &Arc<dyn FileSystem>,
    data_dir: &Path,
    examination: &Examination,
    quarantine: &Quarantine,
) -> anyhow::Result<Vec<Action>> {
    let before = examination.store.manifest().map_or(Lsn(0), |manifest| manifest.applied.next());
    let lost = examination.log.iter().flat_map(|log| &log.lost);
    lost.filter(|lost| loses(lost, before)).for_each(|lost| drop(quarantine.log(lost, (None, None))));
    if let Some(manifest) = examination.store.manifest() {
        examination.store.damaged.iter().for_each(|damage| drop(quarantine.stored(damage, manifest)));
    }
    let store = data_dir.join("store");
    let actions = examination.actions();
    for action in &actions {
        match action {
            Action::RebuildFromLog => {
                set_aside(disk, &store, quarantine).context("the store could not be set aside")?
            }
            Action::UseNextManifest => {
                quarantine.set_aside(&store.join("MANIFEST")).context("the manifest could not be set aside")?;
                let put = disk.rename(&store.join("MANIFEST.part"), &store.join("MANIFEST"));
                put.and_then(|()| disk.sync_dir(&store)).context("the next manifest could not be put in force")?;
            }
            Action::DropTableSegment(name) => {
                drop_table_segment(disk, &store, name).with_context(|| format!("{name} could not be dropped"))?;
            }
        }
    }
    Ok(actions)
}

/// The manifest goes first: a repair that breaks off leaves a store that is seen to be damaged, and none that is half.
fn set_aside(disk: &Arc<dyn FileSystem>, store: &Path, quarantine: &Quarantine) -> anyhow::Result<()> {
    let mut names = disk.list(store)?;
    names.sort_by_key(|name| name != "MANIFEST");
    for name in names {
        quarantine.set_aside(&store.join(name))?;
        disk.sync_dir(store)?;
    }
    Ok(())
}

fn drop_table_segment(disk: &Arc<dyn FileSystem>, store: &Path, name: &str) -> anyhow::Result<()> {
    let (mut folder, _) = Folder::open(Arc::clone(disk), store)?;
    let mut manifest = Manifest::clone(&folder.manifest());
    for segments in manifest.tables.values_mut() {
        segments.retain(|segment| segment.file.name != name);
    }
    folder.commit(manifest)?;
    Ok(())
}
