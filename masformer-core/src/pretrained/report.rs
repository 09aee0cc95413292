//! What happened to each weight when a checkpoint was loaded.

use std::fmt;

/// How a checkpoint and a model fitted together; names are those of the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Weights that the checkpoint lacks and that may be newly initialised.
    pub missing: Vec<String>,
    /// Weights that the checkpoint has in another shape and that may be newly initialised.
    pub mismatched: Vec<Mismatch>,
    /// Tensors of the checkpoint that the model has no place for.
    pub unexpected: Vec<String>,
    /// What wrappers of `PyTorch` modules put into the names, which was left out of them: `module.` or
    /// `_orig_mod.`.
    pub wrappers: Vec<&'static str>,
}

/// A tensor whose shape is not the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The name in the checkpoint.
    pub name: String,
    /// The shape in the checkpoint.
    pub found: Vec<usize>,
    /// The shape in the model.
    pub expected: Vec<usize>,
}

impl LoadReport {
    /// The newly initialised weights, by their names in the checkpoint.
    pub fn anew(&self) -> Vec<String> {
        let mismatched = self.mismatched.iter().map(|mismatch| &mismatch.name);
        self.missing.iter().chain(mismatched).cloned().collect()
    }

    /// Whether every weight of the model came from the checkpoint by its own name and none was left over.
    pub fn is_exact(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![];
        if !self.wrappers.is_empty() {
            let names = self.wrappers.join(", ");
            lines.push(format!("left out of the names in the checkpoint: {names}"));
        }
        if !self.missing.is_empty() {
            let names = self.missing.join(", ");
            lines.push(format!("not in the checkpoint, newly initialised: {names}"));
        }
        lines.extend(self.mismatched.iter().map(|mismatch| {
            format!(
                "of another shape, newly initialised: {} is {:?}, the model needs {:?}",
                mismatch.name, mismatch.found, mismatch.expected
            )
        }));
        if !self.unexpected.is_empty() {
            let names = self.unexpected.join(", ");
            lines.push(format!("in the checkpoint, not used: {names}"));
        }
        if lines.is_empty() {
            lines.push("every weight comes from the checkpoint".to_owned());
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_line_for_each_finding() {
        let report = LoadReport {
            missing: vec!["classifier.bias".to_owned()],
            mismatched: vec![Mismatch {
                name: "classifier.weight".to_owned(),
                found: vec![3, 8],
                expected: vec![2, 8],
            }],
            unexpected: vec!["cls.predictions.bias".to_owned()],
            wrappers: vec!["_orig_mod.", "module."],
        };
        assert_eq!(
            report.to_string(),
            "left out of the names in the checkpoint: _orig_mod., module.\n\
             not in the checkpoint, newly initialised: classifier.bias\n\
             of another shape, newly initialised: classifier.weight is [3, 8], the model needs [2, 8]\n\
             in the checkpoint, not used: cls.predictions.bias"
        );
        assert_eq!(
            LoadReport::default().to_string(),
            "every weight comes from the checkpoint"
        );
    }
}
