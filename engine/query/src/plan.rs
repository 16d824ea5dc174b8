//! From a statement to a physical plan over the shapes of tables. Plans hold no data and can be run
//! again and again; what they read is a `Reading`.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use datafusion::{
    common::{
        ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext,
        context::SQLOptions,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::LogicalPlan,
    physical_plan::{
        ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, execute_stream,
        execution_plan::reset_plan_states,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec},
    },
    prelude::{SessionConfig, SessionContext},
};
use tidewatch_model::{EventTime, ViewMeta, limits};
use tidewatch_store::TableShape;

use crate::{
    Parameter, QueryError, Reading, ViewTable,
    error::clean,
    give_way::GiveWay,
    named::NamedTable,
    statement::{parse, query_of, query_of_mut},
    trailing::rewrite,
};

/// The shapes of all tables: what planning needs to know.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    views: BTreeMap<String, Arc<ViewMeta>>,
    named: BTreeMap<String, Arc<TableShape>>,
}

impl Catalog {
    pub fn new(
        views: impl IntoIterator<Item = Arc<ViewMeta>>,
        named: impl IntoIterator<Item = Arc<TableShape>>,
    ) -> Self {
        Self {
            views: views.into_iter().map(|view| (view.name.clone(), view)).collect(),
            named: named.into_iter().map(|shape| (shape.name.clone(), shape)).collect(),
        }
    }

    /// The shapes of what a reading has at hand.
    pub fn of(reading: &Reading) -> Self {
        Self::new(
            reading.views().map(|view| Arc::clone(view.meta())),
            reading.named_tables().map(|table| Arc::clone(table.shape())),
        )
    }

    pub fn view(&self, name: &str) -> Option<&Arc<ViewMeta>> {
        self.views.get(name)
    }

    pub fn views(&self) -> impl Iterator<Item = &Arc<ViewMeta>> {
        self.views.values()
    }

    /// The same views, and of the other tables only these.
    #[must_use]
    pub fn with_only(&self, tables: &[&str]) -> Self {
        let named = self.named.iter().filter(|(name, _)| tables.contains(&name.as_str()));
        Self {
            views: self.views.clone(),
            named: named.map(|(name, shape)| (name.clone(), Arc::clone(shape))).collect(),
        }
    }

    pub fn has(&self, table: &str) -> bool {
        self.views.contains_key(table) || self.named.contains_key(table)
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.views.keys().chain(self.named.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.join(", ")
    }
}

/// A planned query.
#[derive(Clone, Debug)]
pub struct Prepared {
    physical: Arc<dyn ExecutionPlan>,
    /// As written, names resolved, nothing optimised: what was asked.
    pub written: LogicalPlan,
    /// After the optimizer: sub-queries are joins, constants are folded.
    pub optimised: LogicalPlan,
    pub explain: bool,
}

impl Prepared {
    pub fn schema(&self) -> SchemaRef {
        self.physical.schema()
    }

    /// Runs the plan once. It may be run again, also while this run lasts.
    pub fn run(
        &self,
        reading: Arc<Reading>,
        workspace: &Workspace,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        // Operators keep state and metrics of a run; each run gets operators of its own.
        let plan = reset_plan_states(Arc::clone(&self.physical))?;
        let config = settings().with_extension(reading);
        let context = TaskContext::new(
            None,
            String::new(),
            config,
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            Arc::clone(&workspace.runtime),
        );
        execute_stream(plan, Arc::new(context))
    }
}

/// Memory for runs: bounded, never spilled to disk. Runs that share one share its limit.
#[derive(Clone, Debug)]
pub struct Workspace {
    runtime: Arc<RuntimeEnv>,
    limit: usize,
}

impl Workspace {
    pub fn new(memory_bytes: usize) -> Result<Self, QueryError> {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|error| QueryError::Internal(clean(&error)))?;
        Ok(Self { runtime, limit: memory_bytes })
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that runs hold at this moment.
    pub fn held(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }
}

/// Plans queries over a catalog.
#[derive(Clone, Debug)]
pub struct Planner {
    catalog: Arc<Catalog>,
}

impl Planner {
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog: Arc::new(catalog) }
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// `now` is what `now()` means in the query. Takes milliseconds of the caller's thread.
    pub fn plan(&self, sql: &str, parameters: Vec<Parameter>, now: EventTime) -> Result<Prepared, QueryError> {
        // Planning recurses over the syntax tree, so it gets a stack that the greatest tree fits into.
        let planned = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("plan".to_owned())
                .stack_size(PLANNING_STACK_BYTES)
                .spawn_scoped(scope, || futures::executor::block_on(self.plan_here(sql, parameters, now)))
                .map(|thread| thread.join())
        });
        match planned {
            Ok(Ok(planned)) => planned,
            Ok(Err(_)) => Err(QueryError::Internal("planning panicked".to_owned())),
            Err(error) => Err(QueryError::Internal(format!("no thread to plan on: {error}"))),
        }
    }

    async fn plan_here(&self, sql: &str, parameters: Vec<Parameter>, now: EventTime) -> Result<Prepared, QueryError> {
        let mut statement = parse(sql)?;
        let explain = query_of(&statement).is_some_and(|(_, explain)| explain);
        let (context, state) = self.state(now)?;
        if let Some(query) = query_of_mut(&mut statement) {
            for table in rewrite(query, &self.catalog, &state)? {
                let provider = ViewTable::new(table.view, table.columns);
                context.register_table(table.name, Arc::new(provider)).map_err(|error| self.refused(&error))?;
            }
        }
        let written = state.statement_to_plan(statement).await.map_err(|error| self.refused(&error))?;
        let wanted = written.get_parameter_names().map_err(|error| self.refused(&error))?.len();
        if wanted != parameters.len() {
            let given = parameters.len();
            return Err(QueryError::bad(format!(
                "the SQL has {wanted} parameters ($1, …) and {given} values were given"
            )));
        }
        let values: Vec<ScalarValue> = parameters.into_iter().map(ScalarValue::from).collect();
        let written = written.with_param_values(values).map_err(|error| self.refused(&error))?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads
            .verify_plan(&written)
            .map_err(|error| QueryError::bad(format!("queries only read: {}", clean(&error))))?;
        let optimised = state.optimize(&written).map_err(|error| self.refused(&error))?;
        let physical = state
            .query_planner()
            .create_physical_plan(&optimised, &state)
            .await
            .and_then(yield_often)
            .map_err(|error| self.refused(&error))?;
        Ok(Prepared { physical, written, optimised, explain })
    }

    fn state(&self, now: EventTime) -> Result<(SessionContext, SessionState), QueryError> {
        let state = SessionStateBuilder::new_with_default_features().with_config(settings()).build();
        let context = SessionContext::new_with_state(state);
        for view in self.catalog.views.values() {
            let provider = ViewTable::new(Arc::clone(view), Vec::new());
            context.register_table(&view.name, Arc::new(provider)).map_err(|error| self.refused(&error))?;
        }
        for (name, shape) in &self.catalog.named {
            let provider = NamedTable(Arc::clone(shape));
            context.register_table(name, Arc::new(provider)).map_err(|error| self.refused(&error))?;
        }
        let mut state = context.state();
        let now: Option<DateTime<Utc>> = DateTime::from_timestamp_micros(now.micros());
        state.execution_props_mut().query_execution_start_time = now;
        Ok((context, state))
    }

    fn refused(&self, error: &DataFusionError) -> QueryError {
        match QueryError::from_engine(error, 0) {
            QueryError::BadQuery(message) if message.starts_with("table '") && message.ends_with("' not found") => {
                let name = message.trim_start_matches("table '").trim_end_matches("' not found");
                QueryError::bad(format!("there is no table `{name}`; the tables are {}", self.catalog.names()))
            }
            other => other,
        }
    }
}

/// 64 KiB a level at the limit of operators; only what is touched is ever taken.
const PLANNING_STACK_BYTES: usize = 64 << 20;
const _: () = assert!(PLANNING_STACK_BYTES / limits::SQL_OPERATORS_MAX >= 64 << 10);

/// One partition: the two cores have other work, and results come in one order. Strings are the engine's
/// own `Utf8`. Dynamic filters are left out because they are state shared between runs of a plan.
fn settings() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config
}

/// Scans give way after each few batches; a join can make thousands of batches out of one, or none out of
/// a thousand. So others get their turn before and after each join, a time limit among them.
fn yield_often(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let joins = |plan: &Arc<dyn ExecutionPlan>| {
        plan.downcast_ref::<HashJoinExec>().is_some()
            || plan.downcast_ref::<NestedLoopJoinExec>().is_some()
            || plan.downcast_ref::<CrossJoinExec>().is_some()
            || plan.downcast_ref::<SortMergeJoinExec>().is_some()
    };
    let polite = plan.transform_up(|node| {
        if !joins(&node) {
            return Ok(Transformed::no(node));
        }
        let inputs = node.children().into_iter().map(|input| GiveWay::around(Arc::clone(input))).collect();
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Transformed::yes(GiveWay::around(node.replace_children(inputs, options)?)))
    })?;
    Ok(polite.data)
}
