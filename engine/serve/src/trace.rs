//! Takes the trace context that a caller sends (W3C `traceparent` and `tracestate`) into the span of its
//! request. What a span is exported to is decided elsewhere: see [`crate::Edge::adopt`].

use std::fmt;

use tracing::Span;

use crate::edge::Edge;

/// The caller's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: u128,
    pub span_id: u64,
    pub sampled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub parent: TraceParent,
    pub state: Option<String>,
}

impl TraceParent {
    /// `version-trace-span-flags`, in lower-case hexadecimal. What is not well-formed is no context, as the
    /// recommendation has it: a broken header never breaks a request.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hexadecimal = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let well_formed =
            hexadecimal(version, 2) && hexadecimal(trace, 32) && hexadecimal(span, 16) && hexadecimal(flags, 2);
        // Later versions may add parts; version 00 has exactly four, and ff is none.
        if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, sampled })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The span of one request, under its caller's where the headers name one.
pub(crate) fn request_span(edge: &Edge, what: &str, headers: &http::HeaderMap) -> Span {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let span = tracing::info_span!("request", rpc = what, trace_id = tracing::field::Empty);
    if let Some(parent) = header("traceparent").and_then(TraceParent::parse) {
        span.record("trace_id", tracing::field::display(format_args!("{:032x}", parent.trace_id)));
        // The recommendation asks for 512 characters to be carried; more are not.
        let state = header("tracestate").filter(|state| state.len() <= 512).map(str::to_owned);
        edge.adopt_trace(&span, &TraceContext { parent, state });
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_parents_count() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = TraceParent::parse(good).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed.sampled), (good, true));
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        assert!(TraceParent::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some());
    }
}
