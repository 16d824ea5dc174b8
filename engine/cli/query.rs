//! `tidewatch query`: asks a running engine one SQL question and prints the answer. It neither plans
//! nor judges SQL: a question that is refused is refused in the engine's words.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, ensure};
use arrow::{array::RecordBatch, buffer::Buffer, datatypes::SchemaRef, ipc::reader::StreamDecoder};
use tidewatch_query::render;
use tidewatch_serve::proto::tidewatch::v1::{QueryRequest, query_client::QueryClient};

use super::server::ServerArgs;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AnswerFormat {
    /// With borders, for a terminal.
    Table,
    Csv,
    /// One object a line.
    Json,
    Parquet,
}

/// Ask a running engine a SQL question.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For example: "SELECT * FROM payments ORDER BY minute DESC LIMIT 10"
    sql: String,
    #[arg(long, value_enum, default_value_t = AnswerFormat::Table)]
    format: AnswerFormat,
    /// Write the answer to this file. Required for Parquet, which a terminal cannot show.
    #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
    output: Option<PathBuf>,
    /// Give up after this many milliseconds. Default: the engine's own limit.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    timeout_ms: u32,
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = QueryClient::new(args.server.connect().await?);
    let request = QueryRequest { sql: args.sql, timeout_ms: args.timeout_ms };
    let refused = |status: tonic::Status| anyhow::anyhow!("{}", status.message());
    let mut pieces = client.execute(request).await.map_err(refused)?.into_inner();
    let mut decoder = StreamDecoder::new();
    let mut batches: Vec<RecordBatch> = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        let mut bytes = Buffer::from(piece.arrow_ipc);
        while !bytes.is_empty() {
            // A batch may need bytes of the next piece; then the decoder keeps these and gives none.
            batches.extend(decoder.decode(&mut bytes).context("the engine's answer cannot be read")?);
        }
    }
    let schema = decoder.schema();
    let schema = schema.context("the engine's answer ended before it began; ask again")?;
    decoder.finish().context("the engine's answer ended too early; ask again")?;
    let answer = rendered(args.format, &schema, &batches)?;
    match &args.output {
        Some(path) => {
            let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            file.write_all(&answer).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => io::stdout().lock().write_all(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rendered(format: AnswerFormat, schema: &SchemaRef, batches: &[RecordBatch]) -> anyhow::Result<Vec<u8>> {
    let bytes = match format {
        AnswerFormat::Table => {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            let noun = if rows == 1 { "row" } else { "rows" };
            format!("{}\n{rows} {noun}\n", render::table(schema, batches)?).into_bytes()
        }
        AnswerFormat::Csv => render::to_csv(schema, batches)?,
        AnswerFormat::Json => render::json_lines(batches)?,
        AnswerFormat::Parquet => render::to_parquet(schema, batches)?,
    };
    ensure!(
        !bytes.is_empty() || batches.iter().all(|batch| batch.num_rows() == 0),
        "nothing was written of the answer"
    );
    Ok(bytes)
}
