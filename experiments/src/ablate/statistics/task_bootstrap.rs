//! The interval of an interquartile mean over tasks.

use super::{
    Alpha, Interval, RESAMPLES, SplitMix64, StatisticsError, TaskScores,
    quantile::{quantile, sorted},
    tasks::interquartile_mean,
};

/// With fewer seeds, resampling has too few distinct outcomes for an interval.
const FEWEST_SEEDS: usize = 5;

/// The interquartile means of several arms over the same resamples.
#[derive(Clone, Debug, PartialEq)]
pub struct IqmResamples {
    seeds: usize,
    /// `[arms, resamples]`.
    by_arm: Vec<Vec<f64>>,
}

impl IqmResamples {
    /// The means of each arm, `[arms, resamples]`.
    pub fn by_arm(&self) -> &[Vec<f64>] {
        &self.by_arm
    }

    /// The percentile interval of an arm. None with fewer than 5 seeds, or if there is no such arm.
    pub fn interval(&self, arm: usize, alpha: Alpha) -> Option<Interval> {
        self.percentile(self.by_arm.get(arm)?.iter().copied(), alpha)
    }

    /// The percentile interval of an arm less another one, paired by resample. None with fewer than 5
    /// seeds, or if there is no such arm.
    pub fn difference(&self, arm: usize, reference: usize, alpha: Alpha) -> Option<Interval> {
        let pairs = self
            .by_arm
            .get(arm)?
            .iter()
            .zip(self.by_arm.get(reference)?);
        self.percentile(pairs.map(|(own, other)| own - other), alpha)
    }

    fn percentile(&self, means: impl Iterator<Item = f64>, alpha: Alpha) -> Option<Interval> {
        if self.seeds < FEWEST_SEEDS {
            return None;
        }
        let means = sorted(means);
        let tail = alpha.value() / 2.0;
        Some(Interval {
            low: quantile(&means, tail)?,
            high: quantile(&means, 1.0 - tail)?,
        })
    }
}

/// The stratified bootstrap of interquartile means (Agarwal et al. 2021, arXiv 2108.13264), `[arms]` of
/// `[seeds, tasks]`: [`RESAMPLES`] times, seeds are drawn within each task, task by task, the same
/// ones for all arms. The draws start at [`SplitMix64::START`].
///
/// # Errors
///
/// If there are no arms or they differ in shape.
pub fn bootstrap_iqm(arms: &[&TaskScores]) -> Result<IqmResamples, StatisticsError> {
    let mut generator = SplitMix64::default();
    let mut left = RESAMPLES;
    resampled_iqm(arms, |drawn| {
        if left == 0 {
            return false;
        }
        left -= 1;
        for seeds in drawn {
            let size = seeds.len();
            seeds.fill_with(|| generator.draw(size));
        }
        true
    })
}

/// The same over resamples of the caller's. `next` gets the seeds that are drawn for each task,
/// `[tasks, seeds]`, to be overwritten, and says whether there was one more. Seeds that do not exist are
/// left out.
///
/// # Errors
///
/// If there are no arms or no resamples, or if the arms differ in shape.
pub fn resampled_iqm(
    arms: &[&TaskScores],
    mut next: impl FnMut(&mut [Box<[usize]>]) -> bool,
) -> Result<IqmResamples, StatisticsError> {
    let expected = arms
        .first()
        .ok_or(StatisticsError::NoArms)?
        .scores()
        .shape();
    let shapes = arms.iter().map(|arm| arm.scores().shape());
    if let Some(found) = shapes.into_iter().find(|&shape| shape != expected) {
        return Err(StatisticsError::Shapes { found, expected });
    }
    let [seeds, tasks] = expected;
    let by_task: Vec<_> = arms.iter().map(|arm| arm.by_task()).collect();
    let mut by_arm = vec![Vec::new(); arms.len()];
    let mut drawn = vec![vec![0; seeds].into_boxed_slice(); tasks];
    let mut scores = Vec::with_capacity(seeds * tasks);
    while next(&mut drawn) {
        for (means, by_task) in by_arm.iter_mut().zip(&by_task) {
            scores.clear();
            for (seeds, task) in drawn.iter().zip(by_task) {
                scores.extend(seeds.iter().filter_map(|&seed| task.get(seed)));
            }
            means.push(interquartile_mean(&mut scores));
        }
    }
    if by_arm[0].is_empty() {
        return Err(StatisticsError::NoResamples);
    }
    Ok(IqmResamples { seeds, by_arm })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{
        super::{
            testing::{assert_near, fixture},
            value_matrix::mean,
        },
        *,
    };

    #[derive(Deserialize)]
    struct Tiny {
        tiny: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        x: Vec<Vec<f64>>,
        resamples: usize,
        mean: f64,
        sd: f64,
        low: f64,
        high: f64,
    }

    /// All ways to draw seeds within each task.
    fn enumerated(scores: &TaskScores) -> IqmResamples {
        let [seeds, tasks] = scores.scores().shape();
        let mut ways = 0..seeds.pow((seeds * tasks) as u32);
        resampled_iqm(&[scores], |drawn| {
            let Some(mut way) = ways.next() else {
                return false;
            };
            for seed in drawn.iter_mut().flat_map(|task| task.iter_mut()) {
                *seed = way % seeds;
                way /= seeds;
            }
            true
        })
        .unwrap()
    }

    #[test]
    fn all_resamples_agree_with_rliable() {
        for case in fixture::<Tiny>("tasks").tiny {
            let found = enumerated(&TaskScores::from_rows(&case.x).unwrap());
            let means = &found.by_arm[0];
            assert_eq!(means.len(), case.resamples, "{}", case.name);
            let center = mean(means);
            let variance = means
                .iter()
                .map(|mean| (mean - center).powi(2))
                .sum::<f64>()
                / means.len() as f64;
            assert_near(center, case.mean, &case.name);
            assert_near(variance.sqrt(), case.sd, &case.name);
            assert_eq!(
                found.interval(0, Alpha::default()),
                None,
                "fewer than 5 seeds"
            );
            let enough = IqmResamples {
                seeds: FEWEST_SEEDS,
                ..found
            };
            let interval = enough.interval(0, Alpha::default()).unwrap();
            assert_near(interval.low, case.low, &case.name);
            assert_near(interval.high, case.high, &case.name);
        }
    }

    #[test]
    fn arms_are_drawn_together() {
        let rows: Vec<Vec<f64>> = (0..6)
            .map(|seed| {
                (0..4)
                    .map(|task| f64::from(seed * task % 5) / 5.0)
                    .collect()
            })
            .collect();
        let better: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| row.iter().map(|x| x + 0.25).collect())
            .collect();
        let arms = [&rows, &better].map(|rows| TaskScores::from_rows(rows).unwrap());
        let found = bootstrap_iqm(&[&arms[0], &arms[1]]).unwrap();
        assert_eq!(found.by_arm()[0].len(), RESAMPLES);
        let difference = found.difference(1, 0, Alpha::default()).unwrap();
        assert_near(difference.low, 0.25, "low");
        assert_near(difference.high, 0.25, "high");
        let interval = found.interval(0, Alpha::default()).unwrap();
        assert!(interval.contains(arms[0].interquartile_mean()));
        assert_eq!(found.interval(2, Alpha::default()), None);
    }

    #[test]
    fn what_cannot_be_drawn_from_is_an_error() {
        assert_eq!(bootstrap_iqm(&[]), Err(StatisticsError::NoArms));
        let one = TaskScores::from_rows(&[[0.1, 0.2]]).unwrap();
        let other = TaskScores::from_rows(&[[0.1]]).unwrap();
        assert!(bootstrap_iqm(&[&one, &other]).is_err());
        assert_eq!(
            resampled_iqm(&[&one], |_| false),
            Err(StatisticsError::NoResamples)
        );
        let mut left = 1;
        let nowhere = resampled_iqm(&[&one], |drawn| {
            drawn[0][0] = 7;
            left -= 1;
            left >= 0
        });
        assert_near(nowhere.unwrap().by_arm[0][0], 0.2, "the seed that exists");
    }
}
