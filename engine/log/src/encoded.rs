//! A record as the bytes that the log will hold, made and checksummed by whoever submits it, so that
//! the commit thread only numbers and writes. It does no I/O.

use tidewatch_model::limits;

use crate::{error::LogError, record::Record};

/// An encoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    kind: u8,
    layout: u8,
    events: usize,
    payload_crc: u32,
    payload: Vec<u8>,
}

impl Encoded {
    pub fn new(record: &Record) -> Result<Self, LogError> {
        let mut payload = Vec::new();
        let (kind, layout) = record.encode(&mut payload)?;
        if payload.len() > limits::RECORD_BYTES_MAX {
            return Err(LogError::TooLarge { bytes: payload.len() });
        }
        let events = match record {
            Record::Events(events) => events.rows.num_rows(),
            _ => 0,
        };
        Ok(Self { kind, layout, events, payload_crc: crc32c::crc32c(&payload), payload })
    }

    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// How many accepted events the record holds.
    pub fn events(&self) -> usize {
        self.events
    }

    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    pub(crate) fn layout(&self) -> u8 {
        self.layout
    }

    pub(crate) fn payload_crc(&self) -> u32 {
        self.payload_crc
    }
}
