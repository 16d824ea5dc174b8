//! What a rule's SQL may not do: change from run to run, read further back than it says, return what
//! is no label and no value. All of it is found before the rule runs for the first time.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::{
    catalog::default_table_source::source_as_provider,
    common::{
        ScalarValue,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, LogicalPlan, Volatility, WindowFrameBound, WindowFrameUnits, expr::WindowFunction},
};
use tidewatch_model::Span;
use tidewatch_query::{Prepared, ViewTable};

/// What a column of the verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Minute,
    Label,
    Value,
    Severity,
}

/// The columns' roles, or why there is one without.
pub(crate) fn roles(schema: &SchemaRef) -> Result<Vec<Role>, String> {
    let mut names = BTreeSet::new();
    let mut roles = Vec::new();
    for field in schema.fields() {
        let name = field.name().as_str();
        if !names.insert(name) {
            return Err(format!(
                "the SELECT returns two columns named `{name}`; give one of them another name with AS"
            ));
        }
        let kind = field.data_type();
        let text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        roles.push(match name {
            "minute" if matches!(kind, DataType::Timestamp(..)) => Role::Minute,
            "minute" => return Err(format!("the column `minute` must be a timestamp, and it is {kind}")),
            "severity" if text => Role::Severity,
            "severity" => return Err(format!("the column `severity` must be text, and it is {kind}")),
            _ if text => Role::Label,
            _ if kind.is_numeric() || *kind == DataType::Boolean => Role::Value,
            _ => {
                return Err(format!(
                    "the column `{name}` is {kind}: text columns are labels and numeric ones values; \
                     cast it, or leave it out"
                ));
            }
        });
    }
    if !roles.contains(&Role::Minute) {
        return Err("the SELECT must return the column `minute`: a rule answers for a minute".to_owned());
    }
    Ok(roles)
}

/// Refuses a plan whose verdict could change from run to run or reads beyond the lookback. Returns the
/// views that it reads.
pub(crate) fn plan(prepared: &Prepared, lookback: Span) -> Result<BTreeSet<String>, String> {
    if prepared.explain {
        return Err("a rule is a SELECT, not an EXPLAIN".to_owned());
    }
    let mut views = BTreeSet::new();
    let mut refused = None;
    let walked = prepared.written.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(view) = source_as_provider(&scan.source)?.downcast_ref::<ViewTable>()
        {
            let meta = view.meta();
            views.insert(meta.name.clone());
            if meta.window.is_roll_up() {
                let name = &meta.name;
                let of = name.strip_suffix(meta.window.suffix()).unwrap_or(name);
                refused = Some(format!(
                    "`{name}` is a roll-up, whose window is not over at the minute that is judged; read `{of}`"
                ));
            }
            let longest = view.trailing().iter().max_by_key(|call| call.minutes);
            if let Some(call) = longest.filter(|call| call.minutes > lookback.minutes_ceil()) {
                refused = Some(format!(
                    "{} looks back {} minutes, and the rule's lookback is {} minutes; write lookback = \"{} minutes\"",
                    call.describe(),
                    call.minutes,
                    lookback.minutes_ceil(),
                    call.minutes
                ));
            }
        }
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                refused = refused.take().or_else(|| expression(inner, lookback));
                Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    // Only the analysed plan has frames whose bounds are typed; as written, `INTERVAL '1 hour'` is still a text.
    let walked = walked.and_then(|_| {
        prepared.optimised.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|inner| {
                    if let Expr::WindowFunction(function) = inner {
                        refused = refused.take().or_else(|| window(function, lookback));
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })
    });
    match (walked, refused) {
        (_, Some(message)) => Err(message),
        (Err(error), None) => Err(error.strip_backtrace()),
        (Ok(_), None) => Ok(views),
    }
}

fn expression(expr: &Expr, lookback: Span) -> Option<String> {
    match expr {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => Some(format!(
            "`{}()` changes from run to run, and a verdict must not; a rule's own time is the column `minute`",
            call.func.name()
        )),
        Expr::Literal(value, _) => {
            let minutes = interval_minutes(value)?;
            too_far(minutes, lookback, "an interval here")
        }
        _ => None,
    }
}

fn window(function: &WindowFunction, lookback: Span) -> Option<String> {
    let params = &function.params;
    let name = function.fun.name();
    let frame = &params.window_frame;
    if let WindowFrameBound::Preceding(bound) = &frame.start_bound {
        let far = match frame.units {
            WindowFrameUnits::Rows | WindowFrameUnits::Groups => whole(bound),
            WindowFrameUnits::Range => interval_minutes(bound),
        };
        if let Some(refused) = far.and_then(|far| too_far(far, lookback, &format!("the frame of `{name}`"))) {
            return Some(refused);
        }
    }
    if matches!(name, "lag" | "lead")
        && let Some(Expr::Literal(offset, _)) = params.args.get(1)
        && let Some(far) = whole(offset)
    {
        return too_far(far.abs(), lookback, &format!("`{name}`"));
    }
    None
}

/// The lookback holds the minute itself and those before it, one fewer than its length.
fn too_far(minutes: i64, lookback: Span, what: &str) -> Option<String> {
    let held = lookback.minutes_ceil();
    (minutes >= held).then(|| {
        format!(
            "{what} reaches {minutes} minutes back, and a lookback of {held} minutes holds the minute itself and the {} \
             before it; write lookback = \"{} minutes\" or more",
            held - 1,
            minutes.saturating_add(1)
        )
    })
}

fn whole(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(Some(number)) => Some(*number),
        ScalarValue::UInt64(Some(number)) => i64::try_from(*number).ok(),
        ScalarValue::Int32(Some(number)) => Some(i64::from(*number)),
        ScalarValue::UInt32(Some(number)) => Some(i64::from(*number)),
        _ => None,
    }
}

/// The length of an interval, months taken as 31 days: what may be too long is too long.
fn interval_minutes(value: &ScalarValue) -> Option<i64> {
    const DAY: i64 = 24 * 60;
    let minutes = match value {
        ScalarValue::IntervalYearMonth(Some(months)) => i64::from(*months) * 31 * DAY,
        ScalarValue::IntervalDayTime(Some(value)) => {
            i64::from(value.days) * DAY + i64::from(value.milliseconds) / 60_000
        }
        ScalarValue::IntervalMonthDayNano(Some(value)) => {
            i64::from(value.months) * 31 * DAY + i64::from(value.days) * DAY + value.nanoseconds / 60_000_000_000
        }
        ScalarValue::DurationSecond(Some(value)) => value / 60,
        ScalarValue::DurationMillisecond(Some(value)) => value / 60_000,
        ScalarValue::DurationMicrosecond(Some(value)) => value / 60_000_000,
        ScalarValue::DurationNanosecond(Some(value)) => value / 60_000_000_000,
        _ => return None,
    };
    Some(minutes.abs())
}
