//! Whether the rows of one minute follow from the inputs of that minute alone. Where that is certain,
//! a verdict reads one minute instead of its whole lookback; whatever is not known to be so is not.

use std::collections::HashSet;

use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{
        Column, JoinType,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, expr::WindowFunctionParams},
};
use tidewatch_query::ViewTable;

/// How a plan's rows depend on minutes.
#[derive(Debug, PartialEq)]
pub(crate) enum Locality {
    /// On no view's rows at all.
    Constant,
    /// Each row on the rows of one minute, which these columns name.
    Minute(HashSet<Column>),
    /// On several minutes, or nobody knows.
    Across,
}

/// Whether restricting every scan to minute m leaves the rows whose `minute` is m as they are.
pub(crate) fn is_minute_local(optimised: &LogicalPlan) -> bool {
    match locality(optimised) {
        Locality::Minute(columns) => columns.iter().any(|column| column.name == "minute"),
        Locality::Constant | Locality::Across => false,
    }
}

fn locality(plan: &LogicalPlan) -> Locality {
    if has_subquery(plan) {
        return Locality::Across;
    }
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Ok(provider) = source_as_provider(&scan.source) else { return Locality::Across };
            if provider.downcast_ref::<ViewTable>().is_none() {
                return Locality::Constant;
            }
            if scan.fetch.is_some() {
                return Locality::Across;
            }
            let minute = scan.projected_schema.columns().into_iter().filter(|column| column.name == "minute");
            Locality::Minute(minute.collect())
        }
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => Locality::Constant,
        LogicalPlan::Filter(filter) => locality(&filter.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => locality(&sort.input),
        LogicalPlan::Projection(projection) => {
            let outputs = projection.schema.columns();
            renamed(locality(&projection.input), projection.expr.iter().zip(outputs))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inputs: Vec<Expr> = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
            renamed(locality(&alias.input), inputs.iter().zip(alias.schema.columns()))
        }
        LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(input)) => match locality(input) {
            Locality::Minute(columns) if columns.is_empty() => Locality::Across,
            other => other,
        },
        LogicalPlan::Aggregate(aggregate) => {
            let outputs = aggregate.schema.columns();
            match renamed(locality(&aggregate.input), aggregate.group_expr.iter().zip(outputs)) {
                Locality::Minute(columns) if columns.is_empty() => Locality::Across,
                other => other,
            }
        }
        LogicalPlan::Window(window) => window_locality(window),
        LogicalPlan::Join(join) => join_locality(join),
        LogicalPlan::Union(union) => union_locality(union),
        _ => Locality::Across,
    }
}

/// Follows minute columns through expressions that pass them on as they are.
fn renamed<'a>(input: Locality, pairs: impl Iterator<Item = (&'a Expr, Column)>) -> Locality {
    match input {
        Locality::Minute(columns) => {
            Locality::Minute(pairs.filter(|(expr, _)| is_one_of(expr, &columns)).map(|(_, output)| output).collect())
        }
        other => other,
    }
}

fn is_one_of(expr: &Expr, columns: &HashSet<Column>) -> bool {
    match expr {
        Expr::Column(column) => columns.contains(column),
        Expr::Alias(alias) => is_one_of(&alias.expr, columns),
        _ => false,
    }
}

/// Frames within partitions by minute see one minute only.
fn window_locality(window: &datafusion::logical_expr::Window) -> Locality {
    match locality(&window.input) {
        Locality::Minute(columns) => {
            let by_minute = |expr: &Expr| {
                let mut expr = expr;
                while let Expr::Alias(alias) = expr {
                    expr = &alias.expr;
                }
                let Expr::WindowFunction(function) = expr else { return false };
                let WindowFunctionParams { partition_by, .. } = &function.params;
                partition_by.iter().any(|key| is_one_of(key, &columns))
            };
            if window.window_expr.iter().all(by_minute) { Locality::Minute(columns) } else { Locality::Across }
        }
        other => other,
    }
}

fn join_locality(join: &datafusion::logical_expr::Join) -> Locality {
    let (left, right) = (locality(&join.left), locality(&join.right));
    if join.null_aware {
        return Locality::Across;
    }
    let keeps_left = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
    let keeps_right = matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
    match (left, right) {
        (Locality::Constant, Locality::Constant) => Locality::Constant,
        (Locality::Minute(columns), Locality::Constant) if !keeps_right => Locality::Minute(columns),
        (Locality::Constant, Locality::Minute(columns)) if !keeps_left => Locality::Minute(columns),
        (Locality::Minute(left), Locality::Minute(right)) => {
            let same_minute = join.on.iter().any(|(l, r)| {
                (is_one_of(l, &left) && is_one_of(r, &right)) || (is_one_of(l, &right) && is_one_of(r, &left))
            });
            if !same_minute {
                return Locality::Across;
            }
            Locality::Minute(match (keeps_left, keeps_right) {
                (true, _) => left,
                (_, true) => right,
                _ => left.union(&right).cloned().collect(),
            })
        }
        _ => Locality::Across,
    }
}

/// A column is a minute where it is one in every input that has minutes at all.
fn union_locality(union: &datafusion::logical_expr::Union) -> Locality {
    let mut places: Option<HashSet<usize>> = None;
    for input in &union.inputs {
        let of_input: HashSet<usize> = match locality(input) {
            Locality::Constant => continue,
            Locality::Across => return Locality::Across,
            Locality::Minute(columns) => {
                let all = input.schema().columns();
                all.iter().enumerate().filter(|(_, column)| columns.contains(column)).map(|(at, _)| at).collect()
            }
        };
        places = Some(match places {
            Some(before) => before.intersection(&of_input).copied().collect(),
            None => of_input,
        });
    }
    let Some(places) = places else { return Locality::Constant };
    let outputs = union.schema.columns();
    Locality::Minute(outputs.into_iter().enumerate().filter(|(at, _)| places.contains(at)).map(|(_, c)| c).collect())
}

fn has_subquery(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_expressions(|expr| {
        expr.apply(|inner| {
            if matches!(inner, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
            {
                found = true;
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found || walked.is_err()
}
