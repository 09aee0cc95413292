//! The level of intervals that hold for several arms at once.

use rayon::prelude::*;

use super::{
    Alpha, ResampledMeans, normal,
    quantile::{quantile, sorted},
};

/// How much wider the intervals of several comparisons with one reference must be, so that all hold at once
/// with probability `1 - alpha`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxT {
    /// The `1 - alpha` quantile of the largest standardised deviation among the arms.
    pub c: f64,
    /// The level of each interval.
    pub alpha_star: Alpha,
}

impl MaxT {
    /// From the bootstrap of all comparisons (Westfall and Young 1993; Hothorn, Bretz and Westfall 2008,
    /// "Simultaneous inference in general parametric models"): with
    /// `T = max_k |theta_k - mean_k| / sd_k` over the arms that vary, `c` is its quantile and
    ///
    /// ```text
    /// alpha_star = clamp(2 (1 - Phi(c)), alpha / arms, alpha)
    /// ```
    ///
    /// The bootstrap says how much the comparisons move together. How wide each one must be is left to
    /// [`two_way`](super::two_way), whose intervals at this level are the simultaneous ones.
    pub fn of(means: &ResampledMeans, alpha: Alpha) -> Self {
        let spreads = (0..means.arms()).into_par_iter();
        let spreads: Vec<(f64, f64)> = spreads.map(|arm| means.mean_and_sd(arm)).collect();
        let mut largest = vec![0.0_f64; means.of_arm(0).count()];
        for (arm, (mean, sd)) in spreads.into_iter().enumerate() {
            if sd > 0.0 {
                for (largest, value) in largest.iter_mut().zip(means.of_arm(arm)) {
                    *largest = largest.max((value - mean).abs() / sd);
                }
            }
        }
        let c = quantile(&sorted(largest), 1.0 - alpha.value()).unwrap_or(0.0);
        Self {
            c,
            alpha_star: alpha.shared(normal::two_sided_p(c), means.arms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SplitMix64, ValueMatrix, crossed_bootstrap},
        *,
    };

    fn noise(generator: &mut SplitMix64) -> ValueMatrix {
        let mut row = || -> Vec<f64> { (0..60).map(|_| generator.draw(3) as f64 - 1.0).collect() };
        ValueMatrix::from_rows(&[row(), row(), row(), row()]).unwrap()
    }

    /// Twenty equal arms are nearly one comparison, and twenty that have nothing in common are twenty.
    #[test]
    fn what_moves_together_counts_once() {
        let mut generator = SplitMix64::new(1);
        let alpha = Alpha::default();
        let level = |arms: &[&ValueMatrix]| {
            let means = crossed_bootstrap(arms, 2000).unwrap();
            MaxT::of(&means, alpha).alpha_star.value()
        };
        let one = noise(&mut generator);
        assert!((level(&[&one]) - 0.05).abs() < 1e-15);
        let together = level(&[&one; 20]);
        assert!(together > 0.04, "{together}");
        let others: Vec<_> = (0..20).map(|_| noise(&mut generator)).collect();
        let apart = level(&others.iter().collect::<Vec<_>>());
        assert!((0.05 / 20.0..0.01).contains(&apart), "{apart}");
    }
}
