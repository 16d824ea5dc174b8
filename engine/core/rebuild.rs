//! A view that is new, or whose definition changed, is built from the raw events that are held, on disk and in memory. Minutes before the
//! oldest of them are not known for it. A roll-up that is new on a view that is not is built from the view's minutes.

use arrow::{array::AsArray, datatypes::TimestampMicrosecondType};
use tidewatch_model::{EventTime, Minute};
use tidewatch_store::Held;
use tidewatch_views::Groups;

use super::{Core, CoreError};

impl Core {
    /// Builds the roll-up at the place `at` of all that is stored.
    pub fn build_roll_up(&mut self, at: usize) -> Result<(), CoreError> {
        self.head.build_roll_up(at)?;
        let name = self.head.stored().get(at).map(|view| view.meta.name.clone());
        tracing::info!(roll_up = name, "a roll-up is new: it was built from the minutes that its view holds");
        Ok(())
    }

    /// Builds a view, and with it its roll-ups.
    pub fn rebuild(&mut self, view: usize) -> Result<(), CoreError> {
        let Some(definition) = self.operator.views().get(view).cloned() else { return Ok(()) };
        let name = definition.meta.name.clone();
        let views_error = |error: datafusion::error::DataFusionError| CoreError::Views(error.strip_backtrace());
        let mut groups = Groups::new(definition).map_err(views_error)?;
        for rows in self.tables.transactions.table(self.cold.as_ref()).scan_all()? {
            let rows = rows?;
            let times = rows.column(self.stream.schema.event_time());
            let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else { continue };
            let minutes: Vec<i64> =
                times.values().iter().map(|t| EventTime::from_micros(*t).minute().index()).collect();
            if let Some((events, reason)) = groups.absorb(&rows, &minutes).failed {
                tracing::warn!(
                    view = name,
                    events,
                    reason,
                    "a view could not take events: one of its expressions failed"
                );
            }
        }
        let minutes: Vec<_> = groups.minutes().collect();
        let (oldest, newest) = (minutes.first().copied(), self.operator.sealed().newest());
        if let Some(oldest) = oldest.or(newest.map(Minute::next)) {
            self.head.begin_anew(view, oldest, self.tables.transactions.kept_from());
        }
        for minute in minutes {
            let rows = groups.seal(minute);
            // What is open goes on where events of that minute still come in.
            if self.operator.sealed().contains(minute) || !self.operator.absorb_open(view, &rows) {
                self.head.add(view, rows)?;
            }
        }
        if let (Some(oldest), Some(newest)) = (oldest, newest) {
            let sealed = self.operator.sealed();
            let (first, last) = (oldest.index().div_euclid(60), newest.index().div_euclid(60));
            // What is added to an hour that nothing is known of would be half a sum.
            let held =
                Held { hours: vec![(first, last)], kept_from: None, no_room_before: Some(first), ..Held::default() };
            self.head.add_empty(view, &held, |minute| minute >= oldest && sealed.contains(minute))?;
        }
        let oldest = oldest.map(|minute| minute.start().to_string());
        tracing::info!(view = name, oldest, "a view is new or changed: it was built from raw events");
        Ok(())
    }
}
