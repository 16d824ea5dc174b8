//! `tidewatch rules check`: says of every view and rule whether it would run, and why not.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tidewatch_rules::RuleSet;

use super::{ANSWER_IS_NO, SettingsArgs};
use crate::{app, config::Environment, core::catalog};

/// Checks rule files without starting the engine.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Parses, plans and types every view and rule; exit code 3 where one is refused.
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let Command::Check(check) = &args.command;
    let loaded = check.settings.load(&Environment::of_process())?;
    let plan = match app::plan(&loaded.config) {
        Ok(plan) => plan,
        // Without its views a rule cannot be checked.
        Err(error) => match error.downcast::<app::Refusals>()? {
            app::Refusals(refusals) => {
                refusals.iter().try_for_each(|refusal| writeln!(out, "refused: {refusal}"))?;
                return Ok(ExitCode::from(ANSWER_IS_NO));
            }
        },
    };
    let rules = RuleSet::load(plan.rules.clone(), &catalog(&plan));
    report(&plan, &rules, out)?;
    Ok(if rules.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(ANSWER_IS_NO) })
}

fn report(plan: &crate::core::Plan, rules: &RuleSet, out: &mut dyn Write) -> io::Result<()> {
    for view in &plan.views {
        let names = |fields: Vec<&str>| fields.join(", ");
        let keys = names(view.meta.keys.iter().map(|key| key.name().as_str()).collect());
        let measures = names(view.meta.measures.iter().map(|measure| measure.field.name().as_str()).collect());
        writeln!(out, "view {}: keys [{keys}], measures [{measures}]", view.meta.name)?;
    }
    for rule in rules.rules() {
        let reads = rule.views().iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let speed = if rule.is_minute_local() { "reads one minute" } else { "reads its whole lookback" };
        writeln!(out, "rule {} ({}): over {reads}; {speed}", rule.name(), rule.header().severity)?;
    }
    for broken in rules.broken() {
        writeln!(out, "refused: {broken}")?;
    }
    writeln!(out, "{} views, {} rules, {} refused", plan.views.len(), rules.rules().len(), rules.broken().len())
}
