//! `POST /api/v1/read`: Prometheus remote read, in whole samples.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prost::Message;
use tidewatch_model::limits;

use super::{Site, body, problem::Problem};
use crate::{
    engine::{Selection, Series},
    matcher::{Matcher, Operator},
    proto::prometheus::{
        Label, LabelMatcher, Query, QueryResult, ReadRequest, ReadResponse, Sample, TimeSeries, label_matcher,
        read_request::ResponseType,
    },
};

/// Bytes of a request, packed and unpacked: matchers and two times a query.
const REQUEST_BYTES_MAX: usize = 1 << 20;

pub(super) async fn post_read(State(site): State<Arc<Site>>, body: Body) -> Result<Response, Problem> {
    let request = decode(&body::read(body, REQUEST_BYTES_MAX).await?)?;
    let mut left = limits::REMOTE_READ_SAMPLES_MAX;
    let mut results = Vec::with_capacity(request.queries.len());
    for query in &request.queries {
        let series = site.edge.engine().series(selection(query, left)?).await?;
        // The engine keeps to the limit; were it ever to answer more, the sum must not wrap.
        left = left.saturating_sub(series.iter().map(|series| series.samples.len()).sum());
        results.push(series);
    }
    let encoded = tokio::task::spawn_blocking(move || encode(results)).await;
    let bytes = encoded.map_err(|_| Problem::internal("the answer could not be encoded"))??;
    let headers = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
    Ok((headers, bytes).into_response())
}

/// What a body asks for, as the server understands it; else the sentence with which it is refused.
pub fn remote_read_request(packed: &[u8]) -> Result<Vec<Selection>, String> {
    let request = decode(packed).map_err(|problem| problem.to_string())?;
    let selected = request.queries.iter().map(|query| selection(query, limits::REMOTE_READ_SAMPLES_MAX));
    selected.collect::<Result<_, _>>().map_err(|problem| problem.to_string())
}

/// The announced length is judged before anything is unpacked, so that a small body cannot fill the memory.
fn decode(packed: &[u8]) -> Result<ReadRequest, Problem> {
    let broken = |error| Problem::bad(format!("the body is not one block of snappy: {error}"));
    let length = snap::raw::decompress_len(packed).map_err(broken)?;
    if length > REQUEST_BYTES_MAX {
        let message = format!("the body unpacks to {length} bytes; at most {REQUEST_BYTES_MAX} are allowed");
        return Err(Problem::too_large(message));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(packed).map_err(broken)?;
    let request = ReadRequest::decode(bytes.as_slice())
        .map_err(|error| Problem::bad(format!("the body is not a ReadRequest: {error}")))?;
    if request.queries.len() > limits::REMOTE_READ_QUERIES_MAX {
        let (count, max) = (request.queries.len(), limits::REMOTE_READ_QUERIES_MAX);
        return Err(Problem::bad(format!("the request has {count} queries; at most {max} are allowed")));
    }
    let forms = &request.accepted_response_types;
    if !forms.is_empty() && !forms.contains(&(ResponseType::Samples as i32)) {
        return Err(Problem::bad("the request accepts no response type that is served here: add SAMPLES"));
    }
    Ok(request)
}

fn selection(query: &Query, samples_max: usize) -> Result<Selection, Problem> {
    if query.matchers.len() > limits::REMOTE_READ_MATCHERS_MAX {
        let (count, max) = (query.matchers.len(), limits::REMOTE_READ_MATCHERS_MAX);
        return Err(Problem::bad(format!("a query has {count} matchers; at most {max} are allowed")));
    }
    let matchers = query.matchers.iter().map(matcher).collect::<Result<_, _>>()?;
    Ok(Selection { matchers, from_ms: query.start_timestamp_ms, to_ms: query.end_timestamp_ms, samples_max })
}

fn matcher(matcher: &LabelMatcher) -> Result<Matcher, Problem> {
    let operator = match label_matcher::Type::try_from(matcher.r#type) {
        Ok(label_matcher::Type::Eq) => Operator::Equal,
        Ok(label_matcher::Type::Neq) => Operator::NotEqual,
        Ok(label_matcher::Type::Re) => Operator::Matches,
        Ok(label_matcher::Type::Nre) => Operator::MatchesNot,
        Err(_) => return Err(Problem::bad(format!("{} is no type of matcher", matcher.r#type))),
    };
    Matcher::new(&matcher.name, operator, &matcher.value).map_err(|error| Problem::bad(error.to_string()))
}

fn encode(results: Vec<Vec<Series>>) -> Result<Bytes, Problem> {
    let results = results
        .into_iter()
        .map(|series| QueryResult { timeseries: series.into_iter().map(time_series).collect() })
        .collect();
    let bytes = ReadResponse { results }.encode_to_vec();
    let packed = snap::raw::Encoder::new().compress_vec(&bytes);
    packed.map(Bytes::from).map_err(|error| Problem::internal(format!("the answer cannot be packed: {error}")))
}

fn time_series(series: Series) -> TimeSeries {
    TimeSeries {
        labels: series.labels.into_iter().map(|(name, value)| Label { name, value }).collect(),
        samples: series
            .samples
            .into_iter()
            .map(|sample| Sample { value: sample.value, timestamp: sample.ms })
            .collect(),
    }
}
