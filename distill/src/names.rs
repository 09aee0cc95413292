//! Parameters chosen by parts of their names.

use burn::{
    module::{Module, ModuleVisitor, Param, ParamGroup, ParamId},
    prelude::*,
};
use serde::{Deserialize, Serialize};

/// Names of parts of a model, each one or more neighbouring parts of a parameter's path: `embeddings` or `layers.0` or
/// `query`. The kind of a layer's part, such as `Attention` in `mixer.Attention.query`, is no part of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names(Vec<String>);

/// A name that no parameter of a model has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no parameter is in `{name}`; this model has {}", known.join(", "))]
pub struct UnknownName {
    name: String,
    known: Vec<String>,
}

impl Names {
    /// These names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters of a model that are in one of these parts.
    ///
    /// # Errors
    ///
    /// If nothing in the model has one of the names.
    pub fn group<M: Module>(&self, model: &M) -> Result<ParamGroup, UnknownName> {
        let mut paths = Paths::default();
        model.visit(&mut paths);
        let mut ids = vec![];
        for name in &self.0 {
            let wanted: Vec<&str> = name.split('.').collect();
            let chosen = |path: &[String]| path.windows(wanted.len()).any(|part| part == wanted);
            let before = ids.len();
            let all = paths.all.iter();
            ids.extend(all.filter(|(path, _)| chosen(path)).map(|(_, id)| *id));
            if ids.len() == before {
                return Err(UnknownName {
                    name: name.clone(),
                    known: paths.parts(),
                });
            }
        }
        Ok(ParamGroup::from_ids(ids))
    }
}

/// The paths of all parameters.
#[derive(Default)]
struct Paths {
    path: Vec<String>,
    all: Vec<(Vec<String>, ParamId)>,
}

impl Paths {
    /// Every part of a path once, in the order of the model, without numbers.
    fn parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = vec![];
        for part in self.all.iter().flat_map(|(path, _)| path) {
            if part.parse::<usize>().is_err() && !parts.contains(part) {
                parts.push(part.clone());
            }
        }
        parts
    }
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // The arms of an enum are parts of Burn's paths, and begin with a capital.
        let parts = self.path.iter();
        let parts = parts.filter(|part| !part.starts_with(|c: char| c.is_ascii_uppercase()));
        self.all.push((parts.cloned().collect(), param.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;

    fn frozen(names: &[&str]) -> Result<Vec<bool>, UnknownName> {
        struct Trains(Vec<bool>);
        impl ModuleVisitor for Trains {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.push(!param.is_require_grad());
            }
        }
        let toy = Toy::new(2, 3, 0.0);
        let group = Names::new(names.iter().copied()).group(&toy)?;
        let mut found = Trains(vec![]);
        toy.freeze_group(group).visit(&mut found);
        Ok(found.0)
    }

    #[test]
    fn parts_are_found_by_neighbouring_names() {
        // Two layers of two linear layers with biases, and the head.
        let some = |range: std::ops::Range<usize>| (0..10).map(|i| range.contains(&i)).collect();
        let expected: [(&[&str], Vec<bool>); 4] = [
            (&["layers.1"], some(4..8)),
            (&["head"], some(8..10)),
            (&["layers", "head"], some(0..10)),
            (&[], some(0..0)),
        ];
        for (names, expected) in expected {
            assert_eq!(frozen(names).unwrap(), expected, "{names:?}");
        }
        let weights = frozen(&["inner.weight"]).unwrap();
        assert_eq!(weights.iter().filter(|frozen| **frozen).count(), 2);
    }

    #[test]
    fn a_name_that_nothing_has_is_refused_with_those_there_are() {
        let error = frozen(&["head", "layer.0"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "no parameter is in `layer.0`; this model has layers, inner, weight, bias, outer, head"
        );
    }
}
