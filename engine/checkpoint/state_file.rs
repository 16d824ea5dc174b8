//! The bytes of the state blob and of the blobs of ids, as `FORMAT.md` draws them. Whoever reads them has verified their
//! checksum; a length that does not fit is still an error and no panic.

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    error::ArrowError,
    ipc::{reader::StreamDecoder, writer::StreamWriter},
};
use tidewatch_model::{IdHash, Minute};

/// The last byte is the version.
const STATE_MAGIC: [u8; 8] = *b"TWSTATE\x01";
const IDS_MAGIC: [u8; 8] = *b"TWIDRUN\x01";

#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error("it ends too early: {0}")]
    Short(&'static str),
    #[error("it begins with {found:02x?} where {expected:02x?} should stand: it is another file")]
    Magic { expected: [u8; 8], found: Vec<u8> },
    #[error(
        "it was written by a newer Tidewatch (format {found}; this one reads up to {known}): upgrade tidewatch, or \
         restore a backup made before that"
    )]
    Newer { found: u8, known: u8 },
    #[error("its description is not understood: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its columns are not understood: {0}")]
    Columns(#[from] ArrowError),
}

/// What a state blob holds beside frames: pieces of JSON.
pub const DESCRIPTIONS: usize = 4;

/// The descriptions, and the frames that the last of them speaks of in their order.
pub fn encode_state(descriptions: [&[u8]; DESCRIPTIONS], frames: &[RecordBatch]) -> Result<Vec<u8>, StateFileError> {
    let mut out = STATE_MAGIC.to_vec();
    descriptions.into_iter().for_each(|description| put_section(&mut out, description));
    for frame in frames {
        let mut writer = StreamWriter::try_new(Vec::new(), &frame.schema())?;
        writer.write(frame)?;
        put_section(&mut out, &writer.into_inner()?);
    }
    Ok(out)
}

pub fn decode_state(bytes: &[u8]) -> Result<([&[u8]; DESCRIPTIONS], Vec<RecordBatch>), StateFileError> {
    let mut rest = after_magic(bytes, STATE_MAGIC)?;
    let mut descriptions = [&[][..]; DESCRIPTIONS];
    for description in &mut descriptions {
        *description = take_section(&mut rest)?;
    }
    let mut frames = Vec::new();
    while !rest.is_empty() {
        frames.push(frame(take_section(&mut rest)?)?);
    }
    Ok((descriptions, frames))
}

/// The stream's reader panics on some bytes that no writer makes, though a checksum may vouch for them: here they are not
/// understood, as others are not.
fn frame(bytes: &[u8]) -> Result<RecordBatch, StateFileError> {
    let read = || {
        // Unlike the reader of files, the decoder takes no memory on the word of a length.
        let (mut decoder, mut bytes) = (StreamDecoder::new(), Buffer::from(bytes));
        match decoder.decode(&mut bytes)? {
            Some(rows) => Ok(rows),
            None => {
                let schema = decoder.schema().ok_or_else(|| ArrowError::IpcError("it has no schema".to_owned()))?;
                Ok(RecordBatch::new_empty(schema))
            }
        }
    };
    let broke_off = || Err(ArrowError::IpcError("the reader of the frame broke off".to_owned()));
    std::panic::catch_unwind(read).unwrap_or_else(|_| broke_off()).map_err(StateFileError::Columns)
}

pub fn encode_ids(runs: &[(Minute, Vec<IdHash>)]) -> Vec<u8> {
    let mut out = IDS_MAGIC.to_vec();
    for (minute, ids) in runs {
        out.extend(minute.index().to_le_bytes());
        out.extend((ids.len() as u64).to_le_bytes());
        out.reserve(ids.len() * size_of::<IdHash>());
        ids.iter().for_each(|id| out.extend(id.to_le_bytes()));
    }
    out
}

pub fn decode_ids(bytes: &[u8]) -> Result<Vec<(Minute, Vec<IdHash>)>, StateFileError> {
    let mut rest = after_magic(bytes, IDS_MAGIC)?;
    let mut runs = Vec::new();
    while !rest.is_empty() {
        let minute = i64::from_le_bytes(take_array(&mut rest)?);
        let count = take_length(&mut rest)?;
        let length = count.checked_mul(size_of::<IdHash>()).ok_or(StateFileError::Short("a run of ids"))?;
        let (ids, after) = rest.split_at_checked(length).ok_or(StateFileError::Short("a run of ids"))?;
        rest = after;
        let (ids, _) = ids.as_chunks::<{ size_of::<IdHash>() }>();
        runs.push((Minute::from_index(minute), ids.iter().map(|id| IdHash::from_le_bytes(*id)).collect()));
    }
    Ok(runs)
}

fn put_section(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_section<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StateFileError> {
    let length = take_length(rest)?;
    let (section, after) = rest.split_at_checked(length).ok_or(StateFileError::Short("a section"))?;
    *rest = after;
    Ok(section)
}

fn take_length(rest: &mut &[u8]) -> Result<usize, StateFileError> {
    usize::try_from(u64::from_le_bytes(take_array(rest)?)).map_err(|_| StateFileError::Short("a section"))
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StateFileError> {
    let (array, after) = rest.split_first_chunk::<N>().ok_or(StateFileError::Short("a number"))?;
    *rest = after;
    Ok(*array)
}

fn after_magic(bytes: &[u8], magic: [u8; 8]) -> Result<&[u8], StateFileError> {
    let begin: [u8; 8] = bytes.first_chunk().copied().unwrap_or_default();
    let ([name @ .., known], [begin @ .., found]) = (magic, begin);
    if begin == name && found > known {
        return Err(StateFileError::Newer { found, known });
    }
    bytes.strip_prefix(&magic).ok_or_else(|| StateFileError::Magic {
        expected: magic,
        found: bytes.iter().take(magic.len()).copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::Int64Array,
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    fn frames() -> Vec<RecordBatch> {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let frame = |values: Vec<i64>| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(values))]).unwrap()
        };
        vec![frame(vec![1, 2, 3]), frame(vec![]), frame(vec![-1])]
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let descriptions = [&b"{}"[..], b"[1]", b"", b"2"];
        let bytes = encode_state(descriptions, &frames()).unwrap();
        assert_eq!(decode_state(&bytes).unwrap(), (descriptions, frames()));
    }

    #[test]
    fn ids_are_read_as_they_were_written() {
        let runs = vec![(Minute::from_index(-5), vec![1, u128::MAX]), (Minute::from_index(7), vec![])];
        assert_eq!(decode_ids(&encode_ids(&runs)).unwrap(), runs);
    }

    #[test]
    fn a_file_that_was_cut_is_an_error() {
        let state = encode_state([b"1"; DESCRIPTIONS], &frames()[..1]).unwrap();
        let whole = |cut: usize| decode_state(&state[..cut]).is_ok_and(|(_, frames)| frames.len() == 1);
        assert!((0..state.len()).all(|cut| !whole(cut)) && whole(state.len()));
        let ids = encode_ids(&[(Minute::from_index(1), vec![1, 2])]);
        assert!((9..ids.len()).all(|cut| decode_ids(&ids[..cut]).is_err()));
        assert!(decode_ids(&encode_state([b"1"; DESCRIPTIONS], &[]).unwrap()).is_err(), "another file");
    }

    #[test]
    fn a_newer_version_is_refused_and_not_misread() {
        let newer = |mut bytes: Vec<u8>| {
            bytes[7] += 1;
            bytes
        };
        let state = decode_state(&newer(encode_state([b"1"; DESCRIPTIONS], &[]).unwrap())).map(|_| ()).unwrap_err();
        let ids = decode_ids(&newer(encode_ids(&[(Minute::from_index(1), vec![1])]))).map(|_| ()).unwrap_err();
        for error in [state, ids] {
            assert!(matches!(error, StateFileError::Newer { found: 2, known: 1 }), "{error}");
            assert!(error.to_string().contains("newer Tidewatch"), "{error}");
        }
    }
}
