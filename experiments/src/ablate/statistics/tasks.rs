//! One score for several tasks.

use super::{
    StatisticsError, ValueMatrix,
    quantile::{quantile, sorted},
    value_matrix::mean,
};

/// The scores of an arm on several tasks (or their shares of a teacher's scores), with several seeds
/// each, and what they say together (Agarwal et al. 2021, "Deep reinforcement learning at the edge of
/// the statistical precipice", arXiv 2108.13264).
#[derive(Clone, Debug, PartialEq)]
pub struct TaskScores {
    /// `[seeds, tasks]`.
    scores: ValueMatrix,
}

impl TaskScores {
    /// Scores by seed and task.
    ///
    /// # Errors
    ///
    /// As [`ValueMatrix::from_rows`].
    pub fn from_rows<R: AsRef<[f64]>>(rows: &[R]) -> Result<Self, StatisticsError> {
        Ok(Self {
            scores: ValueMatrix::from_rows(rows)?,
        })
    }

    /// The scores, `[seeds, tasks]`.
    pub fn scores(&self) -> &ValueMatrix {
        &self.scores
    }

    /// The scores of each task, `[tasks, seeds]`.
    pub(super) fn by_task(&self) -> Vec<Vec<f64>> {
        let tasks = 0..self.scores.examples();
        tasks
            .map(|task| self.scores.rows().map(|row| row[task]).collect())
            .collect()
    }

    fn task_means(&self) -> Vec<f64> {
        self.by_task().iter().map(|scores| mean(scores)).collect()
    }

    /// The mean over tasks of the mean over seeds.
    pub fn mean(&self) -> f64 {
        mean(&self.task_means())
    }

    /// The median over tasks of the mean over seeds.
    pub fn median(&self) -> f64 {
        // There is at least one task.
        quantile(&sorted(self.task_means()), 0.5).unwrap_or(f64::NAN)
    }

    /// The interquartile mean: the mean of all scores without `floor(n / 4)` of them at each end.
    pub fn interquartile_mean(&self) -> f64 {
        interquartile_mean(&mut self.scores.values().to_vec())
    }

    /// By how much the scores stay below 1 in the mean; scores above 1 count as 1.
    pub fn optimality_gap(&self) -> f64 {
        let shortfalls: Vec<f64> = self
            .scores
            .values()
            .iter()
            .map(|score| 1.0 - score.min(1.0))
            .collect();
        mean(&shortfalls)
    }

    /// The share of the scores of all seeds and tasks that are above a score: a point of the performance
    /// profile.
    pub fn share_above(&self, score: f64) -> f64 {
        let values = self.scores.values();
        values.iter().filter(|&&value| value > score).count() as f64 / values.len() as f64
    }

    /// How likely this arm with one seed is better than another arm with one seed, on a task at random: the
    /// mean over tasks of `U / (seeds * seeds)`, ties counting half (Mann and Whitney 1947).
    ///
    /// # Errors
    ///
    /// If the numbers of tasks differ.
    pub fn probability_of_improvement(&self, over: &Self) -> Result<f64, StatisticsError> {
        if self.scores.examples() != over.scores.examples() {
            return Err(StatisticsError::Shapes {
                found: over.scores.shape(),
                expected: self.scores.shape(),
            });
        }
        let tasks = self.by_task().into_iter().zip(over.by_task());
        let probabilities: Vec<f64> = tasks
            .map(|(own, other)| {
                let pairs = own
                    .iter()
                    .flat_map(|own| other.iter().map(move |other| (own, other)));
                let wins: f64 = pairs
                    .map(|(own, other)| {
                        f64::from(u8::from(own > other) + u8::from(own >= other)) / 2.0
                    })
                    .sum();
                wins / (own.len() * other.len()) as f64
            })
            .collect();
        Ok(mean(&probabilities))
    }
}

/// The mean without a quarter of the numbers at each end. Sorts them.
pub(super) fn interquartile_mean(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let cut = values.len() / 4;
    mean(&values[cut..values.len() - cut])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{
        super::testing::{assert_near, cases},
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        name: String,
        x: Vec<Vec<f64>>,
        y: Vec<Vec<f64>>,
        mean: f64,
        median: f64,
        iqm: f64,
        optimality_gap: f64,
        probability_y_better: f64,
        profile: Profile,
    }

    #[derive(Deserialize)]
    struct Profile {
        at: Vec<f64>,
        share_above: Vec<f64>,
    }

    #[test]
    fn aggregates_agree_with_rliable() {
        for case in cases::<Case>("tasks") {
            let x = TaskScores::from_rows(&case.x).unwrap();
            let y = TaskScores::from_rows(&case.y).unwrap();
            assert_near(x.mean(), case.mean, &case.name);
            assert_near(x.median(), case.median, &case.name);
            assert_near(x.interquartile_mean(), case.iqm, &case.name);
            assert_near(x.optimality_gap(), case.optimality_gap, &case.name);
            let probability = y.probability_of_improvement(&x).unwrap();
            assert_near(probability, case.probability_y_better, &case.name);
            for (at, expected) in case.profile.at.iter().zip(case.profile.share_above) {
                assert_near(
                    x.share_above(*at),
                    expected,
                    &format!("{} at {at}", case.name),
                );
            }
        }
    }

    #[test]
    fn other_tasks_are_an_error() {
        let two = TaskScores::from_rows(&[[0.1, 0.2]]).unwrap();
        let one = TaskScores::from_rows(&[[0.1]]).unwrap();
        assert!(two.probability_of_improvement(&one).is_err());
        assert!(TaskScores::from_rows(&[[f64::NAN]]).is_err());
        assert_near(one.interquartile_mean(), 0.1, "one score");
    }

    fn scores(seeds: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let score = (0_u8..12).prop_map(|score| f64::from(score) / 10.0);
        prop::collection::vec(prop::collection::vec(score, 4), 1..=seeds)
    }

    proptest! {
        #[test]
        fn aggregates_lie_among_the_scores(rows in scores(6), points in [0.0..1.2, 0.0..1.2]) {
            let scores = TaskScores::from_rows(&rows).unwrap();
            let all = sorted(rows.into_iter().flatten());
            let range = all[0] - 1e-12..=all[all.len() - 1] + 1e-12;
            for aggregate in [scores.mean(), scores.median(), scores.interquartile_mean()] {
                prop_assert!(range.contains(&aggregate));
            }
            prop_assert!((0.0..=1.0).contains(&scores.optimality_gap()));
            let [low, high] = [f64::min(points[0], points[1]), f64::max(points[0], points[1])];
            prop_assert!(scores.share_above(low) >= scores.share_above(high));
        }

        #[test]
        fn one_of_two_arms_is_better(x in scores(5), y in scores(5)) {
            let (x, y) = (TaskScores::from_rows(&x).unwrap(), TaskScores::from_rows(&y).unwrap());
            let both = x.probability_of_improvement(&y).unwrap() + y.probability_of_improvement(&x).unwrap();
            prop_assert!((both - 1.0).abs() < 1e-12);
        }
    }
}
