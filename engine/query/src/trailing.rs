//! `trailing_mean(x, '60 minutes')` and its like, found in the syntax tree and turned into hidden
//! columns of the view that they look at. After this the planner sees only tables and columns.

use std::{ops::ControlFlow, sync::Arc};

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        Column, DFSchema,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::SessionState,
    logical_expr::{Expr, ExprSchemable, Volatility},
    sql::sqlparser::ast::{self, VisitMut, VisitorMut},
};
use tidewatch_model::{Fill, Span, ViewMeta, limits};

use crate::{Catalog, QueryError, Statistic, Trailing, error::clean};

/// A view with hidden columns, under the name that the rewritten query uses for it.
pub(crate) struct HiddenTable {
    pub name: String,
    pub view: Arc<ViewMeta>,
    pub columns: Vec<(String, Trailing)>,
}

/// Rewrites every call in the query and says which tables it needs now.
pub(crate) fn rewrite(
    query: &mut ast::Query,
    catalog: &Catalog,
    state: &SessionState,
) -> Result<Vec<HiddenTable>, QueryError> {
    let mut rewriter = Rewriter { catalog, state, tables: Vec::new(), columns: 0, ctes: Vec::new() };
    if let ControlFlow::Break(error) = query.visit(&mut rewriter) {
        return Err(error);
    }
    let left = ast::visit_expressions(query, |expr| match call_of(expr) {
        Some((name, _)) => ControlFlow::Break(name),
        None => ControlFlow::Continue(()),
    });
    match left {
        ControlFlow::Break(name) => Err(QueryError::bad(format!(
            "`{name}` stands outside a SELECT (in ORDER BY or LIMIT); name it in the SELECT list with AS and use that name here"
        ))),
        ControlFlow::Continue(()) => Ok(rewriter.tables),
    }
}

/// Whether a key that has not appeared yet counts as zero: the argument is a measure that gaps fill with zero.
fn absent_is_zero(argument: &Expr, view: &ViewMeta) -> bool {
    let Expr::Column(column) = argument else { return false };
    let measure = view.measures.iter().find(|measure| *measure.field.name() == column.name);
    matches!(view.fill, Fill::Zero { .. }) && measure.is_some_and(|measure| measure.fills_with_zero)
}

struct Rewriter<'a> {
    catalog: &'a Catalog,
    state: &'a SessionState,
    tables: Vec<HiddenTable>,
    columns: usize,
    /// Names of WITH tables in sight: they hide views of the same name.
    ctes: Vec<Vec<String>>,
}

/// A table of one SELECT's FROM.
struct Relation {
    /// How the SELECT calls it.
    alias: ast::Ident,
    /// The view behind it; none for WITH tables, sub-queries and tables that are not views.
    view: Option<Arc<ViewMeta>>,
    hidden: Vec<(String, Trailing)>,
    renames_columns: bool,
}

impl VisitorMut for Rewriter<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<QueryError> {
        let names = query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| folded(&cte.alias.name));
        self.ctes.push(names.collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<QueryError> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    /// After the sub-queries: calls that are left belong to this SELECT.
    fn post_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<QueryError> {
        let any = ast::visit_expressions(select, |expr| match call_of(expr) {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        });
        if any.is_continue() {
            return ControlFlow::Continue(());
        }
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Rewriter<'_> {
    fn select(&mut self, select: &mut ast::Select) -> Result<(), QueryError> {
        keep_names(&mut select.projection);
        let mut relations = Vec::new();
        for table in &mut select.from {
            each_factor(table, &mut |factor| relations.push(self.relation(factor)));
        }
        let replaced = ast::visit_expressions_mut(select, |expr| match self.replace(expr, &mut relations) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        if let ControlFlow::Break(error) = replaced {
            return Err(error);
        }
        let hidden: Vec<ast::Ident> = relations
            .iter()
            .flat_map(|relation| &relation.hidden)
            .map(|(name, _)| ast::Ident::with_quote('"', name))
            .collect();
        let mut at = 0;
        for table in &mut select.from {
            // The same walk as above, so the same order.
            each_factor(table, &mut |factor| {
                if let Some(relation) = relations.get_mut(at) {
                    self.hide(factor, relation);
                }
                at += 1;
            });
        }
        for item in &mut select.projection {
            exclude(item, &hidden, &relations)?;
        }
        Ok(())
    }

    fn relation(&self, factor: &ast::TableFactor) -> Relation {
        let ast::TableFactor::Table { name, alias, args: None, .. } = factor else {
            let alias = factor_alias(factor).map_or_else(|| ast::Ident::new(""), |alias| alias.name.clone());
            return Relation { alias, view: None, hidden: Vec::new(), renames_columns: false };
        };
        let last = match name.0.last() {
            Some(ast::ObjectNamePart::Identifier(ident)) => ident.clone(),
            _ => ast::Ident::new(""),
        };
        let table = folded(&last);
        let shadowed = name.0.len() == 1 && self.ctes.iter().flatten().any(|cte| *cte == table);
        let view = if shadowed { None } else { self.catalog.view(&table).cloned() };
        Relation {
            alias: alias.as_ref().map_or(last, |alias| alias.name.clone()),
            view,
            hidden: Vec::new(),
            renames_columns: alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()),
        }
    }

    fn replace(&mut self, expr: &mut ast::Expr, relations: &mut [Relation]) -> Result<(), QueryError> {
        let Some((name, function)) = call_of(expr) else { return Ok(()) };
        let (argument, mut statistic, span) = arguments(&name, function)?;
        if let Statistic::Quantile(q) = &mut statistic.0 {
            *q = statistic.1;
        }
        let at = resolve(&name, &argument, relations)?;
        let relation = &mut relations[at];
        let Some(view) = relation.view.clone() else { return Err(not_a_view(&name)) };
        if view.window.is_roll_up() {
            return Err(QueryError::bad(format!(
                "`{name}` looks at minutes, and `{}` is a roll-up, which has none; read the view, or write a window frame",
                view.name
            )));
        }
        let trailing = self.plan(&name, argument, statistic.0, span, &relation.alias, &view)?;
        let column = match relation.hidden.iter().find(|(_, known)| known.same_as(&trailing)) {
            Some((column, _)) => column.clone(),
            None => {
                self.columns += 1;
                let column = format!("__trailing_{}", self.columns);
                relation.hidden.push((column.clone(), trailing));
                column
            }
        };
        *expr = ast::Expr::CompoundIdentifier(vec![relation.alias.clone(), ast::Ident::with_quote('"', column)]);
        Ok(())
    }

    /// Types the argument against the view.
    fn plan(
        &self,
        name: &str,
        argument: ast::Expr,
        statistic: Statistic,
        minutes: i64,
        alias: &ast::Ident,
        view: &ViewMeta,
    ) -> Result<Trailing, QueryError> {
        let text = argument.to_string();
        let failed = |error| QueryError::bad(format!("`{name}({text}, …)`: {}", clean(&error)));
        let qualified = DFSchema::try_from_qualified_schema(folded(alias), view.schema()).map_err(failed)?;
        let planned = self
            .state
            .create_logical_expr_from_sql_expr(ast::ExprWithAlias { expr: argument, alias: None }, &qualified)
            .map_err(failed)?;
        let schema = DFSchema::try_from(view.schema().as_ref().clone()).map_err(failed)?;
        let bare = planned
            .transform(|expr| {
                Ok(match expr {
                    Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
                    other => Transformed::no(other),
                })
            })
            .map_err(failed)?
            .data;
        each_row_alone(name, &bare)?;
        let physical = self.state.create_physical_expr(bare.clone(), &schema).map_err(failed)?;
        let kind = bare.get_type(&schema).map_err(failed)?;
        if !(kind.is_numeric() || kind == DataType::Boolean) {
            return Err(QueryError::bad(format!("`{name}({text}, …)` wants a number, and this is {kind}")));
        }
        let absent_is_zero = absent_is_zero(&bare, view);
        Ok(Trailing { statistic, minutes, logical: bare, physical, absent_is_zero })
    }

    /// Puts the table with the hidden columns in the place of the view.
    fn hide(&mut self, factor: &mut ast::TableFactor, relation: &mut Relation) {
        let (ast::TableFactor::Table { name, alias, .. }, Some(view)) = (factor, &relation.view) else { return };
        if relation.hidden.is_empty() {
            return;
        }
        let table = format!("__{}_{}", view.name, self.tables.len() + 1);
        *name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', &table)]);
        if alias.is_none() {
            *alias =
                Some(ast::TableAlias { explicit: true, name: relation.alias.clone(), columns: Vec::new(), at: None });
        }
        self.tables.push(HiddenTable { name: table, view: Arc::clone(view), columns: relation.hidden.clone() });
    }
}

/// The function's name where the expression is a call of ours.
fn call_of(expr: &ast::Expr) -> Option<(String, &ast::Function)> {
    let ast::Expr::Function(function) = expr else { return None };
    let [ast::ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return None };
    let name = folded(ident);
    name.parse::<Statistic>().ok().map(|_| (name, function))
}

/// The argument, the statistic with the quantile asked for, and the window in minutes.
fn arguments(name: &str, function: &ast::Function) -> Result<(ast::Expr, (Statistic, f64), i64), QueryError> {
    let quantile = name == "trailing_quantile";
    let form = if quantile { "trailing_quantile(x, 0.99, '60 minutes')" } else { "(x, '60 minutes')" };
    let wrong = || {
        let form = if quantile { form.to_owned() } else { format!("{name}{form}") };
        QueryError::bad(format!("`{name}` is written `{form}`, without OVER, FILTER or DISTINCT"))
    };
    if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty() {
        return Err(wrong());
    }
    let ast::FunctionArguments::List(list) = &function.args else { return Err(wrong()) };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(wrong());
    }
    let plain: Option<Vec<&ast::Expr>> = list
        .args
        .iter()
        .map(|arg| match arg {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect();
    let (argument, q, span) = match (plain.as_deref(), quantile) {
        (Some([argument, span]), false) => (*argument, 0.0, *span),
        (Some([argument, q, span]), true) => (*argument, number(q).ok_or_else(wrong)?, *span),
        _ => return Err(wrong()),
    };
    if !(0.0..=1.0).contains(&q) {
        return Err(QueryError::bad(format!("`{name}`: the quantile {q} does not lie between 0 and 1")));
    }
    let ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::SingleQuotedString(span), .. }) = span else {
        return Err(wrong());
    };
    let length: Span = span.parse().map_err(|error| QueryError::bad(format!("`{name}`: {error}")))?;
    let minutes = length.minutes_ceil();
    if length.micros() <= 0 || length.micros() % 60_000_000 != 0 || minutes > limits::TRAILING_MINUTES_MAX {
        return Err(QueryError::bad(format!(
            "`{name}`: the window must be whole minutes, from 1 to {}; `{span}` is not",
            limits::TRAILING_MINUTES_MAX
        )));
    }
    // `call_of` has parsed the name before.
    let statistic = name.parse().map_err(|_| wrong())?;
    Ok((argument.clone(), (statistic, q), minutes))
}

fn number(expr: &ast::Expr) -> Option<f64> {
    match expr {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(text, _), .. }) => {
            text.to_string().parse().ok()
        }
        _ => None,
    }
}

/// Which table of the FROM a call belongs to.
fn resolve(name: &str, argument: &ast::Expr, relations: &[Relation]) -> Result<usize, QueryError> {
    let mut qualifiers: Vec<String> = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    let (mut nested, mut inner) = (None, false);
    let _ = ast::visit_expressions(argument, |expr| {
        match expr {
            ast::Expr::CompoundIdentifier(parts) => {
                if let [.., qualifier, column] = parts.as_slice() {
                    qualifiers.push(folded(qualifier));
                    inner |= column.value.starts_with("__trailing_");
                }
            }
            ast::Expr::Identifier(ident) => columns.push(folded(ident)),
            ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => nested = Some(()),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    if nested.is_some() {
        return Err(QueryError::bad(format!("`{name}` takes an expression over a view's columns, not a sub-query")));
    }
    if inner {
        return Err(QueryError::bad(format!(
            "`{name}` stands around another trailing function, whose values exist for one minute only; \
             use the two side by side"
        )));
    }
    qualifiers.sort();
    qualifiers.dedup();
    let found: Vec<usize> = match qualifiers.as_slice() {
        [] => (0..relations.len()).filter(|at| relations[*at].has_all(&columns)).collect(),
        [only] => (0..relations.len()).filter(|at| folded(&relations[*at].alias) == *only).collect(),
        several => {
            return Err(QueryError::bad(format!(
                "`{name}` looks at one view at a time, and this call names {}",
                several.join(" and ")
            )));
        }
    };
    match found.as_slice() {
        [at] if relations[*at].view.is_none() => Err(not_a_view(name)),
        [at] if relations[*at].renames_columns => Err(QueryError::bad(format!(
            "`{name}`: give the view an alias without a list of column names, and use the view's own"
        ))),
        [at] => Ok(*at),
        [] if relations.iter().all(|relation| relation.view.is_none()) => Err(not_a_view(name)),
        [] => Err(QueryError::bad(format!(
            "`{name}({argument}, …)`: no view in this FROM has the column{} {}",
            if columns.len() == 1 { "" } else { "s" },
            columns.iter().chain(&qualifiers).map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ")
        ))),
        _ => Err(QueryError::bad(format!(
            "`{name}({argument}, …)`: several views in this FROM have these columns; write `alias.column`"
        ))),
    }
}

fn not_a_view(name: &str) -> QueryError {
    QueryError::bad(format!(
        "`{name}` looks back in a view, so it must stand in a SELECT whose FROM names that view itself, not a \
         sub-query, a WITH table or another table; compute it there, give it a name with AS, and use the name outside"
    ))
}

impl Relation {
    fn has_all(&self, columns: &[String]) -> bool {
        let Some(view) = &self.view else { return false };
        columns.iter().all(|column| view.schema().column_with_name(column).is_some())
    }
}

/// A call's argument must be a function of its row: the same in every run, and of no other row.
fn each_row_alone(name: &str, expr: &Expr) -> Result<(), QueryError> {
    let mut wrong = None;
    let walked = expr.apply(|inner| {
        match inner {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                wrong = Some(format!("`{}()` changes from run to run", call.func.name()));
            }
            Expr::AggregateFunction(_) => wrong = Some("an aggregate is not a value of one row".to_owned()),
            Expr::WindowFunction(_) => wrong = Some("a window function is not a value of one row".to_owned()),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) => {
                wrong = Some("a sub-query is not allowed here".to_owned());
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        }
        Ok(TreeNodeRecursion::Stop)
    });
    match (walked, wrong) {
        (Ok(_), None) => Ok(()),
        (_, reason) => Err(QueryError::bad(format!("`{name}`: {}", reason.unwrap_or_default()))),
    }
}

/// A column without a name would else show the hidden column's.
fn keep_names(projection: &mut [ast::SelectItem]) {
    for item in projection {
        if let ast::SelectItem::UnnamedExpr(expr) = item {
            let any = ast::visit_expressions(expr, |inner| match call_of(inner) {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            });
            if any.is_break() {
                let alias = ast::Ident::with_quote('"', expr.to_string());
                *item = ast::SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
    }
}

fn each_factor(table: &mut ast::TableWithJoins, visit: &mut impl FnMut(&mut ast::TableFactor)) {
    fn walk(factor: &mut ast::TableFactor, visit: &mut impl FnMut(&mut ast::TableFactor)) {
        match factor {
            ast::TableFactor::NestedJoin { table_with_joins, .. } => each_factor(table_with_joins, visit),
            other => visit(other),
        }
    }
    walk(&mut table.relation, visit);
    for join in &mut table.joins {
        walk(&mut join.relation, visit);
    }
}

fn factor_alias(factor: &ast::TableFactor) -> Option<&ast::TableAlias> {
    match factor {
        ast::TableFactor::Table { alias, .. }
        | ast::TableFactor::Derived { alias, .. }
        | ast::TableFactor::TableFunction { alias, .. }
        | ast::TableFactor::Function { alias, .. }
        | ast::TableFactor::UNNEST { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

/// `SELECT *` means the view's own columns.
fn exclude(item: &mut ast::SelectItem, hidden: &[ast::Ident], relations: &[Relation]) -> Result<(), QueryError> {
    let (options, names): (&mut ast::WildcardAdditionalOptions, Vec<ast::Ident>) = match item {
        ast::SelectItem::Wildcard(options) => (options, hidden.to_vec()),
        ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
            let Some(ast::ObjectNamePart::Identifier(qualifier)) = name.0.last() else { return Ok(()) };
            let of = relations.iter().find(|relation| folded(&relation.alias) == folded(qualifier));
            let names =
                of.map(|relation| relation.hidden.iter().map(|(name, _)| ast::Ident::with_quote('"', name)).collect());
            (options, names.unwrap_or_default())
        }
        _ => return Ok(()),
    };
    if names.is_empty() {
        return Ok(());
    }
    let mut all: Vec<ast::ObjectName> = match options.opt_exclude.take() {
        Some(ast::ExcludeSelectItem::Single(name)) => vec![name],
        Some(ast::ExcludeSelectItem::Multiple(names)) => names,
        None => Vec::new(),
    };
    all.extend(names.into_iter().map(|name| ast::ObjectName::from(vec![name])));
    options.opt_exclude = Some(ast::ExcludeSelectItem::Multiple(all));
    Ok(())
}

/// An identifier as the planner reads it: without quotes it is in lower case.
pub(crate) fn folded(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}
