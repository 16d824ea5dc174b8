//! From SQL text to one statement that only reads: limits on the text, one statement, SELECT or EXPLAIN.

use datafusion::{
    error::DataFusionError,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{
            ast,
            dialect::GenericDialect,
            keywords::Keyword,
            tokenizer::{Token, Tokenizer},
        },
    },
};
use tidewatch_model::limits;

use crate::{QueryError, error::clean};

/// Parses exactly one query, which may stand behind EXPLAIN.
pub(crate) fn parse(sql: &str) -> Result<Statement, QueryError> {
    if sql.len() > limits::SQL_BYTES_MAX {
        return Err(QueryError::bad(format!(
            "the SQL has {} bytes; at most {} are allowed",
            sql.len(),
            limits::SQL_BYTES_MAX
        )));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize()
        .map_err(|error| QueryError::bad(format!("the SQL does not parse: {error}")))?;
    let operators = tokens.iter().filter(|token| nests(token)).count();
    if operators > limits::SQL_OPERATORS_MAX {
        return Err(QueryError::bad(format!(
            "the SQL has {operators} operators and brackets; at most {} are allowed (a long list goes into IN (…))",
            limits::SQL_OPERATORS_MAX
        )));
    }
    let failed = |error: DataFusionError| QueryError::bad(format!("the SQL does not parse: {}", clean(&error)));
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(failed)?;
    let Some(statement) = statements.pop_front() else {
        return Err(QueryError::bad("there is no SQL statement here; write a SELECT"));
    };
    if !statements.is_empty() {
        return Err(QueryError::bad(format!("there are {} statements here; write exactly one", statements.len() + 1)));
    }
    only_reads(&statement)?;
    Ok(statement)
}

/// The query inside, and whether EXPLAIN stands before it.
pub(crate) fn query_of(statement: &Statement) -> Option<(&ast::Query, bool)> {
    match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            ast::Statement::Query(query) => Some((query, false)),
            ast::Statement::Explain { statement, .. } => match statement.as_ref() {
                ast::Statement::Query(query) => Some((query, true)),
                _ => None,
            },
            _ => None,
        },
        Statement::Explain(explain) => query_of(&explain.statement).map(|(query, _)| (query, true)),
        _ => None,
    }
}

/// The same, to rewrite it.
pub(crate) fn query_of_mut(statement: &mut Statement) -> Option<&mut ast::Query> {
    match statement {
        Statement::Statement(inner) => match inner.as_mut() {
            ast::Statement::Query(query) => Some(query),
            ast::Statement::Explain { statement, .. } => match statement.as_mut() {
                ast::Statement::Query(query) => Some(query),
                _ => None,
            },
            _ => None,
        },
        Statement::Explain(explain) => query_of_mut(&mut explain.statement),
        _ => None,
    }
}

fn only_reads(statement: &Statement) -> Result<(), QueryError> {
    if query_of(statement).is_some() {
        return Ok(());
    }
    let words = statement.to_string();
    let verb: Vec<&str> = words.split_whitespace().take(2).collect();
    Err(QueryError::bad(format!(
        "queries only read: `{} …` is refused; write a SELECT (or EXPLAIN one)",
        verb.join(" ")
    )))
}

/// Whether a token can make the syntax tree one level deeper.
fn nests(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::BETWEEN
                | Keyword::CASE
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::JOIN
                | Keyword::AT
                | Keyword::IN
        ),
        Token::Whitespace(_)
        | Token::Comma
        | Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::RParen
        | Token::RBracket
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}
