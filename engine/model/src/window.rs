//! `Window`: what one row of a view stands for: a minute, or the longer stretch of a roll-up. Windows are aligned to UTC.

use serde::{Deserialize, Serialize};

use crate::{Minute, Span};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Window {
    #[default]
    Minute,
    FiveMinutes,
    Hour,
    Day,
}

impl Window {
    /// Those of roll-ups.
    pub const ROLL_UPS: [Self; 3] = [Self::FiveMinutes, Self::Hour, Self::Day];

    pub const fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::FiveMinutes => 5,
            Self::Hour => 60,
            Self::Day => 24 * 60,
        }
    }

    pub const fn span(self) -> Span {
        Span::from_minutes(self.minutes())
    }

    pub fn is_roll_up(self) -> bool {
        self != Self::Minute
    }

    /// What stands behind a view's name in the name of its roll-up, and behind `retention` in its option.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Minute => "",
            Self::FiveMinutes => "_5m",
            Self::Hour => "_1h",
            Self::Day => "_1d",
        }
    }

    /// The window's number since 1970, in the form of a minute: what counts minutes then counts windows.
    #[must_use]
    pub fn number(self, minute: Minute) -> Minute {
        Minute::from_index(minute.index().div_euclid(self.minutes()))
    }

    /// The first minute of the window with this number.
    #[must_use]
    pub fn first(self, number: Minute) -> Minute {
        Minute::from_index(number.index().saturating_mul(self.minutes()))
    }

    /// The first minute of the window that holds this one.
    #[must_use]
    pub fn start(self, minute: Minute) -> Minute {
        self.first(self.number(minute))
    }

    /// The number of the first window that begins at this minute or later.
    #[must_use]
    pub fn number_from(self, minute: Minute) -> Minute {
        let number = self.number(minute);
        if self.first(number) == minute { number } else { number.next() }
    }

    /// The last minute of the window with this number.
    #[must_use]
    pub fn last(self, number: Minute) -> Minute {
        self.first(number).plus(self.minutes() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_and_floor_before_1970() {
        let minute = Minute::from_index;
        for (window, at, number, start, from) in [
            (Window::Minute, 7, 7, 7, 7),
            (Window::FiveMinutes, 14, 2, 10, 3),
            (Window::FiveMinutes, 10, 2, 10, 2),
            (Window::Hour, -1, -1, -60, 0),
            (Window::Day, 1_440, 1, 1_440, 1),
            (Window::Day, 1_441, 1, 1_440, 2),
        ] {
            assert_eq!(window.number(minute(at)), minute(number), "{window:?} {at}");
            assert_eq!(window.start(minute(at)), minute(start), "{window:?} {at}");
            assert_eq!(window.number_from(minute(at)), minute(from), "{window:?} {at}");
            assert!(window.last(minute(number)) >= minute(at));
        }
        assert_eq!(Window::Hour.last(minute(1)), minute(119));
    }
}
