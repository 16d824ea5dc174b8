//! The door: which events are let in. It checks one event at a time and says in a sentence what is wrong;
//! how events become columns stands in `transactions` (protobuf) and `json`. What later happens to an event
//! (late, duplicate) is not known here.

use std::sync::Arc;

use arrow::{array::RecordBatch, error::ArrowError};
use tidewatch_model::{Column, EventTime, SessionId, StreamSchema, limits};

use crate::{
    excerpt::quoted,
    id_key::IdKey,
    transactions::{self, Source},
};

/// Whole-number columns of `transactions` that have a least value. A count of 0 is how a pre-aggregated feed says
/// that there were none.
const FLOORS: [(&str, i64); 2] = [("count", 0), ("latency_us", 0)];

/// When a batch came, and to which session it belongs. Decides which event times are possible.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: EventTime,
    pub session: Option<SessionId>,
}

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) field: Option<String>,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn of(field: &str, reason: String) -> Self {
        Self { field: Some(field.to_owned()), reason }
    }

    pub(crate) fn whole(reason: impl Into<String>) -> Self {
        Self { field: None, reason: reason.into() }
    }
}

/// Converts the events of one stream. Built once; used by every request.
#[derive(Debug)]
pub struct Door {
    schema: Arc<StreamSchema>,
    /// For each column of the stream where the protobuf message holds it.
    pub(crate) sources: Vec<Option<Source>>,
    /// Fields of the message for which the stream has no column.
    pub(crate) homeless: Vec<(&'static str, Source)>,
    pub(crate) id_key: IdKey,
}

/// Why a stream cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    #[error("column `{column}` of stream `{stream}` has a type that the protobuf field of its name cannot fill")]
    Type { stream: String, column: String },
    #[error("column `{column}` of stream `{stream}` is required, and the protobuf message has no such field")]
    Required { stream: String, column: String },
}

impl Door {
    pub fn new(schema: Arc<StreamSchema>, id_key: IdKey) -> Result<Self, DoorError> {
        let (sources, homeless) = transactions::wire(&schema)?;
        Ok(Self { schema, sources, homeless, id_key })
    }

    pub fn schema(&self) -> &Arc<StreamSchema> {
        &self.schema
    }

    pub(crate) fn is_id(&self, position: usize) -> bool {
        self.schema.id() == Some(position)
    }

    pub(crate) fn is_event_time(&self, position: usize) -> bool {
        position == self.schema.event_time()
    }

    /// Only the event time is bound to the clock; other timestamps need only be ones that can be stored.
    pub(crate) fn check_event_time(&self, name: &str, time: EventTime, arrival: &Arrival) -> Result<(), Fault> {
        if time < limits::EVENT_TIME_MIN {
            let reason = match time.micros() {
                0 => format!("`{name}` is missing"),
                _ => format!(
                    "`{name}` is {time}, before 1971: is it in seconds or milliseconds instead of microseconds?"
                ),
            };
            return Err(Fault::of(name, reason));
        }
        let (latest, why) = match arrival.session {
            Some(_) => (limits::EVENT_TIME_MAX, "the last moment that can be stored".to_owned()),
            None => (
                arrival.at.plus(self.schema.max_ahead).min(limits::EVENT_TIME_MAX),
                format!("{} after its arrival; only a replay session may go beyond", self.schema.max_ahead),
            ),
        };
        if time > latest {
            return Err(Fault::of(name, format!("`{name}` is {time}, later than {latest}: {why}")));
        }
        Ok(())
    }

    pub(crate) fn check_timestamp(&self, name: &str, time: EventTime) -> Result<(), Fault> {
        if time.micros().unsigned_abs() > limits::EVENT_TIME_MAX.micros().unsigned_abs() {
            return Err(Fault::of(name, format!("`{name}` is {time}, which cannot be stored (1677 to 2262)")));
        }
        Ok(())
    }

    pub(crate) fn check_integer(&self, name: &str, value: i64) -> Result<(), Fault> {
        match FLOORS.iter().find(|(column, _)| *column == name) {
            Some((_, least)) if value < *least => {
                Err(Fault::of(name, format!("`{name}` is {value}; it must be at least {least}")))
            }
            _ => Ok(()),
        }
    }

    /// Empty text is absent text.
    pub(crate) fn check_required(&self, column: &Column, present: bool) -> Result<(), Fault> {
        if column.required && column.default.is_none() && !present {
            return Err(Fault::of(&column.name, format!("`{}` is missing", column.name)));
        }
        Ok(())
    }
}

pub(crate) fn check_text(name: &str, text: &str) -> Result<(), Fault> {
    if text.len() > limits::TEXT_BYTES_MAX {
        let (bytes, max) = (text.len(), limits::TEXT_BYTES_MAX);
        return Err(Fault::of(name, format!("`{name}` has {bytes} bytes; at most {max} are allowed")));
    }
    Ok(())
}

pub(crate) fn check_map<'a>(
    name: &str,
    entries: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Fault> {
    if entries.len() > limits::MAP_ENTRIES_MAX {
        let (count, max) = (entries.len(), limits::MAP_ENTRIES_MAX);
        return Err(Fault::of(name, format!("`{name}` has {count} entries; at most {max} are allowed")));
    }
    for (key, value) in entries {
        if key.is_empty() {
            return Err(Fault::of(name, format!("`{name}` has an entry with an empty key")));
        }
        check_text(name, key)?;
        if value.len() > limits::TEXT_BYTES_MAX {
            let (bytes, max) = (value.len(), limits::TEXT_BYTES_MAX);
            let reason = format!("entry {} of `{name}` has {bytes} bytes; at most {max} are allowed", quoted(key));
            return Err(Fault::of(name, reason));
        }
    }
    Ok(())
}

/// Arrow refuses columns that do not fit the schema. They were made from that schema, so this is a defect of ours;
/// the batch is refused with the sentence instead of ending the process.
pub(crate) fn misfit(error: &ArrowError) -> Fault {
    Fault::whole(format!("the converted columns do not fit the stream's schema: {error}"))
}

/// Rows of the schema, of which there are none.
pub(crate) fn no_rows(schema: &StreamSchema) -> RecordBatch {
    RecordBatch::new_empty(Arc::clone(schema.arrow()))
}
