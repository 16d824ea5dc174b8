//! The scan of a view: reads the minutes that both the reading's scope and the query's filters leave,
//! piece by piece, so that a long range never lies in memory as a whole.

use std::{collections::VecDeque, fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute::concat_batches,
    datatypes::SchemaRef,
};
use datafusion::{
    common::{DataFusionError, Result, tree_node::TreeNodeRecursion},
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::EquivalenceProperties,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
        ReplaceChildrenOptions,
        coop::make_cooperative,
        execution_plan::{Boundedness, EmissionType, SchedulingType},
        stream::RecordBatchStreamAdapter,
    },
};
use tidewatch_model::{Minute, ViewMeta, limits};

use crate::{MinuteTable, Reading, Rows, Trailing, baselines::Loaded, bounds::Bounds, minutes::unread};

#[derive(Clone, Debug)]
pub struct MinuteScan {
    meta: Arc<ViewMeta>,
    trailing: Arc<[Trailing]>,
    /// Which columns of the view, hidden ones behind them, are wanted.
    projection: Arc<[usize]>,
    schema: SchemaRef,
    bounds: Bounds,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl MinuteScan {
    pub fn new(
        meta: Arc<ViewMeta>,
        trailing: Arc<[Trailing]>,
        full: SchemaRef,
        projection: Option<Vec<usize>>,
        bounds: Bounds,
        limit: Option<usize>,
    ) -> Result<Self> {
        let projection = projection.unwrap_or_else(|| (0..full.fields().len()).collect());
        let schema = Arc::new(full.project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            meta,
            trailing,
            projection: projection.into(),
            schema,
            bounds,
            limit,
            properties: Arc::new(properties),
        })
    }

    /// The hidden columns that the query really reads.
    fn wanted(&self) -> impl Iterator<Item = (usize, &Trailing)> {
        let own = self.meta.schema().fields().len();
        self.projection.iter().filter_map(move |at| Some((*at, self.trailing.get(at.checked_sub(own)?)?)))
    }

    fn start(&self, context: &TaskContext) -> Result<Progress> {
        let reading = Reading::of(context)?;
        let table = reading.view(&self.meta.name).cloned().ok_or_else(|| {
            DataFusionError::Execution(format!("view `{}` is not at hand in this reading", self.meta.name))
        })?;
        let scope = reading.scope();
        let bounds = self.bounds.and(Bounds { from: scope.from, to: scope.to, sealed: true, open: scope.open });
        let oldest = table.oldest().unwrap_or(Minute::from_index(i64::MAX));
        let sealed_to = match table.sealed_through() {
            Some(newest) if bounds.sealed => bounds.to.min(newest),
            _ => Minute::from_index(i64::MIN),
        };
        let reservation =
            MemoryConsumer::new(format!("scan of {}", self.meta.name)).register(&context.runtime_env().memory_pool);
        Ok(Progress {
            scan: self.clone(),
            next: bounds.from.max(oldest),
            sealed_to,
            open_left: bounds.open && bounds.from <= bounds.to,
            bounds,
            reading,
            table,
            reservation,
            piece: PIECE_MINUTES_FIRST,
            ready: VecDeque::new(),
            rows_left: self.limit.unwrap_or(usize::MAX),
            batch_rows: context.session_config().batch_size(),
        })
    }
}

/// Minutes read at once to begin with; the piece then grows or shrinks with the rows it gave.
const PIECE_MINUTES_FIRST: i64 = 64;
const PIECE_MINUTES_MAX: i64 = 1 << 14;
const PIECE_ROWS_FEW: usize = 1 << 14;
const PIECE_ROWS_MANY: usize = 1 << 17;

struct Progress {
    scan: MinuteScan,
    reading: Arc<Reading>,
    table: Arc<dyn MinuteTable>,
    bounds: Bounds,
    /// The next sealed minute to read, up to and including `sealed_to`.
    next: Minute,
    sealed_to: Minute,
    open_left: bool,
    piece: i64,
    ready: VecDeque<RecordBatch>,
    reservation: MemoryReservation,
    rows_left: usize,
    batch_rows: usize,
}

impl Progress {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.rows_left == 0 {
                return Ok(None);
            }
            if let Some(batch) = self.ready.pop_front() {
                let batch = if batch.num_rows() > self.rows_left { batch.slice(0, self.rows_left) } else { batch };
                self.rows_left -= batch.num_rows();
                return Ok(Some(batch));
            }
            let piece = if self.next <= self.sealed_to {
                self.sealed_piece()?
            } else if std::mem::take(&mut self.open_left) {
                self.open_piece()?
            } else {
                return Ok(None);
            };
            let mut at = 0;
            while at < piece.num_rows() {
                let rows = self.batch_rows.min(piece.num_rows() - at);
                self.ready.push_back(piece.slice(at, rows));
                at += rows;
            }
        }
    }

    fn sealed_piece(&mut self) -> Result<RecordBatch> {
        let (from, to) = (self.next, self.sealed_to.min(self.next.plus(self.piece - 1)));
        self.next = to.next();
        let back = self.scan.wanted().map(|(_, call)| call.minutes).max().unwrap_or(0);
        let read = (from.plus(-back), to);
        let baselines = Arc::clone(self.reading.baselines());
        let loaded = baselines.sealed(self.table.as_ref(), read.0, read.1)?;
        self.hold(&loaded)?;
        let first = loaded.first_of(from);
        let rows = loaded.minutes.len() - first;
        if rows < PIECE_ROWS_FEW {
            self.piece = (self.piece * 2).min(PIECE_MINUTES_MAX);
        } else if rows > PIECE_ROWS_MANY {
            self.piece = (self.piece / 2).max(1);
        }
        let view = &self.scan.meta.name;
        self.assemble(&loaded, first, |call| baselines.column(view, read, &loaded, call, first))
    }

    /// Open minutes, whose statistics look at the sealed minutes and at the open ones before them.
    fn open_piece(&mut self) -> Result<RecordBatch> {
        let open = self.table.open_rows(self.bounds.from, self.bounds.to).map_err(unread)?;
        let back = self.scan.wanted().map(|(_, call)| call.minutes).max().unwrap_or(0);
        let opened = Loaded::new(open.clone())?;
        let (Some(least), Some(most)) = (opened.minutes.iter().min(), opened.minutes.iter().max()) else {
            return self.assemble(&opened, 0, |call| opened.trailing(call, 0));
        };
        if back == 0 {
            self.hold(&opened)?;
            return self.assemble(&opened, 0, |call| opened.trailing(call, 0));
        }
        let start = Minute::from_index(*least).plus(-back);
        let before = self.table.sealed_rows(start, Minute::from_index(*most)).map_err(unread)?;
        // A filter on `minute` may leave out open minutes that the window still looks at.
        let between = match Minute::from_index(*least) {
            first if first > start => self.table.open_rows(start, first.plus(-1)).map_err(unread)?,
            _ => Rows { batch: open.batch.slice(0, 0), series: Vec::new() },
        };
        let first = before.series.len() + between.series.len();
        let batch = concat_batches(self.scan.meta.schema(), [&before.batch, &between.batch, &open.batch])?;
        let series = [before.series, between.series, open.series].concat();
        let together = Loaded::new(Rows { batch, series })?;
        self.hold(&together)?;
        self.assemble(&together, first, |call| together.trailing(call, first))
    }

    fn hold(&mut self, loaded: &Loaded) -> Result<()> {
        self.reservation.try_resize(loaded.bytes())
    }

    /// The wanted columns of the rows from `first` on.
    fn assemble(
        &self,
        loaded: &Loaded,
        first: usize,
        column: impl Fn(&Trailing) -> Result<ArrayRef>,
    ) -> Result<RecordBatch> {
        let own = self.scan.meta.schema().fields().len();
        let rows = loaded.minutes.len() - first;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.scan.projection.len());
        for at in self.scan.projection.iter() {
            columns.push(match at.checked_sub(own) {
                None => loaded.rows.batch.column(*at).slice(first, rows),
                // The projection was checked against the schema, which has one field per call.
                Some(hidden) => column(&self.scan.trailing[hidden])?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.scan.schema), columns, &options)?)
    }
}

impl DisplayAs for MinuteScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MinuteScan: view={}", self.meta.name)?;
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", columns=[{}]", names.join(", "))?;
        if self.bounds.from > Bounds::ALL.from {
            write!(f, ", from={}", self.bounds.from)?;
        }
        if self.bounds.to < Bounds::ALL.to {
            write!(f, ", to={}", self.bounds.to)?;
        }
        if !self.bounds.open {
            write!(f, ", sealed only")?;
        }
        for (_, call) in self.wanted() {
            write!(f, ", {}", call.describe())?;
        }
        Ok(())
    }
}

impl ExecutionPlan for MinuteScan {
    fn name(&self) -> &'static str {
        "MinuteScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("a scan has no inputs".to_owned())) }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("a scan has no inputs".to_owned())) }
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let progress = self.start(&context)?;
        let batches = futures::stream::try_unfold(progress, |mut progress| async move {
            Ok(progress.next_batch()?.map(|batch| (batch, progress)))
        });
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))))
    }
}

const _: () = assert!(PIECE_ROWS_FEW < PIECE_ROWS_MANY && limits::BASELINE_BYTES_MAX > PIECE_ROWS_MANY);
