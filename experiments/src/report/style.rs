//! What arms look like: the same in all charts of a report.

use std::collections::BTreeMap;

use crate::{
    ablate::statistics::Direction,
    report::svg::{Entry, MARKERS, Marker},
    results::Results,
};

/// How many arms have a style of their own.
const MOST: usize = 8;
const CLASSES: [&str; MOST] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const DASHES: [&str; MOST] = [
    "",
    "7 4",
    "2 3",
    "9 3 2 3",
    "12 4",
    "4 2",
    "9 3 2 3 2 3",
    "1 4",
];

/// A colour with a marker and dashes, so that none is told by its colour alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// The class of its colour.
    pub class: &'static str,
    /// The dashes of its lines; empty for none.
    pub dashes: &'static str,
    /// The shape of its points.
    pub marker: Marker,
}

/// The style of what has none of its own.
pub const OTHER: Style = Style {
    class: "cx",
    dashes: "",
    marker: Marker::Circle,
};

impl Style {
    /// The style of a series by its place; they repeat after 8.
    pub fn of_place(place: usize) -> Self {
        let place = place % MOST;
        Self {
            class: CLASSES[place],
            dashes: DASHES[place],
            marker: MARKERS[place],
        }
    }

    /// An entry of a legend with line and marker.
    pub fn entry(self, name: &str) -> Entry {
        Entry {
            class: self.class,
            dashes: Some(self.dashes),
            marker: Some(self.marker),
            is_hollow: false,
            name: name.to_owned(),
        }
    }

    /// An entry of a legend without a line.
    pub fn marker_entry(self, name: &str) -> Entry {
        Entry {
            dashes: None,
            ..self.entry(name)
        }
    }
}

/// The styles of the arms of a run.
#[derive(Clone, Debug, Default)]
pub struct Styles {
    by_arm: BTreeMap<String, Style>,
    others: usize,
}

impl Styles {
    /// Each model has a style if there are at most 8; else the reference and the 7 best arms.
    pub fn of(results: &Results) -> Self {
        let mut chosen: Vec<usize> = (0..results.arms.len()).collect();
        if chosen.len() > MOST {
            let metric = results.shown_metric().unwrap_or_default();
            let sign = match results.direction(metric) {
                Direction::HigherIsBetter => -1.0,
                Direction::LowerIsBetter => 1.0,
            };
            let rank = |place: &usize| {
                let arm = &results.arms[*place];
                let is_reference = results.reference.as_ref() == Some(&arm.name);
                let mean = arm.mean(metric).filter(|_| arm.is_arm);
                let mean = mean.map_or(f64::INFINITY, |mean| mean * sign);
                (!is_reference, mean)
            };
            chosen.sort_by(|a, b| {
                let ((a_other, a), (b_other, b)) = (rank(a), rank(b));
                a_other.cmp(&b_other).then(a.total_cmp(&b))
            });
            chosen.truncate(MOST);
            chosen.sort_unstable();
        }
        let named: Vec<String> = chosen
            .iter()
            .map(|place| results.arms[*place].name.clone())
            .collect();
        let styles = named.iter().cloned().enumerate();
        Self {
            by_arm: styles
                .map(|(place, name)| (name, Style::of_place(place)))
                .collect(),
            others: results.arms.len() - named.len(),
        }
    }

    /// The style of an arm that has one of its own.
    pub fn get(&self, arm: &str) -> Option<Style> {
        self.by_arm.get(arm).copied()
    }

    /// The style of an arm.
    pub fn style(&self, arm: &str) -> Style {
        self.get(arm).unwrap_or(OTHER)
    }

    /// A sentence on those that have none; empty where all have one.
    pub fn note(&self) -> String {
        match self.others {
            0 => String::new(),
            others => format!(
                " The reference and the best arms have colours of their own; {others} others are grey."
            ),
        }
    }

    /// Whether some have none.
    pub fn has_others(&self) -> bool {
        self.others > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{ArmResults, Estimate};

    #[test]
    fn of_many_arms_the_reference_and_the_best_have_styles() {
        let arm = |index: usize| ArmResults {
            name: index.to_string(),
            is_arm: true,
            metrics: [(
                "m".to_owned(),
                Estimate {
                    mean: Some(index as f64),
                    ..Estimate::default()
                },
            )]
            .into(),
            ..ArmResults::default()
        };
        let mut results = Results {
            metric: Some("m".to_owned()),
            reference: Some("3".to_owned()),
            arms: (0..20).map(arm).collect(),
            ..Results::default()
        };
        let names = |results: &Results| -> Vec<String> {
            let styles = Styles::of(results);
            let arms = results.arms.iter().map(|arm| arm.name.clone());
            arms.filter(|name| styles.get(name).is_some()).collect()
        };
        assert_eq!(
            names(&results),
            ["3", "13", "14", "15", "16", "17", "18", "19"]
        );
        results
            .directions
            .insert("m".to_owned(), Direction::LowerIsBetter);
        assert_eq!(names(&results), ["0", "1", "2", "3", "4", "5", "6", "7"]);
        results.arms.truncate(4);
        assert_eq!(names(&results).len(), 4);
        assert!(Styles::of(&results).note().is_empty());
    }
}
