//! One thing that the doctor found, and what can be done about it. It does nothing.

/// Something in a data folder that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file under the data folder, and where in it.
    pub place: String,
    /// Sentences: what is wrong, and what that takes away.
    pub what: String,
    pub remedy: Remedy,
}

impl Finding {
    pub fn new(place: impl Into<String>, what: impl Into<String>, remedy: Remedy) -> Self {
        Self { place: place.into(), what: what.into(), remedy }
    }

    /// Whether the folder is not sound for its sake.
    pub fn is_a_fault(&self) -> bool {
        !matches!(self.remedy, Remedy::NotNeeded(_))
    }
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing is lost and nothing has to be done; the sentence says why.
    NotNeeded(String),
    /// `--repair` does this.
    Repair(Action),
    /// Nothing here can bring back what is missing; the sentence says what a person can do.
    Impossible(String),
}

/// What a repair changes. A copy of what it takes away is in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The log has every record from the first on: the store is set aside, and the next start builds all of it anew.
    RebuildFromLog,
    /// The manifest that was written last is whole with all its files: it is put in force.
    UseNextManifest,
    /// Rows of a table that are damaged anyway are taken out of the manifest.
    DropTableSegment(String),
}

impl Action {
    /// What a repair would do, as a sentence.
    pub fn text(&self) -> String {
        match self {
            Self::RebuildFromLog => {
                "the log still has every record from the first on. The files of `store/` are moved into \
                 `quarantine/`, and the next start builds everything anew from the log; nothing is lost"
                    .to_owned()
            }
            Self::UseNextManifest => {
                "the next manifest, `store/MANIFEST.part`, is whole with every file that it names: it \
                 takes the place of `store/MANIFEST`, which is kept in `quarantine/`; nothing is lost"
                    .to_owned()
            }
            Self::DropTableSegment(name) => format!(
                "`store/{name}` is copied into `quarantine/` and taken out of the manifest. Its rows are missing as \
                 they are now; no number in a view depends on them"
            ),
        }
    }
}
