//! A rule that is ready to judge: its file, its plan, and what the plan's columns mean.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arrow::{array::RecordBatch, compute::cast, datatypes::DataType};
use datafusion::{error::DataFusionError, execution::SendableRecordBatchStream};
use futures::StreamExt;
use tidewatch_alerts::{Outcome, RuleAlerting, VerdictRow};
use tidewatch_model::{EventTime, Minute, limits};
use tidewatch_query::{Catalog, Planner, Prepared, QueryError, Reading, Scope, Workspace};

use crate::{
    Header, RuleError, RuleFile,
    check::{self, Role},
    locality::is_minute_local,
    rows::{Meaning, verdict_rows},
    summary::Template,
};

/// What one rule may use to judge one minute.
#[derive(Clone, Copy, Debug)]
pub struct RuleLimits {
    pub memory_bytes: usize,
    pub time: Duration,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, time: Duration::from_secs(2) }
    }
}

#[derive(Debug)]
pub struct Rule {
    file: RuleFile,
    prepared: Prepared,
    meaning: Meaning,
    views: BTreeSet<String>,
    minute_local: bool,
    alerting: RuleAlerting,
}

impl Rule {
    /// Plans and checks a rule over the shapes of the tables. Nothing is read.
    pub fn prepare(file: RuleFile, catalog: &Catalog) -> Result<Self, RuleError> {
        let allowed = catalog.with_only(&["alerts"]);
        // The checks refuse `now()`; what it would be does not matter.
        let planned = Planner::new(allowed).plan(&file.sql_in_place(), Vec::new(), EventTime::default());
        let prepared = planned.map_err(|error| {
            let message = error.to_string();
            let hidden = message
                .strip_prefix("there is no table `")
                .and_then(|rest| rest.split('`').next())
                .filter(|name| catalog.has(name));
            match hidden {
                Some(name) => file.sql_error(&format!("a rule reads views and `alerts`, not the raw table `{name}`")),
                None => file.sql_error(&message),
            }
        })?;
        let refused = |message: String| file.sql_error(&message);
        let views = check::plan(&prepared, file.header.lookback).map_err(refused)?;
        let schema = prepared.schema();
        let roles = check::roles(&schema).map_err(refused)?;
        let header = &file.header;
        let mut known: BTreeSet<String> = header.labels.keys().cloned().collect();
        for (field, role) in schema.fields().iter().zip(&roles) {
            if *role == Role::Label && !known.insert(field.name().clone()) {
                return Err(refused(format!(
                    "the label `{}` stands in the comment and is a column of the SELECT; choose one",
                    field.name()
                )));
            }
            known.insert(field.name().clone());
        }
        let template = Template::parse(&header.summary, &known).map_err(|message| at_summary(&file, message))?;
        Ok(Self {
            minute_local: is_minute_local(&prepared.optimised),
            meaning: Meaning { roles, severity: header.severity, labels: header.labels.clone(), template },
            alerting: alerting(header),
            prepared,
            views,
            file,
        })
    }

    pub fn name(&self) -> &str {
        &self.file.header.name
    }

    pub fn file(&self) -> &RuleFile {
        &self.file
    }

    pub fn header(&self) -> &Header {
        &self.file.header
    }

    pub fn alerting(&self) -> &RuleAlerting {
        &self.alerting
    }

    /// The views that the rule reads.
    pub fn views(&self) -> &BTreeSet<String> {
        &self.views
    }

    /// Whether a verdict reads its own minute only (and what statistics look back at).
    pub fn is_minute_local(&self) -> bool {
        self.minute_local
    }

    /// The verdict of one minute over a reading whose views are sealed up to that minute. A limit that is
    /// exceeded or an error of the SQL is the verdict, not an error of the caller's.
    pub async fn judge(&self, minute: Minute, tables: &Reading, workspace: &Workspace, time: Duration) -> Outcome {
        let from = match self.minute_local {
            true => minute,
            false => minute.plus(1 - self.header().lookback.minutes_ceil()),
        };
        let reading = Arc::new(tables.with_scope(Scope::sealed(from, minute)));
        let warming_up = self.is_warming_up(minute, tables);
        let judged = tokio::time::timeout(time, self.rows_of(minute, reading, workspace, warming_up)).await;
        match judged {
            Ok(Ok(rows)) => Outcome::Rows(rows),
            Ok(Err(reason)) => Outcome::Failed { reason },
            Err(_) => Outcome::Failed { reason: format!("ran longer than its {} s", time.as_secs_f64()) },
        }
    }

    async fn rows_of(
        &self,
        minute: Minute,
        reading: Arc<Reading>,
        workspace: &Workspace,
        warming_up: bool,
    ) -> Result<Vec<VerdictRow>, String> {
        let failed = |error: DataFusionError| match QueryError::from_engine(&error, workspace.limit()) {
            QueryError::OverMemory { limit } => format!("needed more than its {limit} bytes of memory"),
            other => other.to_string(),
        };
        let stream = self.prepared.run(reading, workspace).map_err(failed)?;
        let batches = self.batches_of(minute, stream).await?;
        verdict_rows(&batches, &self.meaning, warming_up)
    }

    /// The answer's rows of this minute; others fall away as they come.
    async fn batches_of(
        &self,
        minute: Minute,
        mut stream: SendableRecordBatchStream,
    ) -> Result<Vec<RecordBatch>, String> {
        let mut batches = Vec::new();
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| match QueryError::from_engine(&error, 0) {
                QueryError::OverMemory { .. } => "needed more memory than it may have".to_owned(),
                other => other.to_string(),
            })?;
            let batch = only(minute, &batch, &self.meaning.roles).map_err(|error| error.to_string())?;
            rows += batch.num_rows();
            if rows > limits::VERDICT_ROWS_MAX {
                return Err(format!("returned more than {} rows for one minute", limits::VERDICT_ROWS_MAX));
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Fewer than `warmup` minutes of history before this minute, in any of the rule's views.
    fn is_warming_up(&self, minute: Minute, tables: &Reading) -> bool {
        let wanted = self.header().warmup.unwrap_or(self.header().lookback).minutes_ceil();
        self.views.iter().filter_map(|name| tables.view(name)).any(|view| match view.oldest_sealed() {
            Some(oldest) => minute.index().saturating_sub(oldest.index()) < wanted,
            None => wanted > 0,
        })
    }
}

fn alerting(header: &Header) -> RuleAlerting {
    RuleAlerting {
        name: header.name.clone(),
        severity: header.severity,
        for_: header.for_,
        keep_firing_for: header.keep_firing_for,
        cooldown: header.cooldown,
        labels: header.labels.clone(),
        summary: header.summary.clone(),
    }
}

fn at_summary(file: &RuleFile, message: String) -> RuleError {
    RuleError { file: file.path.clone(), line: Some(file.sql_line), message }
}

fn only(minute: Minute, batch: &RecordBatch, roles: &[Role]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let Some(at) = roles.iter().position(|role| *role == Role::Minute) else { return Ok(batch.clone()) };
    let micros =
        cast(batch.column(at), &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())))?;
    let wanted = arrow::array::TimestampMicrosecondArray::new_scalar(minute.start().micros());
    let wanted = arrow::array::Scalar::new(wanted.into_inner().with_timezone("UTC"));
    let keep = arrow::compute::kernels::cmp::eq(&micros, &wanted)?;
    arrow::compute::filter_record_batch(batch, &keep)
}
