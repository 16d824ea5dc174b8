//! Damaged frames: each kind of damage is named, and none makes a frame panic.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayData, ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray,
        StructArray, TimestampMicrosecondArray, make_array,
    },
    buffer::Buffer,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{ALL, NO_KEYS, SIMPLE, partial, seeds, two_rows, view, with_column};
use crate::{FrameError, PartialRows, states::random::pictures};

/// A struct column with one of its columns replaced, unchecked as a damaged file would have it.
fn with_child(frame: &RecordBatch, at: usize, child: usize, values: &dyn Array) -> RecordBatch {
    let data = frame.column(at).to_data();
    let mut children = data.child_data().to_vec();
    children[child] = values.to_data();
    let data = data.into_builder().child_data(children).build().unwrap();
    with_column(frame, at, Arc::new(StructArray::from(data)))
}

#[test]
fn damage_is_named_by_column_and_row() {
    let (view, codec, frame) = two_rows();
    let minutes = |micros: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"));
    let sketch = |bytes: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from(vec![Some(&[1, 0][..]), Some(bytes)])) };
    let list = |child: usize, values: Vec<i64>| {
        let histogram = frame.column(7).to_data();
        let list = histogram.child_data()[child].clone();
        let items = Int64Array::from(values).to_data();
        make_array(list.into_builder().child_data(vec![items]).build().unwrap())
    };
    let ints = |values: Vec<Option<i64>>| Int64Array::from(values);
    let cases = [
        ("minute", 1, "missing", with_column(&frame, 0, minutes(vec![Some(300_000_000), None]))),
        ("minute", 1, "start of a minute", with_column(&frame, 0, minutes(vec![Some(0), Some(59_999_999)]))),
        ("minute", 1, "these keys already", with_column(&frame, 1, Arc::new(StringArray::from(vec!["a", "a"])))),
        ("state_0", 1, "negative", with_column(&frame, 2, Arc::new(ints(vec![Some(0), Some(-1)])))),
        ("state_0", 0, "missing", with_column(&frame, 2, Arc::new(ints(vec![None, Some(1)])))),
        ("state_1", 0, "missing", with_child(&frame, 3, 0, &ints(vec![None, None]))),
        ("state_1", 0, "twice", {
            let wide = FixedSizeBinaryArray::try_from_iter([[1u8; 16], [1; 16]].iter()).unwrap();
            with_child(&frame, 3, 1, &wide)
        }),
        ("state_1", 0, "would fit", {
            let wide = FixedSizeBinaryArray::try_from_iter([[0u8; 16], [1; 16]].iter()).unwrap();
            with_child(&with_child(&frame, 3, 1, &wide), 3, 0, &ints(vec![None, None]))
        }),
        ("state_3", 0, "no value", with_child(&frame, 5, 0, &ints(vec![Some(0), Some(1)]))),
        ("state_4", 1, "empty", with_column(&frame, 6, sketch(&[]))),
        ("state_4", 1, "version", with_column(&frame, 6, sketch(&[2, 0]))),
        ("state_4", 1, "damaged", with_column(&frame, 6, sketch(&[1, 0, 1, 1, 0]))),
        ("state_4", 1, "damaged", with_column(&frame, 6, sketch(&[1, 0, 1, 2, 0, 0, 1, 1, 0, 0]))),
        ("state_4", 1, "damaged", with_column(&frame, 6, sketch(&[1, 0, 0, 2, 0, 0]))),
        ("state_4", 1, "damaged", with_column(&frame, 6, sketch(&[1, 0, 52, 2, 0, 0]))),
        ("state_4", 1, "damaged", with_column(&frame, 6, sketch(&[1, 1, 1, 1]))),
        ("state_5", 1, "negative", with_child(&frame, 7, 0, &ints(vec![Some(1), Some(-4)]))),
        ("state_5", 1, "add up", with_child(&frame, 7, 2, &ints(vec![Some(0), Some(1)]))),
        ("state_5", 0, "counts nothing", with_child(&frame, 7, 4, &list(4, vec![0, 1]))),
    ];
    for (column, row, reason, frame) in cases {
        match view.from_frame(&codec, &frame) {
            Err(FrameError::Value { column: found, row: at, reason: why, .. }) => {
                assert_eq!((found.as_str(), at), (column, row), "{reason}: {why}");
                assert!(why.contains(reason), "{column}, {row}: {why}");
            }
            other => panic!("{column}, {row}, {reason}: {other:?}"),
        }
    }
}

/// Changes some bit somewhere in an array, if what comes out is an array at all.
fn flipped(data: &ArrayData, rng: &mut StdRng) -> Option<ArrayData> {
    if !data.child_data().is_empty() && rng.random_bool(0.8) {
        let mut children = data.child_data().to_vec();
        let at = rng.random_range(0..children.len());
        children[at] = flipped(&children[at], rng)?;
        return data.clone().into_builder().child_data(children).build().ok();
    }
    if data.buffers().is_empty() || rng.random_bool(0.2) {
        let bits = (0..data.len().div_ceil(8)).map(|_| rng.random::<u8>() | rng.random::<u8>()).collect::<Vec<u8>>();
        return data.clone().into_builder().offset(0).nulls(None).null_bit_buffer(Some(bits.into())).build().ok();
    }
    let mut buffers = data.buffers().to_vec();
    let at = rng.random_range(0..buffers.len());
    let mut bytes = buffers[at].as_slice().to_vec();
    if bytes.is_empty() {
        return None;
    }
    let place = rng.random_range(0..bytes.len());
    bytes[place] ^= 1 << rng.random_range(0..8);
    buffers[at] = Buffer::from_vec(bytes);
    data.clone().into_builder().buffers(buffers).align_buffers(true).build().ok()
}

#[test]
fn no_damage_makes_a_frame_panic() {
    let (mut refused, mut taken) = (0, 0);
    for seed in seeds(300) {
        let mut rng = StdRng::seed_from_u64(seed);
        let view = view([ALL, NO_KEYS, SIMPLE].choose(&mut rng).unwrap());
        let codec = view.key_codec().unwrap();
        let rows: Vec<PartialRows> = (0..3).map(|at| partial(&view, &codec, 9 + at, &mut rng)).collect();
        let frame = view.to_frame(&codec, &rows).unwrap();
        for _ in 0..20 {
            let mut damaged = frame.clone();
            for _ in 0..rng.random_range(1..3) {
                let at = rng.random_range(0..damaged.num_columns());
                if let Some(data) = flipped(&damaged.column(at).to_data(), &mut rng) {
                    damaged = with_column(&damaged, at, make_array(data));
                }
            }
            match view.from_frame(&codec, &damaged) {
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("view `v`"), "seed {seed} (TIDEWATCH_SEED): {error}");
                }
                Ok(rows) => {
                    taken += 1;
                    // What was taken is sound: it can be written, merged and read.
                    let again = view.from_frame(&codec, &view.to_frame(&codec, &rows).unwrap()).unwrap();
                    assert_eq!(pictures(&again), pictures(&rows), "seed {seed} (TIDEWATCH_SEED)");
                    for rows in rows {
                        let twice = rows.merged(&rows);
                        view.finish(&codec, twice).unwrap();
                    }
                }
            }
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 100 || seeds(2).end - seeds(2).start == 1, "too little damage was found: {refused}");
}
