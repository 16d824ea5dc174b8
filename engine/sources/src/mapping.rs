//! Which column of the stream is filled from where: what the person wrote (`MappingSpec`) and what it
//! means for one file (`Plan`). It refuses what cannot be meant before a single row is read.

use std::collections::BTreeSet;

use tidewatch_model::{ColumnType, StreamSchema};

use crate::SourceError;

/// A target that no stream has: an amount in major units, which becomes `amount_minor`.
pub const AMOUNT: &str = "amount";
const AMOUNT_MINOR: &str = "amount_minor";
const CURRENCY: &str = "currency";

/// Which columns of the file that have no place of their own go into the attributes map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attributes {
    #[default]
    Nothing,
    Named(Vec<String>),
    Rest,
}

/// The mapping as the person wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingSpec {
    /// (target, source) pairs.
    pub map: Vec<(String, String)>,
    /// (target, constant) pairs.
    pub set: Vec<(String, String)>,
    pub attributes: Attributes,
}

impl MappingSpec {
    /// Reads `target=source` and `target=constant` lists; each text may hold several, parted by commas.
    pub fn parse(map: &[String], set: &[String], attributes: Option<&str>) -> Result<Self, SourceError> {
        let attributes = match attributes {
            None => Attributes::Nothing,
            Some("rest") => Attributes::Rest,
            Some(names) => Attributes::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
        };
        Ok(Self { map: pairs("--map", map)?, set: pairs("--set", set)?, attributes })
    }

    /// One text for each mapping, whatever the order of its options: part of a replay's identity.
    pub fn canonical(&self) -> String {
        let sorted = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeSet<_>>();
        format!("map {:?} set {:?} attributes {:?}", sorted(&self.map), sorted(&self.set), self.attributes)
    }
}

fn pairs(option: &str, texts: &[String]) -> Result<Vec<(String, String)>, SourceError> {
    texts
        .iter()
        .flat_map(|text| text.split(','))
        .filter(|text| !text.trim().is_empty())
        .map(|text| match text.split_once('=') {
            Some((target, value)) if !target.trim().is_empty() && !value.is_empty() => {
                Ok((target.trim().to_owned(), value.to_owned()))
            }
            _ => Err(SourceError::refused(format!("{option}: `{text}` is not of the form target=value"))),
        })
        .collect()
}

/// Where a value comes from: the same text for every row, or a column that is read, by its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Constant(String),
    Slot(usize),
}

/// How one column of the stream is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Absent,
    From(Origin),
    /// Major units, with the currency of the column at this position.
    Amount {
        from: Origin,
        currency: usize,
    },
    /// A map of the source's own, single columns under their names, and whatever is left over.
    Attributes {
        map: Option<Origin>,
        columns: Vec<(String, usize)>,
        rest: bool,
    },
}

/// What a mapping means for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// One for each column of the stream.
    pub fills: Vec<Fill>,
    /// The source columns that are read, by slot.
    pub wanted: Vec<String>,
    /// Whether columns that nothing names go into the attributes.
    pub rest: bool,
    /// Sentences that the person should see.
    pub notices: Vec<String>,
}

/// The names that a source has.
pub(crate) struct SourceNames<'a> {
    pub names: &'a [String],
    /// False where the names were only seen in the first rows, so that more may follow.
    pub complete: bool,
}

impl SourceNames<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

struct Binder<'a> {
    schema: &'a StreamSchema,
    source: &'a SourceNames<'a>,
    wanted: Vec<String>,
    notices: Vec<String>,
}

impl Plan {
    pub fn bind(spec: &MappingSpec, schema: &StreamSchema, source: &SourceNames<'_>) -> Result<Self, SourceError> {
        refuse_unknown_targets(spec, schema)?;
        let mut binder = Binder { schema, source, wanted: Vec::new(), notices: Vec::new() };
        let mut fills = Vec::with_capacity(schema.columns().len());
        for column in schema.columns() {
            fills.push(match column.kind {
                ColumnType::Map => binder.attributes(spec, &column.name)?,
                _ => binder.origin(spec, &column.name)?.map_or(Fill::Absent, Fill::From),
            });
        }
        binder.amount(spec, &mut fills)?;
        binder.refuse_unfilled(&fills)?;
        let rest = fills.iter().any(|fill| matches!(fill, Fill::Attributes { rest: true, .. }));
        if rest {
            // Names that are known now are read as columns; the reader adds those that turn up later.
            binder.bind_rest(&mut fills)?;
        } else {
            binder.notice_ignored();
        }
        Ok(Self { fills, wanted: binder.wanted, rest, notices: binder.notices })
    }

    /// The same plan for one column only: what the first pass over a file needs.
    pub fn only(&self, column: usize) -> Self {
        let mut fills = vec![Fill::Absent; self.fills.len()];
        let mut wanted = Vec::new();
        if let (Some(own), Some(from)) = (fills.get_mut(column), self.fills.get(column)) {
            *own = match from {
                Fill::From(Origin::Slot(slot)) => {
                    wanted.extend(self.wanted.get(*slot).cloned());
                    Fill::From(Origin::Slot(0))
                }
                other => other.clone(),
            };
        }
        Self { fills, wanted, rest: false, notices: Vec::new() }
    }
}

fn refuse_unknown_targets(spec: &MappingSpec, schema: &StreamSchema) -> Result<(), SourceError> {
    let mut seen = BTreeSet::new();
    for (target, _) in spec.map.iter().chain(&spec.set) {
        let has_amount = schema.column(AMOUNT_MINOR).is_some() && schema.column(CURRENCY).is_some();
        let known = schema.column(target).is_some() || (target == AMOUNT && has_amount);
        if !known {
            let names = schema.columns().iter().map(|column| column.name.as_str()).chain([AMOUNT]);
            let hint = tidewatch_model::did_you_mean(target, names);
            return Err(SourceError::refused(format!(
                "stream `{}` has no column `{target}` to fill{hint}",
                schema.name()
            )));
        }
        if !seen.insert(target.as_str()) {
            return Err(SourceError::refused(format!("`{target}` is filled twice by --map and --set; give it once")));
        }
    }
    if seen.contains(AMOUNT) && seen.contains(AMOUNT_MINOR) {
        return Err(SourceError::refused(
            "`amount` and `amount_minor` are the same column in different units; give one",
        ));
    }
    Ok(())
}

impl Binder<'_> {
    /// What fills a target: `--map`, `--set`, or the column of the same name.
    fn origin(&mut self, spec: &MappingSpec, target: &str) -> Result<Option<Origin>, SourceError> {
        if let Some((_, value)) = spec.set.iter().find(|(name, _)| name == target) {
            return Ok(Some(Origin::Constant(value.clone())));
        }
        if let Some((_, source)) = spec.map.iter().find(|(name, _)| name == target) {
            return self.slot(&format!("--map {target}={source}"), source).map(|slot| Some(Origin::Slot(slot)));
        }
        match self.source.has(target) || !self.source.complete {
            true => self.slot(target, target).map(|slot| Some(Origin::Slot(slot))),
            false => Ok(None),
        }
    }

    /// The slot of a source column, which is then read.
    fn slot(&mut self, context: &str, name: &str) -> Result<usize, SourceError> {
        let copies = self.source.names.iter().filter(|own| *own == name).count();
        if copies > 1 {
            return Err(SourceError::refused(format!("the file has {copies} columns named `{name}`; rename one")));
        }
        if copies == 0 && self.source.complete {
            let hint = tidewatch_model::did_you_mean(name, self.source.names.iter().map(String::as_str));
            return Err(SourceError::refused(format!("{context}: the file has no column `{name}`{hint}")));
        }
        if copies == 0 && context != name {
            self.notices.push(format!("{context}: the first rows of the file have no key `{name}`"));
        }
        match self.wanted.iter().position(|own| own == name) {
            Some(slot) => Ok(slot),
            None => {
                self.wanted.push(name.to_owned());
                Ok(self.wanted.len() - 1)
            }
        }
    }

    fn attributes(&mut self, spec: &MappingSpec, target: &str) -> Result<Fill, SourceError> {
        let map = self.origin(spec, target)?;
        let columns = match &spec.attributes {
            Attributes::Named(names) => names
                .iter()
                .map(|name| Ok((name.clone(), self.slot(&format!("--attributes {name}"), name)?)))
                .collect::<Result<_, SourceError>>()?,
            Attributes::Nothing | Attributes::Rest => Vec::new(),
        };
        let rest = spec.attributes == Attributes::Rest;
        match (map, columns.is_empty(), rest) {
            (None, true, false) => Ok(Fill::Absent),
            (map, _, rest) => Ok(Fill::Attributes { map, columns, rest }),
        }
    }

    /// Fills `amount_minor` from an amount in major units, where the mapping or the file has one.
    fn amount(&mut self, spec: &MappingSpec, fills: &mut [Fill]) -> Result<(), SourceError> {
        let (Some((minor, _)), Some((currency, _))) = (self.schema.column(AMOUNT_MINOR), self.schema.column(CURRENCY))
        else {
            return Ok(());
        };
        let asked = spec.map.iter().chain(&spec.set).any(|(target, _)| target == AMOUNT);
        let by_itself = !asked
            && self.source.has(AMOUNT)
            && !self.source.has(AMOUNT_MINOR)
            && !spec.map.iter().chain(&spec.set).any(|(target, _)| target == AMOUNT_MINOR);
        if !asked && !by_itself {
            return Ok(());
        }
        let currency_known = match fills.get(currency) {
            Some(Fill::From(Origin::Slot(slot))) => {
                self.wanted.get(*slot).is_some_and(|name| self.source.has(name)) || !self.source.complete
            }
            Some(Fill::Absent) | None => false,
            Some(_) => true,
        };
        if !currency_known {
            let advice = "an amount in major units needs its currency: add --set currency=EUR or --map currency=…";
            if asked {
                return Err(SourceError::refused(advice));
            }
            self.notices.push(format!("the column `amount` is left out: {advice}"));
            return Ok(());
        }
        if let (Some(from), Some(fill)) = (self.origin(spec, AMOUNT)?, fills.get_mut(minor)) {
            *fill = Fill::Amount { from, currency };
        }
        Ok(())
    }

    /// A required column without a source would break every row: say so once instead.
    fn refuse_unfilled(&self, fills: &[Fill]) -> Result<(), SourceError> {
        for (column, fill) in self.schema.columns().iter().zip(fills) {
            let filled = match fill {
                Fill::Absent => false,
                Fill::From(Origin::Slot(slot)) => {
                    self.wanted.get(*slot).is_some_and(|name| self.source.has(name)) || self.source.names.is_empty()
                }
                _ => true,
            };
            if column.required && !filled {
                let name = &column.name;
                return Err(SourceError::refused(format!(
                    "nothing fills the required column `{name}`: add --map {name}=COLUMN or --set {name}=VALUE; \
                     the file has the columns {}",
                    listed(self.source.names)
                )));
            }
        }
        Ok(())
    }

    fn unused(&self) -> Vec<String> {
        self.source.names.iter().filter(|name| !self.wanted.contains(name)).cloned().collect()
    }

    fn bind_rest(&mut self, fills: &mut [Fill]) -> Result<(), SourceError> {
        if !self.source.complete {
            // The reader gathers what is left over row by row; a column and a key would count twice.
            return Ok(());
        }
        let mut extra = Vec::new();
        for name in self.unused() {
            extra.push((name.clone(), self.slot("--attributes rest", &name)?));
        }
        for fill in fills {
            if let Fill::Attributes { columns, rest, .. } = fill {
                columns.append(&mut extra);
                *rest = false;
            }
        }
        Ok(())
    }

    fn notice_ignored(&mut self) {
        let unused = self.unused();
        if !unused.is_empty() {
            let text = listed(&unused);
            self.notices.push(format!("not used: {text} (--attributes rest keeps them in the attributes)"));
        }
    }
}

/// At most twenty names, so that a file of a thousand columns stays readable.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "(none)".to_owned(),
        1..=20 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), more - 20),
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
