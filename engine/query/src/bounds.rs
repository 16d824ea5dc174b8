//! Which minutes a scan must read: found in the filters that compare `minute` with a literal.

use datafusion::{
    arrow::datatypes::DataType,
    common::ScalarValue,
    logical_expr::{BinaryExpr, Cast, Expr, Operator, TableProviderFilterPushDown},
};
use tidewatch_model::Minute;

const NANOS_PER_MINUTE: i128 = 60_000_000_000;

/// What the filters of a scan leave of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub from: Minute,
    pub to: Minute,
    pub sealed: bool,
    pub open: bool,
}

impl Bounds {
    pub const ALL: Self =
        Self { from: Minute::from_index(i64::MIN), to: Minute::from_index(i64::MAX), sealed: true, open: true };

    pub fn of(filters: &[Expr]) -> Self {
        filters.iter().filter_map(Self::of_filter).fold(Self::ALL, Self::and)
    }

    /// Whether the scan itself applies a filter, and how exactly.
    pub fn support(filter: &Expr) -> TableProviderFilterPushDown {
        match Self::of_filter(filter) {
            Some(_) if has_gaps(filter) => TableProviderFilterPushDown::Inexact,
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
            sealed: self.sealed && other.sealed,
            open: self.open && other.open,
        }
    }

    /// What either leaves, and what lies between the two.
    fn around(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            sealed: self.sealed || other.sealed,
            open: self.open || other.open,
        }
    }

    fn of_filter(filter: &Expr) -> Option<Self> {
        match filter {
            Expr::Column(column) if column.name == "sealed" => Some(Self { open: false, ..Self::ALL }),
            Expr::Not(inner) => match inner.as_ref() {
                Expr::Column(column) if column.name == "sealed" => Some(Self { sealed: false, ..Self::ALL }),
                _ => None,
            },
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Some(Self::of_filter(left)?.and(Self::of_filter(right)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Some(Self::of_filter(left)?.around(Self::of_filter(right)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (is_minute(left), is_minute(right)) {
                (true, false) => Self::compare(*op, nanos_of(right)?),
                (false, true) => Self::compare(op.swap()?, nanos_of(left)?),
                _ => None,
            },
            Expr::Between(between) if !between.negated && is_minute(&between.expr) => {
                let from = Self::compare(Operator::GtEq, nanos_of(&between.low)?)?;
                Some(from.and(Self::compare(Operator::LtEq, nanos_of(&between.high)?)?))
            }
            Expr::InList(list) if !list.negated && is_minute(&list.expr) => {
                let moments: Option<Vec<i128>> = list.list.iter().map(nanos_of).collect();
                let moments = moments?;
                let (least, most) = (*moments.iter().min()?, *moments.iter().max()?);
                Some(Self::compare(Operator::GtEq, least)?.and(Self::compare(Operator::LtEq, most)?))
            }
            _ => None,
        }
    }

    /// `minute op moment`, where `minute` is always a whole minute and the moment need not be. The
    /// moment is in nanoseconds.
    fn compare(op: Operator, moment: i128) -> Option<Self> {
        let floor = i64::try_from(moment.div_euclid(NANOS_PER_MINUTE)).ok()?;
        let whole = moment.rem_euclid(NANOS_PER_MINUTE) == 0;
        let (at, before, after) =
            (Minute::from_index(floor), Minute::from_index(floor).plus(-1), Minute::from_index(floor).plus(1));
        let least = if whole { at } else { after };
        let bounds = match op {
            Operator::Eq if whole => Self { from: at, to: at, ..Self::ALL },
            Operator::Eq => Self { from: Minute::from_index(1), to: Minute::from_index(0), ..Self::ALL },
            Operator::GtEq => Self { from: least, ..Self::ALL },
            Operator::Gt => Self { from: after, ..Self::ALL },
            Operator::LtEq => Self { to: at, ..Self::ALL },
            Operator::Lt => Self { to: if whole { before } else { at }, ..Self::ALL },
            _ => return None,
        };
        Some(bounds)
    }
}

/// The minutes outside of which a filter lets no row through whose time is in the column `time`; `None` where it does not
/// compare it with a literal. Inside of them it may leave out some.
pub(crate) fn minutes_around(filter: &Expr, time: &str) -> Option<(Minute, Minute)> {
    let is_time = |expr: &Expr| is_column(expr, time);
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (minutes_around(left, time), minutes_around(right, time)) {
                (Some(left), Some(right)) => Some((left.0.max(right.0), left.1.min(right.1))),
                (one, other) => one.or(other),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_time(left) => around(*op, nanos_of(right)?),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_time(right) => around(op.swap()?, nanos_of(left)?),
        Expr::Between(between) if !between.negated && is_time(&between.expr) => {
            let from = around(Operator::GtEq, nanos_of(&between.low)?)?;
            Some((from.0, around(Operator::LtEq, nanos_of(&between.high)?)?.1))
        }
        _ => None,
    }
}

/// The minutes that `time op moment` leaves.
fn around(op: Operator, moment: i128) -> Option<(Minute, Minute)> {
    let minute = Minute::from_index(i64::try_from(moment.div_euclid(NANOS_PER_MINUTE)).ok()?);
    match op {
        Operator::Eq => Some((minute, minute)),
        Operator::Gt | Operator::GtEq => Some((minute, Bounds::ALL.to)),
        Operator::Lt | Operator::LtEq => Some((Bounds::ALL.from, minute)),
        _ => None,
    }
}

/// Whether a filter may leave out minutes between those that it lets through.
fn has_gaps(filter: &Expr) -> bool {
    match filter {
        Expr::InList(_) | Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => true,
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => has_gaps(left) || has_gaps(right),
        _ => false,
    }
}

/// The column itself, or a cast of it to another kind of timestamp: the moment stays the same, and no
/// whole minute is rounded by it (dates are, and are left alone).
fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Column(column) => column.name == name,
        Expr::Cast(Cast { expr, field }) => {
            matches!(field.data_type(), DataType::Timestamp(..)) && is_column(expr, name)
        }
        _ => false,
    }
}

fn is_minute(expr: &Expr) -> bool {
    is_column(expr, "minute")
}

/// A literal moment in nanoseconds since 1970.
fn nanos_of(expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::TimestampSecond(Some(at), _) => Some(i128::from(*at) * 1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(at), _) => Some(i128::from(*at) * 1_000_000),
        ScalarValue::TimestampMicrosecond(Some(at), _) => Some(i128::from(*at) * 1_000),
        ScalarValue::TimestampNanosecond(Some(at), _) => Some(i128::from(*at)),
        _ => None,
    }
}
