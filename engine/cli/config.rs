//! `tidewatch config`: checks the configuration as `serve` would, and shows what it comes to.

use std::io::{self, Write};

use super::SettingsArgs;
use crate::config::{Environment, Loaded, Origin};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let loaded = args.settings.load(&Environment::of_process())?;
    for warning in &loaded.warnings {
        eprintln!("tidewatch: warning: {warning}");
    }
    show(&loaded, out)?;
    Ok(())
}

/// One line per key: its value, and where that was written.
fn show(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<String> = loaded
        .shown
        .iter()
        .map(|shown| match &shown.value {
            Some(value) => format!("{} = {value}", shown.key),
            None => format!("{} is absent", shown.key),
        })
        .collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    for (line, shown) in lines.iter().zip(&loaded.shown) {
        match shown.origin {
            Origin::Default => writeln!(out, "{line}")?,
            _ => writeln!(out, "{line:width$}  # {}", shown.origin)?,
        }
    }
    for receiver in &loaded.config.receivers {
        writeln!(out, "receiver {}", receiver.name)?;
    }
    Ok(())
}
