//! Records to bytes and back, all but the columns of events. The layouts are drawn in FORMAT.md.
//! Any bytes decode to a record or to an error; nothing is allocated that the input does not justify.

use tidewatch_model::{EventTime, Partition, SessionId, Span};

use crate::{
    cursor::{Cursor, put_length, put_text, put_values, take_values},
    error::{DecodeError, LogError},
    events,
    reader::Schemas,
    record::{
        Advance, AdvanceCause, Events, Journal, JournalTopic, Producer, Record, RecordKind, Rejected, SessionEnded,
        SessionOpened,
    },
};

/// The layout that this version writes, of every kind.
const LAYOUT: u8 = 1;

mod kind {
    pub const EVENTS: u8 = 1;
    pub const ADVANCE: u8 = 2;
    pub const SESSION_OPENED: u8 = 3;
    pub const SESSION_ENDED: u8 = 4;
    pub const JOURNAL: u8 = 5;
}

impl RecordKind {
    /// `None` for a kind that a later version added.
    pub(crate) fn of_tag(tag: u8) -> Option<Self> {
        match tag {
            kind::EVENTS => Some(Self::Events),
            kind::ADVANCE => Some(Self::Advance),
            kind::SESSION_OPENED => Some(Self::SessionOpened),
            kind::SESSION_ENDED => Some(Self::SessionEnded),
            kind::JOURNAL => Some(Self::Journal),
            _ => None,
        }
    }
}

impl Record {
    /// Appends the payload to `out`, and says its kind and layout.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<(u8, u8), LogError> {
        let too_long = || LogError::Unencodable("a text or list in it is too long".to_owned());
        let kind = match self {
            Self::Events(record) => {
                put_events(out, record).ok_or_else(too_long)?;
                events::encode(&record.rows, out).map_err(LogError::Unencodable)?;
                kind::EVENTS
            }
            Self::Advance(record) => {
                put_text(out, &record.stream).ok_or_else(too_long)?;
                put_partition(out, record.partition);
                put_time(out, record.watermark);
                put_time(out, record.at);
                out.push(match record.cause {
                    AdvanceCause::Idle => 1,
                    AdvanceCause::Silent => 2,
                });
                kind::ADVANCE
            }
            Self::SessionOpened(record) => {
                put_text(out, &record.stream).ok_or_else(too_long)?;
                out.extend_from_slice(&record.session.0.to_le_bytes());
                put_text(out, &record.name).ok_or_else(too_long)?;
                out.extend_from_slice(&record.lateness.micros().to_le_bytes());
                out.push(u8::from(record.notify));
                put_time(out, record.at);
                kind::SESSION_OPENED
            }
            Self::SessionEnded(record) => {
                put_text(out, &record.stream).ok_or_else(too_long)?;
                out.extend_from_slice(&record.session.0.to_le_bytes());
                put_time(out, record.at);
                kind::SESSION_ENDED
            }
            Self::Journal(record) => {
                out.push(topic_tag(record.topic));
                out.extend_from_slice(&record.json);
                kind::JOURNAL
            }
        };
        Ok((kind, LAYOUT))
    }

    /// Reads a payload back. Events come out with the columns that `schemas` has today.
    pub fn decode(kind: u8, layout: u8, payload: &[u8], schemas: &Schemas) -> Result<Self, DecodeError> {
        if layout != LAYOUT || !(kind::EVENTS..=kind::JOURNAL).contains(&kind) {
            return Err(DecodeError::Newer { kind, layout });
        }
        let mut from = Cursor::new(payload);
        let record = match kind {
            kind::EVENTS => Self::Events(take_events(&mut from, schemas)?),
            kind::ADVANCE => Self::Advance(Advance {
                stream: from.text()?.to_owned(),
                partition: take_partition(&mut from)?,
                watermark: take_time(&mut from)?,
                at: take_time(&mut from)?,
                cause: match from.u8()? {
                    1 => AdvanceCause::Idle,
                    2 => AdvanceCause::Silent,
                    other => return Err(from.malformed(format!("{other} is no cause of an advance"))),
                },
            }),
            kind::SESSION_OPENED => Self::SessionOpened(SessionOpened {
                stream: from.text()?.to_owned(),
                session: SessionId(from.u64()?),
                name: from.text()?.to_owned(),
                lateness: Span::from_micros(from.i64()?),
                notify: from.flag()?,
                at: take_time(&mut from)?,
            }),
            kind::SESSION_ENDED => Self::SessionEnded(SessionEnded {
                stream: from.text()?.to_owned(),
                session: SessionId(from.u64()?),
                at: take_time(&mut from)?,
            }),
            _ => {
                let topic = take_topic(&mut from)?;
                Self::Journal(Journal { topic, json: from.bytes(from.left())?.to_vec() })
            }
        };
        from.end()?;
        Ok(record)
    }
}

fn put_events(out: &mut Vec<u8>, record: &Events) -> Option<()> {
    put_text(out, &record.stream)?;
    put_partition(out, record.partition);
    put_time(out, record.arrived_at);
    out.push(u8::from(record.producer.is_some()));
    if let Some(producer) = &record.producer {
        put_text(out, &producer.id)?;
        out.extend_from_slice(&producer.first_sequence.to_le_bytes());
        out.push(u8::from(producer.offsets.is_some()));
        if let Some(offsets) = &producer.offsets {
            put_length(out, offsets.len())?;
            put_values(out, offsets, u32::to_le_bytes);
        }
    }
    put_length(out, record.rejected.len())?;
    for rejected in &record.rejected {
        out.extend_from_slice(&rejected.index.to_le_bytes());
        put_text(out, &rejected.reason)?;
        put_text(out, &rejected.field)?;
        put_text(out, &rejected.event)?;
    }
    Some(())
}

fn take_events(from: &mut Cursor<'_>, schemas: &Schemas) -> Result<Events, DecodeError> {
    let stream = from.text()?.to_owned();
    let partition = take_partition(from)?;
    let arrived_at = take_time(from)?;
    let producer = if from.flag()? { Some(take_producer(from)?) } else { None };
    // An index and three lengths each.
    let count = from.count(16)?;
    let mut rejected = Vec::with_capacity(count);
    for _ in 0..count {
        rejected.push(Rejected {
            index: from.u32()?,
            reason: from.text()?.to_owned(),
            field: from.text()?.to_owned(),
            event: from.text()?.to_owned(),
        });
    }
    let schema = schemas.get(&stream).ok_or_else(|| DecodeError::UnknownStream(stream.clone()))?;
    let rows = events::decode(from, schema)?;
    if producer.as_ref().and_then(|p| p.offsets.as_ref()).is_some_and(|offsets| offsets.len() != rows.num_rows()) {
        return Err(from.malformed("there is not one sequence for each row"));
    }
    Ok(Events { stream, partition, arrived_at, producer, rows, rejected })
}

fn take_producer(from: &mut Cursor<'_>) -> Result<Producer, DecodeError> {
    let id = from.text()?.to_owned();
    let first_sequence = from.u64()?;
    let offsets = if from.flag()? {
        let count = from.count(4)?;
        Some(take_values(from.bytes(4 * count)?, u32::from_le_bytes))
    } else {
        None
    };
    Ok(Producer { id, first_sequence, offsets })
}

fn put_partition(out: &mut Vec<u8>, partition: Partition) {
    match partition {
        Partition::Live(number) => {
            out.push(0);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Partition::Session(session) => {
            out.push(1);
            out.extend_from_slice(&session.0.to_le_bytes());
        }
    }
}

fn take_partition(from: &mut Cursor<'_>) -> Result<Partition, DecodeError> {
    match from.u8()? {
        0 => Ok(Partition::Live(from.u16()?)),
        1 => Ok(Partition::Session(SessionId(from.u64()?))),
        other => Err(from.malformed(format!("{other} is no sort of partition"))),
    }
}

fn put_time(out: &mut Vec<u8>, time: EventTime) {
    out.extend_from_slice(&time.micros().to_le_bytes());
}

fn take_time(from: &mut Cursor<'_>) -> Result<EventTime, DecodeError> {
    Ok(EventTime::from_micros(from.i64()?))
}

fn topic_tag(topic: JournalTopic) -> u8 {
    match topic {
        JournalTopic::Rules => 1,
        JournalTopic::Verdicts => 2,
        JournalTopic::Alerts => 3,
        JournalTopic::Deliveries => 4,
        JournalTopic::Settings => 5,
    }
}

fn take_topic(from: &mut Cursor<'_>) -> Result<JournalTopic, DecodeError> {
    match from.u8()? {
        1 => Ok(JournalTopic::Rules),
        2 => Ok(JournalTopic::Verdicts),
        3 => Ok(JournalTopic::Alerts),
        4 => Ok(JournalTopic::Deliveries),
        5 => Ok(JournalTopic::Settings),
        other => Err(from.malformed(format!("{other} is no journal"))),
    }
}
