//! The views of a report, in their order.

mod calibration;
mod curves;
mod disagreement;
mod distances;
mod experts;
mod factors;
mod forest;
mod heat;
mod importance;
mod keys;
mod latency;
mod lines;
mod loads;
mod pareto;
mod position;
mod record;
mod retention;
mod seeds;
mod spans;
mod summary;
mod time;
mod verdicts;
mod words;

use crate::report::{section::Made, subject::Subject};

/// A view: its title, and what makes its section.
pub struct View {
    /// What it is called where it is left out.
    pub title: &'static str,
    /// Makes its section.
    pub make: fn(&Subject<'_>) -> Made,
}

/// All views.
pub const VIEWS: [View; 20] = [
    View {
        title: "Verdicts",
        make: verdicts::make,
    },
    View {
        title: "All arms",
        make: summary::make,
    },
    View {
        title: "Differences to the reference",
        make: forest::make,
    },
    View {
        title: "Drop against add",
        make: factors::make,
    },
    View {
        title: "Quality against cost",
        make: pareto::make,
    },
    View {
        title: "Retention",
        make: retention::make,
    },
    View {
        title: "Learning curves",
        make: curves::make,
    },
    View {
        title: "Seeds",
        make: seeds::make,
    },
    View {
        title: "Span map",
        make: spans::make,
    },
    View {
        title: "Score by position",
        make: position::make,
    },
    View {
        title: "Expert load",
        make: experts::make,
    },
    View {
        title: "Tokens of experts",
        make: words::make,
    },
    View {
        title: "Importance of neurons",
        make: importance::make,
    },
    View {
        title: "Layer distances",
        make: distances::make,
    },
    View {
        title: "Disagreement",
        make: disagreement::make,
    },
    View {
        title: "Calibration",
        make: calibration::make,
    },
    View {
        title: "Latency",
        make: latency::make,
    },
    View {
        title: "Importance of keys",
        make: keys::make,
    },
    View {
        title: "Time",
        make: time::make,
    },
    View {
        title: "Record",
        make: record::make,
    },
];
