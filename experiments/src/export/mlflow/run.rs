//! What is exported: one arm and seed.

/// A value of a metric at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The metric's name.
    pub name: String,
    /// Its value. MLflow keeps infinities as the largest float64.
    pub value: f64,
    /// Milliseconds since 1970. Give the time of the measurement: a second export with the same times adds nothing.
    pub at_ms: i64,
    /// The training step.
    pub step: i64,
}

/// A file that is kept with the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// The name, such as `report.html`; `/` separates folders.
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With a result.
    Finished,
    /// Without one.
    Failed,
}

impl Status {
    /// MLflow's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
        }
    }
}

/// One arm and seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The arm's name.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The key of its last stage; letters, digits, `-` and `_`.
    pub stage: String,
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// Milliseconds since 1970.
    pub end_ms: i64,
    /// How it ended.
    pub status: Status,
    /// The recipe's keys and values; MLflow does not change them later.
    pub parameters: Vec<(String, String)>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The files.
    pub artifacts: Vec<Artifact>,
}

impl Run {
    /// The run's name in MLflow.
    pub fn name(&self) -> String {
        format!("{} seed {}", self.arm, self.seed)
    }

    /// The tags by which a later export finds the run.
    pub fn tags(&self) -> [(&'static str, String); 3] {
        [
            ("kiln.arm", self.arm.clone()),
            ("kiln.seed", self.seed.to_string()),
            (STAGE_TAG, self.stage.clone()),
        ]
    }
}

/// The tag that runs are searched by.
pub(super) const STAGE_TAG: &str = "kiln.stage";
