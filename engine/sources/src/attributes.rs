//! The attributes map of an event: text to text, put together from a map of the file's own, from
//! single columns, and from what is left over.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, MapArray, MapBuilder, MapFieldNames, StringArray, StringBuilder},
    datatypes::DataType,
};
use serde::de::IgnoredAny;
use tidewatch_model::limits::{MAP_ENTRIES_MAX, TEXT_BYTES_MAX};

use crate::{
    cells::{self, Faults, Unsupported},
    object::members,
};

/// A builder of maps in the one form that `ColumnType::Map` has.
pub(crate) fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
}

/// The parts that a map is put together from. A later part wins over an earlier one of the same key.
pub(crate) struct Parts {
    /// A map, or text that holds a JSON object.
    pub map: Option<ArrayRef>,
    /// Columns under their names.
    pub columns: Vec<(String, ArrayRef)>,
    /// A map of what nothing names.
    pub rest: Option<ArrayRef>,
}

/// Puts the parts together; a row without any entry has no map.
pub(crate) fn build(name: &str, parts: &Parts, rows: usize, faults: &mut Faults) -> Result<ArrayRef, Unsupported> {
    let maps = [parts.map.as_ref(), parts.rest.as_ref()];
    let maps: Vec<Entries> =
        maps.into_iter().flatten().map(|array| Entries::of(name, array, faults)).collect::<Result<_, _>>()?;
    let columns: Vec<(&str, StringArray)> = parts
        .columns
        .iter()
        .map(|(column, array)| Ok((column.as_str(), cells::text(column, array, faults)?)))
        .collect::<Result<_, Unsupported>>()?;
    let mut builder = map_builder();
    let mut entries: Vec<(String, String)> = Vec::new();
    for row in 0..rows {
        entries.clear();
        for map in &maps {
            map.append(name, row, &mut entries, faults);
        }
        for (column, values) in &columns {
            if values.is_valid(row) {
                put(&mut entries, column, values.value(row));
            }
        }
        check(name, row, &entries, faults);
        for (key, value) in &entries {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        // Keys and values are appended in pairs, which is all that `append` checks.
        builder.append(!entries.is_empty()).map_err(|error| Unsupported(error.to_string()))?;
    }
    Ok(Arc::new(builder.finish()))
}

fn put(entries: &mut Vec<(String, String)>, key: &str, value: &str) {
    match entries.iter_mut().find(|(known, _)| known == key) {
        Some((_, known)) => value.clone_into(known),
        None => entries.push((key.to_owned(), value.to_owned())),
    }
}

fn check(name: &str, row: usize, entries: &[(String, String)], faults: &mut Faults) {
    if entries.len() > MAP_ENTRIES_MAX {
        faults.add(row, || format!("`{name}` has {} entries; at most {MAP_ENTRIES_MAX} are allowed", entries.len()));
    }
    let long = |text: &String| text.len() > TEXT_BYTES_MAX;
    if let Some((key, _)) = entries.iter().find(|(key, value)| long(key) || long(value)) {
        let key = crate::raw::excerpt(key);
        faults.add(row, || format!("the entry `{key}` of `{name}` is longer than {TEXT_BYTES_MAX} bytes"));
    }
}

/// A map of the file's own, in either of its forms.
enum Entries {
    Native(Box<(MapArray, StringArray, StringArray)>),
    Json(StringArray),
}

impl Entries {
    fn of(name: &str, array: &ArrayRef, faults: &mut Faults) -> Result<Self, Unsupported> {
        if !matches!(array.data_type(), DataType::Map(_, _)) {
            return cells::long_text(name, array, faults).map(Self::Json);
        }
        let map = array.as_map().clone();
        // Faults within the entries are found per row by `check`; here only the types matter.
        let mut within = Faults::default();
        let keys = cells::long_text(name, map.keys(), &mut within)?;
        let values = cells::long_text(name, map.values(), &mut within)?;
        Ok(Self::Native(Box::new((map, keys, values))))
    }

    fn append(&self, name: &str, row: usize, entries: &mut Vec<(String, String)>, faults: &mut Faults) {
        match self {
            Self::Native(native) => {
                let (map, keys, values) = native.as_ref();
                let offsets = map.value_offsets();
                let (Some(from), Some(to)) = (offsets.get(row), offsets.get(row + 1)) else { return };
                for at in (*from as usize..*to as usize).filter(|_| map.is_valid(row)) {
                    if values.is_valid(at) {
                        put(entries, keys.value(at), values.value(at));
                    }
                }
            }
            Self::Json(texts) if texts.is_valid(row) => {
                let text = texts.value(row);
                if !text.trim_start().starts_with('{') || serde_json::from_str::<IgnoredAny>(text).is_err() {
                    faults.add(row, || format!("`{name}` is not a JSON object"));
                    return;
                }
                for member in members(text) {
                    match member.text() {
                        _ if member.is_nested() => {
                            faults.add(row, || format!("`{name}` is nested deeper than text to text"));
                        }
                        Ok(Some(value)) => put(entries, &member.name, &value),
                        Ok(None) => {}
                        Err(reason) => faults.add(row, || reason),
                    }
                }
            }
            Self::Json(_) => {}
        }
    }
}
