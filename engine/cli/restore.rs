//! `tidewatch restore`: brings a backup back into an empty folder, on which an engine then starts.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use tidewatch_backup::{Target, restore};
use tidewatch_log::DataFolderLock;

use super::{SettingsArgs, backup::from_anywhere, moving::Moving};
use crate::{config::Environment, disk};

/// Brings a backup back into an empty folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where backups are kept, as given to `tidewatch backup`
    #[arg(long, value_name = "URL")]
    from: String,
    /// Which backup, as `tidewatch backup --list` names it
    #[arg(long, value_name = "ID", default_value = "latest")]
    id: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let data_dir = args.settings.load(&environment)?.config.data_dir;
    let target = Target::open(&from_anywhere(&args.from)?)?;
    let id = if args.id == "latest" { target.latest().await? } else { args.id };
    let descriptor = target.descriptor(&id).await?;
    let _lock = DataFolderLock::acquire(&data_dir)?;
    let moving = Moving::new();
    let disk = disk::of_environment(&environment)?;
    let restored = restore(&descriptor, &target, &*disk, &data_dir, |progress| moving.is_at(&progress)).await;
    moving.end();
    restored.with_context(|| format!("the backup {id} was not restored into {}", data_dir.display()))?;
    let (last, made_at, folder) = (descriptor.last, descriptor.made_at, data_dir.display());
    writeln!(
        io::stdout().lock(),
        "{id}: records up to {last}, as of {made_at}, are in {folder}; start it with `tidewatch serve --data-dir {folder}`"
    )?;
    Ok(ExitCode::SUCCESS)
}
