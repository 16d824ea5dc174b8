//! `ViewParts`: what turns a view's partial rows into stored minutes, the same for the writer and for whoever reads minutes
//! back from disk: both give a key the same number.

use std::sync::Arc;

use arrow::error::ArrowError;
use tidewatch_model::Window;
use tidewatch_views::{Finished, PartialRows, View};

use crate::{error::StoreError, frames::ViewFrames, hour::StoredMinute, series::SeriesTable};

#[derive(Debug)]
pub struct ViewParts {
    pub frames: ViewFrames,
    /// A view and its roll-ups have one.
    pub series: Arc<SeriesTable>,
    /// The view's place among all views.
    pub place: usize,
}

impl ViewParts {
    pub fn new(view: &Arc<View>, place: usize) -> Result<Self, StoreError> {
        Ok(Self { frames: ViewFrames::new(Arc::clone(view))?, series: Arc::default(), place })
    }

    /// Those of a roll-up of this view.
    pub fn rolled_up(&self, roll_up: &Arc<View>, place: usize) -> Result<Self, StoreError> {
        let frames = ViewFrames::new(Arc::clone(roll_up))?;
        Ok(Self { frames, series: Arc::clone(&self.series), place })
    }

    pub fn view(&self) -> &Arc<View> {
        self.frames.view()
    }

    pub fn window(&self) -> Window {
        self.view().meta.window
    }

    pub fn finish(&self, partial: PartialRows) -> Result<Finished, StoreError> {
        let minute = partial.minute();
        self.view().finish(self.frames.codec(), partial).map_err(|error| StoreError::Unfinished {
            view: self.frames.name().to_owned(),
            minute,
            reason: error.strip_backtrace(),
        })
    }

    /// A minute as it is stored, and how many of its integer sums did not fit.
    pub fn stored(&self, partial: PartialRows) -> Result<(StoredMinute, usize), StoreError> {
        let finished = self.finish(partial)?;
        let series = self.series.intern(finished.partial.keys(), &finished.keys);
        let series = series.map_err(|source| self.columns_error(source))?;
        Ok((StoredMinute::new(Arc::new(finished.partial), series, finished.measures), finished.overflowed))
    }

    pub fn columns_error(&self, source: ArrowError) -> StoreError {
        StoreError::Columns { view: self.frames.name().to_owned(), source }
    }
}
