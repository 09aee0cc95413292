//! Parameters chosen by parts of their names.

use std::fmt;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    prelude::*,
};
use masformer_core::module_path::ModulePath;
use serde::{Deserialize, Serialize};

/// Names of parts of a model, each one or more neighbouring parts of a parameter's path: `embeddings` or `layers.0` or
/// `query`. The kind of a layer's part, such as `Attention` in `mixer.Attention.query`, is no part of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names(Vec<String>);

/// The names with commas between them.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

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

    /// Each name alone.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.0.iter().map(|name| Self(vec![name.clone()]))
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
    pub fn ids<M: Module>(&self, model: &M) -> Result<Vec<ParamId>, UnknownName> {
        self.find(model, |_| true)
    }

    /// The weights of linear layers of a model that are in one of these parts.
    ///
    /// # Errors
    ///
    /// If no linear layer has one of the names.
    pub fn linear_weights<M: Module>(&self, model: &M) -> Result<Vec<ParamId>, UnknownName> {
        self.find(model, ModulePath::is_linear_weight)
    }

    fn find<M: Module>(
        &self,
        model: &M,
        counts: fn(&ModulePath) -> bool,
    ) -> Result<Vec<ParamId>, UnknownName> {
        let mut paths = Paths {
            path: ModulePath::default(),
            counts,
            all: vec![],
        };
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
        Ok(ids)
    }
}

/// The paths of all parameters that count.
struct Paths {
    path: ModulePath,
    counts: fn(&ModulePath) -> bool,
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
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if (self.counts)(&self.path) {
            self.all.push((self.path.parts().to_vec(), param.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamGroup;

    use super::*;
    use crate::toy::{Toy, serial};

    fn frozen(names: &[&str]) -> Result<Vec<bool>, UnknownName> {
        struct Trains(Vec<bool>);
        impl ModuleVisitor for Trains {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.push(!param.is_require_grad());
            }
        }
        let _turn = serial();
        let toy = Toy::new(2, 3, 0.0).valid().train();
        let group = ParamGroup::from_ids(Names::new(names.iter().copied()).ids(&toy)?);
        let mut found = Trains(vec![]);
        toy.freeze_group(group).visit(&mut found);
        Ok(found.0)
    }

    #[test]
    fn parts_are_found_by_neighbouring_names() {
        // Two layers of two linear layers and a normalisation, and the head, all with two parameters.
        let some = |range: std::ops::Range<usize>| (0..14).map(|i| range.contains(&i)).collect();
        let expected: [(&[&str], Vec<bool>); 4] = [
            (&["layers.1"], some(6..12)),
            (&["head"], some(12..14)),
            (&["layers", "head"], some(0..14)),
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
            "no parameter is in `layer.0`; this model has layers, inner, weight, bias, outer, norm, gamma, beta, head"
        );
    }
}
