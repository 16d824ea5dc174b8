//! `tidewatch upgrade`: a data folder of an older format gets the newest one, when the operator says so. Until then this
//! version changes nothing in it, and the one before still opens it.

use std::{io::Write, process::ExitCode};

use anyhow::{Context, ensure};
use tidewatch_log::DataFolderLock;
use tidewatch_store::{Folder, FormatVersion};

use super::SettingsArgs;
use crate::{config::Environment, disk};

/// What each format after the first changed, for whoever decides.
const CHANGES: [(u32, &str); 1] =
    [(2, "segments are merged within hours and days, also around damaged ones, and may share records")];

/// Says of which format a data folder is and what the newest one changes; commits the change when told to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Gives the folder the newest format. The version before does not open it from then on. Without it nothing is changed.
    #[arg(long)]
    commit: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let data_dir = args.settings.load(&environment)?.config.data_dir;
    let (shown, store) = (data_dir.display(), data_dir.join("store"));
    ensure!(store.is_dir(), "there is no store in the data folder {shown}; name another with --data-dir");
    let _lock = DataFolderLock::acquire(&data_dir)?;
    let (mut folder, _) = Folder::open(disk::of_environment(&environment)?, &store)?;
    let found = folder.manifest().version;
    let newest = FormatVersion::NEWEST.number();
    if !found.is_older() {
        writeln!(out, "{shown} is of format {newest}, the newest that this version knows: there is nothing to do.")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{shown} is of format {}; this version writes format {newest}.", found.number())?;
    for (format, change) in CHANGES.iter().filter(|(format, _)| *format > found.number()) {
        writeln!(out, "   format {format}: {change}")?;
    }
    if args.commit {
        folder.upgrade().with_context(|| format!("{shown} stays of format {}", found.number()))?;
        writeln!(
            out,
            "Committed: {shown} is of format {newest} now, and the version before does not open it any more."
        )?;
    } else {
        writeln!(
            out,
            "Nothing was changed, and the version before still opens the folder. Afterwards it does not: the way back is a\n\
             backup, made now with `tidewatch backup`. `tidewatch upgrade --commit` changes the format; it takes a moment."
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
