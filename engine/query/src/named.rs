//! Tables that are not views: `transactions`, `rejected_events`, `alerts`, `rules` and their like.
//! Whoever owns the data hands it in as a closure; nothing is kept here.

use std::{fmt, sync::Arc};

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    logical_expr::{Expr, TableType},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use crate::Reading;

/// Gives a table's rows when a query reads it.
pub type Batches = Arc<dyn Fn() -> Vec<RecordBatch> + Send + Sync>;

/// A table by name. The batches must have the schema.
#[derive(Clone)]
pub struct NamedTable {
    pub name: String,
    pub schema: SchemaRef,
    pub batches: Batches,
}

impl fmt::Debug for NamedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedTable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the planner knows of such a table: its name and its shape.
#[derive(Clone, Debug)]
pub(crate) struct NamedShape {
    pub name: String,
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for NamedShape {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        let partition: Arc<dyn PartitionStream> = Arc::new(self.clone());
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![partition], projection, [], false, limit)?))
    }
}

impl PartitionStream for NamedShape {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let this = self.clone();
        let rows = async move {
            let reading = Reading::of(&ctx)?;
            let Some(table) = reading.named(&this.name) else {
                return Err(DataFusionError::Execution(format!(
                    "table `{}` is not at hand in this reading",
                    this.name
                )));
            };
            let batches = (table.batches)();
            let reservation =
                MemoryConsumer::new(format!("scan of {}", this.name)).register(&ctx.runtime_env().memory_pool);
            reservation.try_grow(batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
            // The reservation lives as long as the rows do: it moves into the stream.
            Ok(futures::stream::iter(batches.into_iter().map(move |batch| {
                let _held = &reservation;
                Ok(batch)
            })))
        };
        let stream = futures::TryStreamExt::try_flatten(futures::stream::once(rows));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}
