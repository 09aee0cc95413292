//! How the learning rate changes during a stage.

use serde::{Deserialize, Serialize};

/// How the learning rate changes with the share of the training that is done.
///
/// The share counts samples, so no loader has to know its number of batches, and a resumed training
/// has the same rates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Schedule {
    /// The same rate throughout.
    Constant,
    /// Up from zero over the first `warmup` of the training, then down to zero at its end.
    Linear {
        /// A share of the training, from 0 to below 1; 0 starts at the full rate.
        #[serde(default)]
        warmup: f64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Linear { warmup: 0.0 }
    }
}

impl Schedule {
    /// The share of the full learning rate when `done` (0 to 1) of the training is done.
    pub fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear { warmup } if done < warmup => done / warmup,
            Self::Linear { warmup } => ((1.0 - done) / (1.0 - warmup)).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_warms_up_and_decays_to_zero() {
        let schedule = Schedule::Linear { warmup: 0.2 };
        for (done, factor) in [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.6, 0.5), (1.0, 0.0)] {
            assert!((schedule.factor(done) - factor).abs() < 1e-12, "{done}");
        }
        assert!((Schedule::default().factor(0.0) - 1.0).abs() < 1e-12);
        assert!((Schedule::default().factor(0.75) - 0.25).abs() < 1e-12);
        assert!((Schedule::Constant.factor(0.9) - 1.0).abs() < 1e-12);
    }
}
