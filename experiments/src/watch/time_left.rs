//! How long a run may still take.

use std::collections::BTreeMap;

use crate::results::StageLine;

/// The times in seconds of the stages that are done, by what they do: by kind, and by title without the seed.
#[derive(Default)]
pub(super) struct Times(BTreeMap<String, Vec<f64>>);

/// The median times in seconds, by what stages do.
pub(super) struct Medians<'a>(BTreeMap<&'a str, f64>);

impl Times {
    pub fn add(&mut self, stage: &StageLine, seconds: f64) {
        for group in groups(stage) {
            self.0.entry(group.to_owned()).or_default().push(seconds);
        }
    }

    pub fn medians(&self) -> Medians<'_> {
        let medians = self.0.iter().map(|(group, seconds)| {
            let mut sorted = seconds.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let middle = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
            (group.as_str(), middle)
        });
        Medians(medians.collect())
    }
}

impl Medians<'_> {
    /// The median of the stages that do the same with other seeds, or of all of the kind; none if none is done.
    pub fn of(&self, stage: &StageLine) -> Option<f64> {
        let mut groups = groups(stage).into_iter();
        groups.find_map(|group| self.0.get(group)).copied()
    }
}

/// What a stage does, without its seed.
pub(super) fn task(stage: &StageLine) -> &str {
    let seed = format!("seed {}: ", stage.seed);
    stage.title.strip_prefix(&seed).unwrap_or(&stage.title)
}

fn groups(stage: &StageLine) -> [&str; 2] {
    [task(stage), stage.key.kind()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(kind: &str, title: &str) -> StageLine {
        StageLine {
            key: format!("{kind}-{}", "0".repeat(32)).parse().unwrap(),
            title: title.to_owned(),
            seed: 2,
            inputs: vec![],
        }
    }

    #[test]
    fn the_median_is_that_of_the_same_work_or_else_of_the_kind() {
        let teacher = stage("train", "seed 2: training `teacher`");
        let student = stage("train", "seed 2: training `student`");
        let other = stage("train", "seed 2: training `other`");
        let mut times = Times::default();
        assert_eq!(times.medians().of(&other), None);
        times.add(&teacher, 100.0);
        times.add(&student, 10.0);
        times.add(&student, 30.0);
        let medians = times.medians();
        let found = [&teacher, &student, &other].map(|stage| medians.of(stage));
        assert_eq!(found, [Some(100.0), Some(20.0), Some(30.0)]);
        assert_eq!(medians.of(&stage("measure", "seed 2: measuring")), None);
        assert_eq!(task(&other), "training `other`");
    }
}
