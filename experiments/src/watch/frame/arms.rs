//! The lines of arms.

use super::{GAP, Line, Tone};
use crate::{
    ablate::statistics::{Interval, Unit},
    watch::{
        text::{cut, decimals},
        view::{ArmView, SeedView, View},
    },
};

/// The most seeds of which each has a mark of its own.
const MOST_MARKS: usize = 16;
/// The least columns of a name that is cut.
const SHORTEST_NAME: usize = 12;

/// The heading of the arms, and a line for each.
pub(super) fn arms(view: &View, width: usize, room: Option<usize>) -> (Option<Line>, Vec<Line>) {
    let mut arms: Vec<&ArmView> = view.arms.iter().collect();
    if room.is_some_and(|room| arms.len() > room.saturating_sub(1)) {
        // What needs attention must not be scrolled away.
        arms.sort_by_key(|arm| rank(arm));
    }
    let unit = view.arms.iter().find_map(|arm| arm.unit);
    let difference = match unit {
        Some(Unit::Points) => "difference in points",
        Some(Unit::Plain) => "difference",
        None => "",
    };
    let heading = Cells {
        name: String::new(),
        marks: Line::of(Tone::Faint, "seeds"),
        mean: view.metric.clone().unwrap_or_default(),
        difference: difference.to_owned(),
        failure: None,
    };
    let cells: Vec<Cells> = arms.into_iter().map(Cells::of).collect();
    let widest = |of: fn(&Cells) -> usize| {
        let widths = cells.iter().chain([&heading]).map(of);
        widths.max().unwrap_or_default()
    };
    let columns = [
        widest(|cells| cells.name.chars().count()),
        widest(|cells| cells.marks.width()),
        widest(|cells| cells.mean.chars().count()),
        widest(|cells| cells.difference.chars().count()),
    ];
    let others: usize = columns[1..].iter().map(|column| column + GAP).sum();
    let name = columns[0].min(width.saturating_sub(others).max(SHORTEST_NAME));
    let columns = [name, columns[1], columns[2]];
    let lines = cells
        .into_iter()
        .map(|cells| cells.line(columns, Tone::Plain));
    let lines = lines.collect();
    (Some(heading.line(columns, Tone::Faint)), lines)
}

/// What comes first where not all arms fit.
fn rank(arm: &ArmView) -> u8 {
    if arm.failure.is_some() {
        0
    } else if arm.seeds.contains(&SeedView::Running) {
        1
    } else {
        2
    }
}

/// What the line of an arm is made of.
struct Cells {
    name: String,
    marks: Line,
    mean: String,
    difference: String,
    failure: Option<String>,
}

impl Cells {
    fn of(arm: &ArmView) -> Self {
        let least = match arm.unit {
            Some(Unit::Points) => 1,
            _ => 3,
        };
        let mean = arm.mean.map(|mean| {
            // Percentages need no more than one.
            let least = if mean.abs() >= 10.0 { 1 } else { 3 };
            number(mean, arm.interval, least, false)
        });
        let difference = match arm.difference {
            _ if arm.is_reference => Some("reference".to_owned()),
            Some(difference) => Some(number(difference, arm.difference_interval, least, true)),
            None => None,
        };
        Self {
            name: arm.name.clone(),
            marks: marks(&arm.seeds),
            mean: mean.unwrap_or_default(),
            difference: difference.unwrap_or_default(),
            failure: arm.failure.clone(),
        }
    }

    fn line(self, [name, marks, mean]: [usize; 3], tone: Tone) -> Line {
        let mut line = Line::of(tone, cut(&self.name, name));
        line.pad(name + GAP);
        line.0.extend(self.marks.0);
        line.pad(name + marks + 2 * GAP);
        if let Some(failure) = self.failure {
            line.push(Tone::Failed, failure);
            return line;
        }
        line.push(tone, self.mean);
        line.pad(name + marks + mean + 3 * GAP);
        line.push(tone, self.difference);
        line
    }
}

/// A mark for each seed; counts where there are too many.
fn marks(seeds: &[SeedView]) -> Line {
    let mark = |seed| match seed {
        SeedView::Done => (Tone::Done, '#'),
        SeedView::Running => (Tone::Running, '*'),
        SeedView::Failed => (Tone::Failed, '!'),
        SeedView::Waiting => (Tone::Faint, '.'),
    };
    let mut line = Line::default();
    if seeds.len() <= MOST_MARKS {
        for seed in seeds {
            let (tone, mark) = mark(*seed);
            line.push(tone, mark);
        }
        return line;
    }
    let count = |state| seeds.iter().filter(|seed| **seed == state).count();
    let done = count(SeedView::Done);
    line.push(Tone::Done, format!("#{done}/{}", seeds.len()));
    for state in [SeedView::Running, SeedView::Failed] {
        let (tone, mark) = mark(state);
        match count(state) {
            0 => {}
            count => line.push(tone, format!(" {mark}{count}")),
        }
    }
    line
}

/// A number with its interval.
fn number(value: f64, interval: Option<Interval>, least: usize, is_signed: bool) -> String {
    let decimals = decimals(interval.map(Interval::half_width), least);
    let text = |value: f64| {
        if is_signed {
            format!("{value:+.decimals$}")
        } else {
            format!("{value:.decimals$}")
        }
    };
    match interval {
        Some(Interval { low, high }) => format!("{} [{}, {}]", text(value), text(low), text(high)),
        None => text(value),
    }
}
