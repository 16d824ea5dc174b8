//! `tidewatch doctor`: examines a data folder that no engine uses, and repairs it when told to. What it says is meant to be
//! read at night.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use anyhow::ensure;
use tidewatch_log::{DataFolderLock, Survey};
use tidewatch_store::{ManifestFound, StoreSurvey};

use super::{ANSWER_IS_NO, SettingsArgs};
use crate::{
    clock::SystemClock,
    config::Environment,
    disk,
    doctor::{Examination, Finding, Remedy, examine, repair},
    quarantine::Quarantine,
};

/// Columns of a line, so that sentences stay readable on a wide terminal.
const WIDTH: usize = 96;

/// Checks every byte of a data folder, explains what is wrong and what can be done; exit code 3 where it is not sound.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Does what can be done. Without it nothing is changed.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let data_dir = args.settings.load(&environment)?.config.data_dir;
    ensure!(data_dir.is_dir(), "there is no data folder {}; name another with --data-dir", data_dir.display());
    let _lock = DataFolderLock::acquire(&data_dir)?;
    let disk = disk::of_environment(&environment)?;
    writeln!(out, "Data folder {}\n", data_dir.display())?;
    let examination = examine(&disk, &data_dir)?;
    show(&examination, out)?;
    if !args.repair {
        conclude(&examination, out)?;
        return Ok(code(&examination));
    }
    if examination.is_sound() {
        conclude(&examination, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "Repairing. What is damaged is copied into {}/quarantine first.", data_dir.display())?;
    out.flush()?;
    let quarantine = Quarantine::new(Arc::clone(&disk), &data_dir, Arc::new(SystemClock));
    for action in repair(&disk, &data_dir, &examination, &quarantine)? {
        wrapped(&format!("Done: {}.", action.text()), "   ", out)?;
    }
    writeln!(out, "\nAfter the repair\n")?;
    let examination = examine(&disk, &data_dir)?;
    show(&examination, out)?;
    conclude(&examination, out)?;
    Ok(code(&examination))
}

fn code(examination: &Examination) -> ExitCode {
    if examination.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(ANSWER_IS_NO) }
}

/// What there is in two lines, then faults, then what is only worth knowing.
fn show(examination: &Examination, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "   log    {}", log_line(examination.log.as_ref()))?;
    writeln!(out, "   store  {}\n", store_line(&examination.store))?;
    let (faults, notes): (Vec<_>, Vec<_>) = examination.findings.iter().partition(|finding| finding.is_a_fault());
    for (number, finding) in (1..).zip(faults.into_iter().chain(notes)) {
        show_finding(number, finding, out)?;
    }
    Ok(())
}

fn log_line(log: Option<&Survey>) -> String {
    match log {
        None => "nothing that can be read".to_owned(),
        Some(log) if log.first == log.next => "no record".to_owned(),
        Some(log) => format!("records {} to {}", log.first, log.next.0 - 1),
    }
}

fn store_line(store: &StoreSurvey) -> String {
    match &store.manifest {
        ManifestFound::Never => "no checkpoint".to_owned(),
        ManifestFound::Damaged(_) => "no manifest that can be read".to_owned(),
        ManifestFound::Good(manifest) if manifest.is_blank() => "no checkpoint".to_owned(),
        ManifestFound::Good(manifest) => {
            let (files, bytes) =
                manifest.files().fold((0, 0), |(files, bytes), (file, _)| (files + 1, bytes + file.bytes));
            let (version, applied) = (manifest.version.number(), manifest.applied);
            format!("format {version}, a checkpoint up to record {applied}: {files} files, {bytes} bytes, all read")
        }
    }
}

fn show_finding(number: usize, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let mark = if finding.is_a_fault() { "FAULT" } else { "note" };
    writeln!(out, "{number}. {mark}: {}", finding.place)?;
    wrapped(&finding.what, "   ", out)?;
    let remedy = match &finding.remedy {
        Remedy::NotNeeded(why) => format!("Nothing to do: {why}."),
        Remedy::Repair(action) => format!("Repair: {}.", action.text()),
        Remedy::Impossible(advice) => format!("Cannot be repaired: {advice}."),
    };
    wrapped(&remedy, "   ", out)?;
    writeln!(out)
}

fn conclude(examination: &Examination, out: &mut dyn Write) -> io::Result<()> {
    let faults = examination.findings.iter().filter(|finding| finding.is_a_fault()).count();
    let repairable = examination.findings.iter().filter(|finding| matches!(finding.remedy, Remedy::Repair(_))).count();
    let noun = if faults == 1 { "fault" } else { "faults" };
    match (faults, repairable) {
        (0, _) if examination.findings.is_empty() => writeln!(out, "Sound: every byte is what was written."),
        (0, _) => writeln!(out, "Sound: nothing that counts is missing."),
        (_, 0) => writeln!(out, "{faults} {noun}, none of which can be repaired here."),
        (_, _) => writeln!(
            out,
            "{faults} {noun}. Nothing was changed; `tidewatch doctor --repair` repairs {repairable} of them."
        ),
    }
}

/// Words on lines of at most `WIDTH` columns.
fn wrapped(text: &str, indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{indent}{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{indent}{line}")
}
