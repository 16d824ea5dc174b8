//! The file system under the log and the store: the machine's own. For tests alone, one variable puts a layer over it
//! that forgets what was not synced, or fails at command; whoever sets it is told so loudly.

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use tidewatch_log::{FailingFs, FileSystem, ForgetfulFs, StdFs};

use crate::config::Environment;

/// For tests, never for production: layers over the disk, separated by commas, the lowest first. `forgetful` keeps what
/// is not synced in memory only, so that killing the process loses what a power cut would. `failing=FILE` fails as the
/// lines of that file say (`write ENOSPC`, `sync EIO 3`; see `FailingFs`), for as long as they stand there.
const VARIABLE: &str = "TIDEWATCH_TEST_DISK";

/// The file system that the process's variables ask for.
pub fn of_environment(environment: &Environment) -> anyhow::Result<Arc<dyn FileSystem>> {
    let mut disk: Arc<dyn FileSystem> = Arc::new(StdFs);
    let Some(layers) = environment.get(VARIABLE) else { return Ok(disk) };
    for layer in layers.split(',') {
        disk = match layer.split_once('=') {
            None if layer == "forgetful" => Arc::new(ForgetfulFs::over(disk)),
            Some(("failing", file)) => {
                let file = PathBuf::from(file);
                // No file is no command.
                let command = move || std::fs::read_to_string(&file).unwrap_or_default();
                Arc::new(FailingFs::over(disk, Arc::new(command)))
            }
            _ => {
                bail!("{VARIABLE} names the layer `{layer}`; there are `forgetful` and `failing=FILE`, for tests alone")
            }
        };
    }
    tracing::warn!(
        layers,
        "{VARIABLE} is set: THIS ENGINE LOSES OR REFUSES DATA ON PURPOSE. It is for tests; unset it for anything else"
    );
    Ok(disk)
}
