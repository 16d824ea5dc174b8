//! The shape of a view's analysed plan: projection over an optional HAVING over one aggregate over
//! filters and projections over the stream. Everything else is refused with a reason.

use datafusion::{
    common::{
        DFSchemaRef, Result as DfResult,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{Aggregate, Expr, LogicalPlan, and},
};

/// The parts of a view's plan. Expressions of the aggregate are over the stream's own columns.
pub struct Shape {
    /// Output expressions, over the aggregate's columns.
    pub output: Vec<Expr>,
    pub having: Option<Expr>,
    pub filter: Option<Expr>,
    pub groups: Vec<Expr>,
    pub aggregates: Vec<Expr>,
    /// The schema of [groups…, aggregates…].
    pub schema: DFSchemaRef,
    /// The schema of the stream as scanned.
    pub input: DFSchemaRef,
}

pub fn shape_of(plan: &LogicalPlan) -> Result<Shape, String> {
    let LogicalPlan::Projection(projection) = plan else { return Err(refusal(plan)) };
    let output = projection.expr.clone();
    let (having, plan) = match projection.input.as_ref() {
        LogicalPlan::Filter(filter) => (Some(filter.predicate.clone()), filter.input.as_ref()),
        other => (None, other),
    };
    let LogicalPlan::Aggregate(aggregate) = plan else {
        return Err(match plan {
            LogicalPlan::TableScan(_) | LogicalPlan::Projection(_) => {
                "a view must aggregate: add GROUP BY ALL with date_trunc('minute', …) among the keys".to_owned()
            }
            other => refusal(other),
        });
    };
    below(aggregate, output, having)
}

fn below(aggregate: &Aggregate, output: Vec<Expr>, having: Option<Expr>) -> Result<Shape, String> {
    let mut shape = Shape {
        output,
        having,
        filter: None,
        groups: aggregate.group_expr.clone(),
        aggregates: aggregate.aggr_expr.clone(),
        schema: aggregate.schema.clone(),
        input: aggregate.input.schema().clone(),
    };
    let mut plan = aggregate.input.as_ref();
    loop {
        match plan {
            LogicalPlan::TableScan(scan) => {
                for filter in &scan.filters {
                    shape.filter = Some(shape.filter.take().map_or_else(|| filter.clone(), |f| and(f, filter.clone())));
                }
                shape.input = scan.projected_schema.clone();
                return Ok(shape);
            }
            LogicalPlan::Filter(filter) => {
                let predicate = filter.predicate.clone();
                shape.filter = Some(shape.filter.take().map_or(predicate.clone(), |f| and(predicate, f)));
                plan = filter.input.as_ref();
            }
            LogicalPlan::SubqueryAlias(alias) => {
                shape.inline(&alias.schema, |at| {
                    let (qualifier, field) = alias.input.schema().qualified_field(at);
                    Expr::Column((qualifier, field).into())
                })?;
                plan = alias.input.as_ref();
            }
            LogicalPlan::Projection(projection) => {
                shape.inline(&projection.schema, |at| {
                    // The projection's schema has one field an expression.
                    projection.expr[at].clone().unalias()
                })?;
                plan = projection.input.as_ref();
            }
            other => return Err(refusal(other)),
        }
    }
}

impl Shape {
    /// Replaces columns of `schema` by what they stand for one level down.
    fn inline(&mut self, schema: &DFSchemaRef, meaning: impl Fn(usize) -> Expr) -> Result<(), String> {
        let replace = |expr: Expr| -> DfResult<Expr> {
            let replaced = expr.transform(|expr| match &expr {
                Expr::Column(column) => match schema.maybe_index_of_column(column) {
                    Some(at) => Ok(Transformed::yes(meaning(at))),
                    None => Ok(Transformed::no(expr)),
                },
                _ => Ok(Transformed::no(expr)),
            })?;
            Ok(replaced.data)
        };
        let all = |list: &mut Vec<Expr>| -> DfResult<()> {
            *list = list.drain(..).map(replace).collect::<DfResult<_>>()?;
            Ok(())
        };
        let text = |error: DataFusionError| error.strip_backtrace();
        all(&mut self.groups).map_err(text)?;
        all(&mut self.aggregates).map_err(text)?;
        if let Some(filter) = self.filter.take() {
            self.filter = Some(replace(filter).map_err(text)?);
        }
        Ok(())
    }
}

fn refusal(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Join(_) => "a view reads one stream: joins cannot be kept incrementally".to_owned(),
        LogicalPlan::Window(_) => {
            "window functions (OVER) cannot be kept in a view; use them in a rule or a query".to_owned()
        }
        LogicalPlan::Sort(_) => "ORDER BY has no meaning in a view: its rows are kept by minute and key".to_owned(),
        LogicalPlan::Limit(_) => "LIMIT cannot be kept incrementally; use HAVING, or limit when you query".to_owned(),
        LogicalPlan::Distinct(_) => "SELECT DISTINCT cannot be kept incrementally; group by the columns".to_owned(),
        LogicalPlan::Union(_) => "UNION cannot be kept incrementally; write two views".to_owned(),
        LogicalPlan::Aggregate(_) => {
            "an aggregate over an aggregate cannot be kept incrementally; write a view over a view".to_owned()
        }
        LogicalPlan::Unnest(_) => "UNNEST is not supported in a view".to_owned(),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => "a view must read a stream".to_owned(),
        other => format!("a view cannot contain {}", other.display()),
    }
}
