//! `tidewatch backup`: copies a data folder to an object store. Where an engine runs on the folder, the engine does it, asked
//! at the address that its lock announces; else the folder is locked and copied here.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use indicatif::HumanBytes;
use tidewatch_backup::{Descriptor, LOG, Progress, Source, Target, back_up};
use tidewatch_log::{DataFolderLock, FileSystem, LockError};
use tidewatch_serve::proto::tidewatch::v1::{BackupRequest, admin_client::AdminClient};

use super::{SettingsArgs, moving::Moving, server};
use crate::{app::random_id, backups::making, clock::SystemClock, config::Environment, disk};

/// Copies the data folder to an object store, while the engine runs or when it stands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where backups are kept: a folder, file:///folder, s3://bucket/folder, gs://bucket/folder or az://container/folder
    #[arg(long, value_name = "URL")]
    to: String,
    /// Shows the backups that are there, and makes none
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let to = from_anywhere(&args.to)?;
    if args.list {
        list(&Target::open(&to)?, &mut io::stdout().lock()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let environment = Environment::of_process();
    let data_dir = args.settings.load(&environment)?.config.data_dir;
    if !data_dir.join(LOG).is_dir() {
        bail!("there is no data in {} yet; name the folder with --data-dir", data_dir.display());
    }
    match DataFolderLock::acquire(&data_dir) {
        Ok(lock) => standing(disk::of_environment(&environment)?, data_dir, &to, &lock).await?,
        Err(LockError::Held { commands: Some(engine), .. }) => running(&engine, &data_dir, to).await?,
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// An engine that does the work has another working folder.
pub fn from_anywhere(url: &str) -> anyhow::Result<String> {
    if url.contains("://") || url.is_empty() {
        return Ok(url.to_owned());
    }
    let folder = std::path::absolute(url).with_context(|| format!("`{url}` is no folder"))?;
    Ok(folder.display().to_string())
}

/// The lock is held by the caller.
async fn standing(
    disk: Arc<dyn FileSystem>,
    data_dir: PathBuf,
    to: &str,
    _lock: &DataFolderLock,
) -> anyhow::Result<()> {
    let target = Target::make(to)?;
    let shown = data_dir.display().to_string();
    let source = Source::standing(disk, data_dir, random_id())
        .with_context(|| format!("the data folder {shown} cannot be opened"))?;
    let moving = Moving::new();
    let (descriptor, progress) =
        back_up(source, &target, making(&SystemClock), |progress| moving.is_at(&progress)).await?;
    moving.end();
    Ok(made(&descriptor.id, descriptor.last.0, &progress)?)
}

async fn running(engine: &str, data_dir: &Path, to: String) -> anyhow::Result<()> {
    let channel = server::endpoint(engine)?.connect().await.with_context(|| {
        format!("the engine that uses {} does not answer at {engine}, where its lock says", data_dir.display())
    })?;
    let refused = |status: tonic::Status| anyhow::anyhow!("{}", status.message());
    let mut news = AdminClient::new(channel).backup(BackupRequest { to }).await.map_err(refused)?.into_inner();
    let moving = Moving::new();
    while let Some(news) = news.message().await.map_err(refused)? {
        let progress = Progress {
            objects: news.objects,
            bytes: news.bytes,
            objects_done: news.objects_done,
            bytes_done: news.bytes_done,
            bytes_moved: news.bytes_sent,
        };
        moving.is_at(&progress);
        if let Some(done) = news.done {
            moving.end();
            return Ok(made(&done.id, done.last_lsn, &progress)?);
        }
    }
    bail!("the engine's answer ended before the backup was done; there is no backup")
}

fn made(id: &str, last: u64, progress: &Progress) -> io::Result<()> {
    let (objects, bytes, sent) = (progress.objects, HumanBytes(progress.bytes), HumanBytes(progress.bytes_moved));
    writeln!(io::stdout().lock(), "{id}: records up to {last}; {objects} files, {bytes}, of which {sent} were new")
}

async fn list(target: &Target, out: &mut dyn Write) -> anyhow::Result<()> {
    for id in target.backups().await? {
        match target.descriptor(&id).await {
            Ok(Descriptor { made_at, last, objects, engine, .. }) => {
                let bytes = HumanBytes(objects.iter().map(|object| object.bytes).sum());
                let files = objects.len();
                writeln!(out, "{id}  {made_at}  records up to {last}; {files} files, {bytes}; by tidewatch {engine}")?;
            }
            Err(error) => writeln!(out, "{id}  cannot be used: {error}")?,
        }
    }
    Ok(())
}
