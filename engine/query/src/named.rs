//! Tables that are not views: `transactions`, `rejected_events`, `alerts`, `rules` and their like. What they hold is the
//! store's; here is how a query reads it: only the columns and the stretch of time that it needs, piece by piece.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DataFusionError, Result},
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::{
        ExecutionPlan,
        coop::make_cooperative,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{TryStreamExt, stream};
use tidewatch_model::Minute;
use tidewatch_store::{TableScan, TableShape};

use crate::{Reading, bounds, minutes::unread};

/// A table in a plan.
#[derive(Clone, Debug)]
pub(crate) struct NamedTable(pub Arc<TableShape>);

impl NamedTable {
    fn time(&self) -> Option<&str> {
        self.0.time.and_then(|at| self.0.schema.fields().get(at)).map(|field| field.name().as_str())
    }
}

#[async_trait]
impl TableProvider for NamedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let bounded = |filter: &&Expr| self.time().is_some_and(|time| bounds::minutes_around(filter, time).is_some());
        let support = |filter| match bounded(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.0.schema.fields().len()).collect());
        let around = |time: &str| {
            let of = filters.iter().filter_map(|filter| bounds::minutes_around(filter, time));
            of.fold(EVER, |all, of| (all.0.max(of.0), all.1.min(of.1)))
        };
        let partition = NamedScan {
            name: self.0.name.clone(),
            schema: Arc::new(self.0.schema.project(&columns)?),
            columns,
            minutes: self.time().map_or(EVER, around),
        };
        let schema = Arc::clone(&partition.schema);
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(partition)], None, [], false, limit)?))
    }
}

const EVER: (Minute, Minute) = (Minute::from_index(i64::MIN), Minute::from_index(i64::MAX));

/// What a query reads of a table.
#[derive(Debug)]
struct NamedScan {
    name: String,
    schema: SchemaRef,
    columns: Vec<usize>,
    /// Rows of other minutes need not be read.
    minutes: (Minute, Minute),
}

impl NamedScan {
    fn start(&self, context: &TaskContext) -> Result<(TableScan, MemoryReservation)> {
        let reading = Reading::of(context)?;
        let table = reading.named(&self.name).ok_or_else(|| {
            DataFusionError::Execution(format!("table `{}` is not at hand in this reading", self.name))
        })?;
        let scan = table.scan(&self.columns, self.minutes).map_err(unread)?;
        let consumer = MemoryConsumer::new(format!("scan of {}", self.name));
        Ok((scan, consumer.register(&context.runtime_env().memory_pool)))
    }
}

impl PartitionStream for NamedScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let started = self.start(&context);
        let batches = stream::once(async move { started }).map_ok(|started| {
            stream::try_unfold(started, |(mut scan, held)| async move {
                let Some(batch) = scan.next() else { return Ok(None) };
                let batch = batch.map_err(unread)?;
                held.try_resize(scan.bytes() + batch.get_array_memory_size())?;
                Ok(Some((batch, (scan, held))))
            })
        });
        make_cooperative(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches.try_flatten())))
    }
}
