//! A view as a table: its columns, the hidden ones that `trailing_*` calls add, and what it takes of
//! a query's filters. How rows are read is the scan's business.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};
use tidewatch_model::ViewMeta;

use crate::{Trailing, bounds::Bounds, scan::MinuteScan};

#[derive(Debug)]
pub struct ViewTable {
    meta: Arc<ViewMeta>,
    trailing: Arc<[Trailing]>,
    schema: SchemaRef,
}

impl ViewTable {
    /// `trailing` are hidden columns behind the view's own, under the names given.
    pub(crate) fn new(meta: Arc<ViewMeta>, trailing: Vec<(String, Trailing)>) -> Self {
        let mut fields: Vec<FieldRef> = meta.schema().fields().iter().cloned().collect();
        fields.extend(trailing.iter().map(|(name, _)| Arc::new(Field::new(name, DataType::Float64, true))));
        let trailing = trailing.into_iter().map(|(_, call)| call).collect();
        Self { meta, trailing, schema: Arc::new(Schema::new(fields)) }
    }

    pub fn meta(&self) -> &Arc<ViewMeta> {
        &self.meta
    }

    pub fn trailing(&self) -> &[Trailing] {
        &self.trailing
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| Bounds::support(filter)).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = MinuteScan::new(
            Arc::clone(&self.meta),
            Arc::clone(&self.trailing),
            Arc::clone(&self.schema),
            projection.cloned(),
            Bounds::of(filters),
            limit,
        )?;
        Ok(Arc::new(scan))
    }
}
