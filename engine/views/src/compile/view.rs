//! `CREATE MATERIALIZED VIEW … AS SELECT … GROUP BY …`: from SQL to a `View`.

use std::{collections::BTreeSet, sync::Arc};

use arrow::datatypes::{DataType, Field};
use datafusion::{
    common::{
        DFSchema, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    datasource::empty::EmptyTable,
    logical_expr::{
        Expr, ExprSchemable, LogicalPlan, Operator,
        expr::ScalarFunction,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
    physical_plan::PhysicalExpr,
    prelude::SessionContext,
    sql::{
        parser::Statement as DfStatement,
        sqlparser::{
            ast::{CreateView, Statement},
            dialect::GenericDialect,
            parser::Parser,
        },
    },
};
use futures::FutureExt;
use tidewatch_model::{Fill, Measure, Span, ViewMeta, Window};

use super::{
    Refusal, Source, Stream,
    aggregates::{call_of, kind_of},
    options::Options,
    shape::{Shape, shape_of},
};
use crate::{
    functions,
    states::Kind,
    view::{Aggregate, KeyLimit, View, inner_schema},
};

const OPTIONS: &[&str] = &[
    "retention",
    "retention_5m",
    "retention_1h",
    "retention_1d",
    "fill",
    "fill_horizon",
    "max_keys",
    "overflow",
    "expose",
];
const KEYS_MAX_DEFAULT: usize = 20_000;
const RETENTION_DEFAULT: Span = Span::from_minutes(90 * 24 * 60);
const FILL_HORIZON_DEFAULT: Span = Span::from_minutes(24 * 60);

/// Compiles one view's file against the stream that it reads.
pub fn compile_view(stream: &Stream, file: &str, text: &str) -> Result<View, Refusal> {
    let source = Source { file, text };
    let statements = Parser::parse_sql(&GenericDialect {}, text).map_err(|e| source.refuse_parse(&e.to_string()))?;
    let [Statement::CreateView(create)] = statements.as_slice() else {
        return Err(source.refuse("a view's file holds one `CREATE MATERIALIZED VIEW name WITH (…) AS SELECT …`"));
    };
    if !create.materialized {
        return Err(source.refuse("a view must be MATERIALIZED: it is kept, not computed when asked"));
    }
    let options = Options::read(source, &create.options, OPTIONS)?;
    let session = planning_session(stream);
    let plan = analysed(&session, create).map_err(|error| source.refuse_plan(&error))?;
    let shape = shape_of(&plan).map_err(|reason| source.refuse_at("SELECT", reason))?;
    Compiler { source, stream, session, shape, options: &options }.compile(create)
}

/// A session that knows the stream's columns and our functions, and no data.
fn planning_session(stream: &Stream) -> SessionContext {
    let session = SessionContext::new_with_config(functions::session_config());
    functions::register(&session);
    let table = EmptyTable::new(Arc::clone(stream.schema.arrow()));
    // A fresh session has no table of this name, so registering cannot fail.
    let _ = session.register_table(stream.schema.name(), Arc::new(table));
    session
}

fn analysed(session: &SessionContext, create: &CreateView) -> Result<LogicalPlan, datafusion::error::DataFusionError> {
    let state = session.state();
    let statement = DfStatement::Statement(Box::new(Statement::Query(create.query.clone())));
    // Planning over tables in memory never waits, so one poll finishes it.
    let plan = state.statement_to_plan(statement).now_or_never().unwrap_or_else(|| {
        Err(datafusion::error::DataFusionError::Internal("planning a view waited for something".to_owned()))
    })?;
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
}

struct Compiler<'a> {
    source: Source<'a>,
    stream: &'a Stream,
    session: SessionContext,
    shape: Shape,
    options: &'a Options<'a>,
}

impl Compiler<'_> {
    fn compile(self, create: &CreateView) -> Result<View, Refusal> {
        let name = create.name.to_string();
        self.check_determinism()?;
        let window = self.window_key()?;
        self.check_money()?;
        let inner = self.inner_fields(window)?;
        let aggregates = self.aggregates()?;
        let outputs = self.outputs(window, &aggregates)?;
        let physical = |expr: Expr, schema: &DFSchema| self.physical(expr, schema);
        let inner_df = self.inner_df(window)?;
        let keys: Vec<usize> = (0..self.shape.groups.len()).filter(|at| *at != window).collect();
        let keys_physical = keys
            .iter()
            .map(|at| physical(self.shape.groups[*at].clone().unalias(), &self.shape.input))
            .collect::<Result<_, _>>()?;
        let measures: Vec<_> =
            outputs.measures.iter().map(|(_, expr)| physical(expr.clone(), &inner_df)).collect::<Result<_, _>>()?;
        let having = self.shape.having.clone().map(|having| physical(having, &inner_df)).transpose()?;
        let filter = self.shape.filter.clone().map(|filter| physical(filter, &self.shape.input)).transpose()?;
        let fill_horizon = self.options.span("fill_horizon")?.unwrap_or(FILL_HORIZON_DEFAULT);
        let fill = match self.options.one_of("fill", &["zero", "none"])? {
            Some("zero") => Fill::Zero { horizon: fill_horizon },
            _ => Fill::None,
        };
        let retention = self.options.span("retention")?.unwrap_or(RETENTION_DEFAULT);
        let key_fields = outputs.keys.iter().map(|(name, at)| {
            let inner_at = keys.iter().position(|key| key == at).unwrap_or_default() + 1;
            Arc::new(Field::new(name, inner[inner_at].data_type().clone(), true))
        });
        let measure_fields = outputs.measures.iter().map(|(measure, _)| measure.clone()).collect();
        let mut meta = ViewMeta::new(&name, key_fields.collect(), measure_fields, fill, retention);
        meta.exposed = self.options.one_of("expose", &["prometheus", "sql"])? != Some("sql");
        let mut view = View {
            meta: Arc::new(meta),
            sql: create.query.to_string(),
            filter,
            keys: keys_physical,
            key_order: outputs.keys.iter().filter_map(|(_, at)| keys.iter().position(|key| key == at)).collect(),
            limit: self.key_limit(&outputs, &keys)?,
            aggregates: aggregates.into_iter().map(|(aggregate, _)| aggregate).collect(),
            having,
            measures,
            inner: inner_schema(inner.into_iter()),
            fill_horizon,
            roll_ups: Vec::new(),
        };
        view.roll_ups = self.roll_ups(&view)?;
        Ok(view)
    }

    /// A roll-up for each retention that is given for one.
    fn roll_ups(&self, view: &View) -> Result<Vec<Arc<View>>, Refusal> {
        let mut roll_ups = Vec::new();
        for window in Window::ROLL_UPS {
            let option = format!("retention{}", window.suffix());
            let Some(retention) = self.options.span(&option)? else { continue };
            let own = view.meta.retention;
            let refused = |reason: String| Err(self.source.refuse_at(&option, reason));
            if view.having.is_some() {
                return refused(format!(
                    "option `{option}`: a view with HAVING has no roll-ups: what did not survive a minute would be missing from \
                     the sum"
                ));
            }
            if retention < own {
                return refused(format!(
                    "option `{option}` is {retention} and `retention` is {own}: a roll-up is kept at least as long as its minutes"
                ));
            }
            if retention < window.span() {
                return refused(format!("option `{option}` is {retention}, which is shorter than the window itself"));
            }
            roll_ups.push(Arc::new(view.rolled_up(window, retention)));
        }
        Ok(roll_ups)
    }

    /// An expression that is ready to run. Some functions (`coalesce`, `nvl2`, `arrow_cast`) exist only until they are
    /// rewritten as what they stand for, which the planning of one expression does not do by itself. The optimiser's
    /// other rewrites are left out: one of them loses the guard of `CASE WHEN n <> 0 THEN 1 / n > x END`.
    fn physical(&self, expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, Refusal> {
        let state = self.session.state();
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let rewritten = expr.transform_up(|expr| match expr {
            Expr::ScalarFunction(call) => Ok(match call.func.simplify(call.args, &context)? {
                ExprSimplifyResult::Simplified(expr) => Transformed::yes(expr),
                ExprSimplifyResult::Original(args) => {
                    Transformed::no(Expr::ScalarFunction(ScalarFunction { func: call.func, args }))
                }
            }),
            other => Ok(Transformed::no(other)),
        });
        rewritten
            .and_then(|expr| state.create_physical_expr(expr.data, schema))
            .map_err(|error| self.source.refuse_plan(&error))
    }

    fn key_limit(&self, outputs: &Outputs, keys: &[usize]) -> Result<KeyLimit, Refusal> {
        let keys_max = self.options.number("max_keys")?.unwrap_or(KEYS_MAX_DEFAULT);
        let overflow = match self.options.text("overflow") {
            None => None,
            Some(name) => {
                let group = outputs.keys.iter().find(|(key, _)| key == name).map(|(_, at)| *at);
                let at = group.and_then(|group| keys.iter().position(|key| *key == group));
                let Some(at) = at else {
                    return Err(self
                        .source
                        .refuse_at("overflow", format!("`overflow` names `{name}`, which is not a key of the view")));
                };
                let text =
                    self.shape.groups[keys[at]].get_type(&self.shape.input).is_ok_and(|kind| kind == DataType::Utf8);
                if !text {
                    return Err(self
                        .source
                        .refuse_at("overflow", format!("`overflow` names `{name}`, which is not text")));
                }
                Some(at)
            }
        };
        Ok(KeyLimit { keys_max, overflow })
    }

    /// A view must say the same whenever it is computed.
    fn check_determinism(&self) -> Result<(), Refusal> {
        let all =
            self.shape.groups.iter().chain(&self.shape.aggregates).chain(&self.shape.filter).chain(&self.shape.having);
        for expr in all.chain(&self.shape.output) {
            let found = expr.exists(|part| {
                Ok(match part {
                    Expr::ScalarFunction(call) => {
                        let name = call.func.name();
                        expr.is_volatile()
                            || matches!(name, "now" | "current_date" | "current_time" | "current_timestamp")
                    }
                    Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => true,
                    _ => false,
                })
            });
            if found.unwrap_or(true) {
                return Err(self.source.refuse_at("SELECT", format!(
                    "`{expr}` uses the clock, chance or a subquery: a view must say the same whenever it is computed"
                )));
            }
        }
        Ok(())
    }

    /// The one group key that is `date_trunc('minute', <event time>)`.
    fn window_key(&self) -> Result<usize, Refusal> {
        let event_time = &self.stream.schema.columns()[self.stream.schema.event_time()].name;
        let is_window = |expr: &Expr| match expr.clone().unalias_nested().data {
            Expr::ScalarFunction(call) if call.func.name() == "date_trunc" => match call.args.as_slice() {
                [Expr::Literal(unit, _), Expr::Column(column)] => {
                    let unit = matches!(unit, ScalarValue::Utf8(Some(u)) | ScalarValue::Utf8View(Some(u)) if u.eq_ignore_ascii_case("minute"));
                    unit && column.name == *event_time
                }
                _ => false,
            },
            _ => false,
        };
        let found: Vec<usize> = (0..self.shape.groups.len()).filter(|at| is_window(&self.shape.groups[*at])).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            _ => Err(self.source.refuse_at(
                "SELECT",
                format!(
                    "a view needs exactly one key `date_trunc('minute', {event_time}) AS minute`; this one has {}",
                    found.len()
                ),
            )),
        }
    }

    /// Amounts are never added up across currencies.
    fn check_money(&self) -> Result<(), Refusal> {
        let Some((amount, currency)) = &self.stream.money else { return Ok(()) };
        let keyed = self
            .shape
            .groups
            .iter()
            .any(|group| matches!(group.clone().unalias(), Expr::Column(column) if column.name == *currency));
        if keyed || self.shape.filter.as_ref().is_some_and(|filter| pins(filter, currency)) {
            return Ok(());
        }
        for expr in &self.shape.aggregates {
            let Some(call) = call_of(expr) else { continue };
            let of_amount = call.params.args.iter().any(|arg| arg.column_refs().iter().any(|c| c.name == *amount));
            let pinned = call.params.filter.as_ref().is_some_and(|filter| pins(filter, currency));
            if of_amount && !matches!(call.func.name(), "count") && !pinned {
                return Err(self.source.refuse_at(amount, format!(
                    "{}({amount}) would mix currencies: make `{currency}` a key, or filter to one (`{currency} = 'USD'`)",
                    call.func.name()
                )));
            }
        }
        Ok(())
    }

    /// Fields of [minute, keys…, aggregates…]: the aggregate's own, with the window key moved to the front.
    fn inner_fields(&self, window: usize) -> Result<Vec<Arc<Field>>, Refusal> {
        let fields = self.shape.schema.fields();
        let Some(minute) = fields.get(window) else { return Err(self.source.refuse("the plan has no window key")) };
        let rest = fields.iter().enumerate().filter(|(at, _)| *at != window).map(|(_, field)| Arc::clone(field));
        Ok(std::iter::once(Arc::clone(minute)).chain(rest).collect())
    }

    fn inner_df(&self, window: usize) -> Result<DFSchema, Refusal> {
        let qualified: Vec<_> = self.shape.schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).collect();
        let mut ordered = Vec::with_capacity(qualified.len());
        ordered.extend(qualified.get(window).cloned());
        ordered.extend(qualified.iter().enumerate().filter(|(at, _)| *at != window).map(|(_, field)| field.clone()));
        DFSchema::new_with_metadata(ordered, Default::default()).map_err(|error| self.source.refuse_plan(&error))
    }

    /// Each aggregate, and whether it can never be negative.
    fn aggregates(&self) -> Result<Vec<(Aggregate, bool)>, Refusal> {
        let physical = |expr: &Expr| self.physical(expr.clone(), &self.shape.input);
        let compile = |expr: &Expr| {
            let Some(call) = call_of(expr) else {
                return Err(self.source.refuse_at("SELECT", format!("`{expr}` is not an aggregate")));
            };
            let kind =
                kind_of(call, &self.shape.input).map_err(|reason| self.source.refuse_at(call.func.name(), reason))?;
            let args = call.params.args.iter().map(physical).collect::<Result<_, _>>()?;
            let filter = call.params.filter.as_deref().map(physical).transpose()?;
            let counter = match (&kind, call.params.args.first().map(|arg| arg.clone().unalias())) {
                (Kind::Count, _) => true,
                (Kind::SumInt, Some(Expr::Column(column))) => self.stream.never_negative.contains(&column.name),
                (Kind::SumInt, Some(Expr::Literal(ScalarValue::Int64(Some(n)), _))) => n >= 0,
                _ => false,
            };
            Ok((Aggregate { kind, args, filter }, counter))
        };
        self.shape.aggregates.iter().map(compile).collect()
    }

    /// Sorts the output columns into the minute, keys and measures.
    fn outputs(&self, window: usize, aggregates: &[(Aggregate, bool)]) -> Result<Outputs, Refusal> {
        let groups = self.shape.groups.len();
        let mut outputs = Outputs::default();
        let mut minute = None;
        for expr in &self.shape.output {
            let name = expr.schema_name().to_string();
            let name = match expr {
                Expr::Alias(alias) => alias.name.clone(),
                Expr::Column(column) => column.name.clone(),
                _ => name,
            };
            if !is_plain(&name) {
                return Err(self.source.refuse_at(
                    "SELECT",
                    format!("output column `{name}` needs a name: write `… AS some_name` (letters, digits and _)"),
                ));
            }
            let plain = expr.clone().unalias_nested().data;
            let at = match &plain {
                Expr::Column(column) => self.shape.schema.maybe_index_of_column(column),
                _ => None,
            };
            match at {
                Some(at) if at == window => minute = Some(name),
                Some(at) if at < groups => outputs.keys.push((name, at)),
                _ => {
                    let measure = self.measure(&name, &plain, at.map(|at| at - groups), aggregates)?;
                    outputs.measures.push((measure, plain));
                }
            }
        }
        if minute.as_deref() != Some("minute") {
            return Err(self.source.refuse_at("SELECT", "the window key must be an output column named `minute`"));
        }
        let selected: BTreeSet<usize> = outputs.keys.iter().map(|(_, at)| *at).collect();
        if let Some(missing) = (0..groups).find(|at| *at != window && !selected.contains(at)) {
            let key = &self.shape.groups[missing];
            return Err(self.source.refuse_at("GROUP", format!("key `{key}` is not among the output columns")));
        }
        if outputs.keys.len() > selected.len() {
            return Err(self.source.refuse_at("SELECT", "a key stands twice among the output columns"));
        }
        if outputs.measures.is_empty() {
            return Err(self
                .source
                .refuse_at("SELECT", "a view needs at least one measure, such as count(*) AS events"));
        }
        Ok(outputs)
    }

    fn measure(
        &self,
        name: &str,
        expr: &Expr,
        aggregate: Option<usize>,
        aggregates: &[(Aggregate, bool)],
    ) -> Result<Measure, Refusal> {
        let kind = expr.get_type(&*self.shape.schema).map_err(|error| self.source.refuse_plan(&error))?;
        let aggregate = aggregate.and_then(|at| aggregates.get(at));
        let adds_up = aggregate.is_some_and(|(a, _)| matches!(a.kind, Kind::Count | Kind::SumInt | Kind::SumFloat));
        Ok(Measure {
            field: Arc::new(Field::new(name, kind, true)),
            counter: aggregate.is_some_and(|(_, counter)| *counter),
            fills_with_zero: adds_up || aggregate.is_some_and(|(a, _)| a.kind == Kind::Distinct),
        })
    }
}

/// The output columns of a view by what they are. Keys carry their place among the groups.
#[derive(Default)]
struct Outputs {
    keys: Vec<(String, usize)>,
    measures: Vec<(Measure, Expr)>,
}

fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !matches!(name, "sealed")
}

/// Whether a condition lets only one value of `column` through: `column = 'x'` among its conjuncts.
fn pins(condition: &Expr, column: &str) -> bool {
    match condition {
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And => pins(&binary.left, column) || pins(&binary.right, column),
            Operator::Eq => match (binary.left.as_ref(), binary.right.as_ref()) {
                (Expr::Column(c), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(c)) => c.name == column,
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}
