//! What a person sees while the files of a backup are on their way: a bar on a terminal, and nothing elsewhere.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use tidewatch_backup::Progress;

#[derive(Debug)]
pub struct Moving(ProgressBar);

impl Moving {
    pub fn new() -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub fn is_at(&self, progress: &Progress) {
        self.0.set_length(progress.bytes);
        self.0.set_position(progress.bytes_done);
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
