//! `CREATE TABLE … WITH (event_time = …)`: a stream's schema file.

use std::{collections::BTreeSet, sync::Arc};

use datafusion::sql::sqlparser::{
    ast::{ColumnDef, ColumnOption, CreateTable, DataType as SqlType, Expr, Statement, Value},
    dialect::GenericDialect,
    parser::Parser,
};
use tidewatch_model::{Column, ColumnType, StreamSchema};

use super::{Refusal, Source, options::Options};

const OPTIONS: &[&str] = &[
    "event_time",
    "id",
    "lateness",
    "dedup_span",
    "correction_horizon",
    "max_ahead",
    "live_for",
    "amount",
    "currency",
];

/// A stream as its file declares it.
#[derive(Clone, Debug)]
pub struct Stream {
    pub schema: Arc<StreamSchema>,
    /// Columns whose values are never negative, by `CHECK (column >= 0)` (or `>= 1`).
    pub never_negative: BTreeSet<String>,
    /// The column of amounts and the one that says in which currency: never summed across.
    pub money: Option<(String, String)>,
}

/// Reads a stream's file.
pub fn compile_stream(file: &str, text: &str) -> Result<Stream, Refusal> {
    let source = Source { file, text };
    let statements = Parser::parse_sql(&GenericDialect {}, text).map_err(|e| source.refuse_parse(&e.to_string()))?;
    let [Statement::CreateTable(table)] = statements.as_slice() else {
        return Err(source.refuse("a stream's file holds one `CREATE TABLE name (…) WITH (event_time = '…')`"));
    };
    let name = table.name.to_string();
    let options = Options::read(source, &table.table_options, OPTIONS)?;
    let Some(event_time) = options.text("event_time") else {
        return Err(source.refuse("option `event_time` is missing: name the column that says when an event happened"));
    };
    let columns = table.columns.iter().map(|column| read_column(source, column)).collect::<Result<Vec<_>, _>>()?;
    let mut schema = StreamSchema::new(&name, columns, event_time, options.text("id"))
        .map_err(|error| source.refuse(error.to_string()))?;
    for (option, target) in [
        ("lateness", &mut schema.lateness),
        ("dedup_span", &mut schema.dedup_span),
        ("max_ahead", &mut schema.max_ahead),
        ("live_for", &mut schema.live_for),
    ] {
        if let Some(span) = options.span(option)? {
            *target = span;
        }
    }
    schema.correction_horizon = options.span("correction_horizon")?.unwrap_or(schema.dedup_span);
    let money = match (options.text("amount"), options.text("currency")) {
        (Some(amount), Some(currency)) => {
            for column in [amount, currency] {
                if schema.column(column).is_none() {
                    return Err(source.refuse_at(column, format!("there is no column `{column}`")));
                }
            }
            Some((amount.to_owned(), currency.to_owned()))
        }
        (None, None) => None,
        _ => return Err(source.refuse("options `amount` and `currency` go together")),
    };
    Ok(Stream { schema: Arc::new(schema), never_negative: never_negative(source, table)?, money })
}

fn read_column(source: Source<'_>, column: &ColumnDef) -> Result<Column, Refusal> {
    let name = column.name.value.clone();
    let kind = match &column.data_type {
        SqlType::Text | SqlType::Varchar(_) | SqlType::String(_) => ColumnType::Text,
        SqlType::Timestamp(..) => ColumnType::Timestamp,
        SqlType::BigInt(_) => ColumnType::BigInt,
        SqlType::Double(_) | SqlType::DoublePrecision => ColumnType::Double,
        SqlType::Boolean | SqlType::Bool => ColumnType::Boolean,
        SqlType::Map(..) => ColumnType::Map,
        other => {
            let known = "TEXT, TIMESTAMP, BIGINT, DOUBLE, BOOLEAN, MAP(TEXT, TEXT)";
            return Err(
                source.refuse_at(&name, format!("column `{name}`: a stream has no type `{other}`; use {known}"))
            );
        }
    };
    let mut read = Column { name: name.clone(), kind, required: false, default: None };
    for option in &column.options {
        match &option.option {
            ColumnOption::NotNull => read.required = true,
            ColumnOption::Null | ColumnOption::Check(_) => {}
            ColumnOption::Default(value) => match whole(value) {
                Some(number) if kind == ColumnType::BigInt => read.default = Some(number),
                _ => {
                    let reason = format!("column `{name}`: a default must be a whole number of a BIGINT column");
                    return Err(source.refuse_at(&name, reason));
                }
            },
            other => {
                return Err(source.refuse_at(&name, format!("column `{name}`: `{other}` means nothing in a stream")));
            }
        }
    }
    Ok(read)
}

fn whole(value: &Expr) -> Option<i64> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Columns with `CHECK (column >= n)`, n at least 0.
fn never_negative(source: Source<'_>, table: &CreateTable) -> Result<BTreeSet<String>, Refusal> {
    let mut columns = BTreeSet::new();
    for column in &table.columns {
        for option in &column.options {
            let ColumnOption::Check(check) = &option.option else { continue };
            let text = check.expr.to_string();
            let name = &column.name.value;
            if text == format!("{name} >= 0") || text == format!("{name} >= 1") {
                columns.insert(name.clone());
            } else {
                let reason = format!("CHECK ({text}): only `CHECK ({name} >= 0)` and `>= 1` are known");
                return Err(source.refuse_at(name, reason));
            }
        }
    }
    Ok(columns)
}
