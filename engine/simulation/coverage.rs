//! What the cases met, so that a run says what it covered.

use std::{fmt, ops::AddAssign};

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Coverage {
            pub fn numbers(&self) -> Vec<(&'static str, u64)> {
                vec![$(($label, self.$name),)*]
            }
        }

        impl AddAssign for Coverage {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

coverage! {
    cases: "cases",
    actions: "actions",
    events: "events sent",
    counted: "events acknowledged and counted once",
    repeated: "events acknowledged again and counted once",
    late: "events too late, never counted",
    corrections: "minutes corrected",
    sealed: "minutes sealed",
    verdicts: "verdicts compared",
    transitions: "alert transitions",
    deliveries: "attempts to deliver",
    delivered_again: "deliveries made more than once, with one key",
    refused_alerts: "alerts that a receiver refused",
    refusals: "batches refused",
    crashes: "power cuts",
    crashes_amid: "power cuts in the middle of a write",
    crashes_at_start: "power cuts while starting",
    kills: "kills",
    stops: "stops",
    full: "times the disk was full",
    errors: "operations that the disk failed",
    stopped_for_good: "restarts after a failed fsync",
    jumps: "jumps of the clock",
    sessions: "replay sessions",
    checkpoints: "checkpoints",
    flips: "bits flipped",
    flips_refused: "of these, starts refused",
    checks: "whole checks of the state",
    operations: "changes of the disk",
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, number) in self.numbers() {
            writeln!(f, "{number:>12}  {label}")?;
        }
        Ok(())
    }
}
