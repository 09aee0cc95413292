//! Weights that are no plain matrices, in files.
//!
//! `config.json` names their forms, `"kiln": {"weights": ["losparse"]}`. A layer `NAME` whose weight is a low rank and some rows
//! ([`LowRankRows`]) has these tensors, as `PyTorch` stores matrices where the architecture does:
//!
//! | tensor | shape |
//! |---|---|
//! | `NAME.right.weight` | `[r, D]` |
//! | `NAME.left.weight` | `[F, r]` |
//! | `NAME.sparse.weight` | `[K, D]` |
//! | `NAME.sparse.rows` | `[K]` int32, the outputs that the rows belong to, ascending |
//! | `NAME.bias` | `[F]` |
//!
//! Where several layers share a name, a number follows it in all of these but the bias, `attn.c_attn.0.left.weight`; and a plain
//! weight beside them has a tensor of its own, `attn.c_attn.1.weight`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId, Reparameterization, Reparameterizer},
    prelude::*,
    tensor::Shape,
};

use super::{KILN, Keys, Layout, Names};
use crate::{
    file::FileError,
    linear::{self, LowRankRows},
    module_path::ModulePath,
};

/// The forms that folders keep.
const KNOWN: [&str; 1] = [LowRankRows::NAME];

/// What the names of a layer's tensors end in, in files and in the module.
const PARTS: [(&str, &str); 4] = [
    (".right.weight", ".weight.losparse.right.weight"),
    (".left.weight", ".weight.losparse.left.weight"),
    (".sparse.rows", ".weight.losparse.rows"),
    (".sparse.weight", WEIGHT),
];

const WEIGHT: &str = ".weight";
/// What follows the name of a weight in that of its rows.
const ROWS: &str = ".losparse.rows";
const RIGHT: &str = ".losparse.right.weight";
const LEFT: &str = ".losparse.left.weight";

/// Checks the forms that a configuration names.
///
/// # Errors
///
/// If one of them is unknown.
pub fn check_weight_forms(keys: Keys<'_>, forms: &[String]) -> Result<(), FileError> {
    match forms.iter().find(|form| !KNOWN.contains(&form.as_str())) {
        Some(form) => {
            let known = KNOWN.join(", ");
            Err(keys.wrong(KILN, format!("`weights` of {known}, not `{form}`")))
        }
        None => Ok(()),
    }
}

/// The forms of a model's weights that its folder keeps.
pub fn kept_weight_forms<M: Module>(model: &M) -> Vec<String> {
    let mut forms = linear::forms(model);
    forms.retain(|form| KNOWN.contains(&form.as_str()));
    forms.into_iter().collect()
}

/// The module's name of a tensor of a form, or of a plain weight whose name has a number; `None` for other tensors.
pub(super) fn in_model(names: &Names, file: &str) -> Option<String> {
    let mut parts = PARTS.iter();
    let part = parts.find_map(|(in_file, part)| Some((file.strip_suffix(in_file)?, *part)));
    let has_form = part.is_some();
    let (layer, part) = part.or_else(|| Some((file.strip_suffix(WEIGHT)?, WEIGHT)))?;
    let weights = |layer: &str| names.in_model(&format!("{layer}{WEIGHT}"));
    let numbered = layer.rsplit_once('.').and_then(|(layer, number)| {
        let sharing = weights(layer);
        let is_shared = sharing.len() > 1;
        let number: usize = number.parse().ok()?;
        sharing.into_iter().nth(number).filter(|_| is_shared)
    });
    let plain = || weights(layer).into_iter().next().filter(|_| has_form);
    let weight = numbered.or_else(plain)?;
    Some(format!("{}{part}", weight.strip_suffix(WEIGHT)?))
}

/// The weights of a model whose form folders keep.
#[derive(Debug, Default)]
pub(super) struct Formed {
    /// Their names, with the outputs that are known.
    weights: BTreeMap<String, usize>,
    /// Those that only the files have in a form.
    plain: BTreeSet<String>,
}

impl Formed {
    /// The weights that have a form, in a module with tensors of these names.
    pub(super) fn of_tensors<'a>(tensors: impl Iterator<Item = &'a str>) -> Self {
        let weights = tensors.filter_map(|name| name.strip_suffix(ROWS));
        Self {
            weights: weights.map(|name| (name.to_owned(), 0)).collect(),
            plain: BTreeSet::new(),
        }
    }

    /// Gives the weights of a model the forms that files have, whose numbers are then loaded; `shape` is that of a tensor in
    /// the files, by its name in the module.
    ///
    /// A weight that files have with other outputs, and that may be newly initialised then, stays plain.
    pub(super) fn attach<M: Module>(
        model: &mut M,
        layout: &impl Layout,
        shape: impl Fn(&str) -> Option<Vec<usize>>,
    ) -> Self {
        let mut found = Linears::default();
        model.visit(&mut found);
        let mut attach = Attach::default();
        let mut formed = Self::default();
        let of_files = |weight: &str, part: &str| {
            let mut shape = shape(&format!("{weight}{part}"))?;
            if !layout.is_transposed() {
                shape.reverse();
            }
            Some(shape)
        };
        for (weight, id, [inputs, outputs]) in found.weights {
            let Some(rows) = of_files(&weight, ROWS) else {
                continue;
            };
            // As PyTorch stores them, outputs come first. What is missing is reported by loading.
            let first = |part: &str| of_files(&weight, part)?.first().copied();
            if layout.may_differ(&weight) && first(LEFT) != Some(outputs) {
                formed.plain.insert(weight);
                continue;
            }
            let sizes = Sizes {
                inputs,
                outputs,
                rank: first(RIGHT).unwrap_or(1),
                rows: rows.first().copied().unwrap_or(1),
            };
            attach.0.insert(id, sizes);
            formed.weights.insert(weight, outputs);
        }
        if !formed.weights.is_empty() {
            *model = model.clone().apply_reparameterization(attach);
        }
        formed
    }

    /// Whether a tensor of the files is the base of a weight that has no form in the model.
    pub(super) fn is_left_out(&self, module: &str) -> bool {
        self.plain.contains(module)
    }

    /// The name in a file of a tensor of the module, if it belongs to one of these weights, or to a plain one that shares its
    /// name with one.
    pub(super) fn in_file(&self, names: &Names, module: &str) -> Option<String> {
        let mut parts = PARTS.iter();
        let formed = parts.find_map(|(in_file, part)| {
            let weight = format!("{}{WEIGHT}", module.strip_suffix(part)?);
            self.weights
                .contains_key(&weight)
                .then_some((weight, *in_file))
        });
        let has_form = formed.is_some();
        let (weight, part) = formed.unwrap_or_else(|| (module.to_owned(), WEIGHT));
        let file = names.in_file(&weight);
        let sharing = names.in_model(&file);
        let is_shared = sharing.len() > 1;
        let mut others = sharing.iter();
        let is_beside = is_shared && others.any(|other| self.weights.contains_key(other));
        let is_own = has_form || (is_beside && module.ends_with(WEIGHT));
        if !is_own {
            return None;
        }
        let file = file.strip_suffix(WEIGHT).unwrap_or(&file);
        let number = sharing.iter().position(|name| *name == weight);
        Some(match number.filter(|_| is_shared) {
            Some(number) => format!("{file}.{number}{part}"),
            None => format!("{file}{part}"),
        })
    }

    /// Checks the rows that have been loaded.
    ///
    /// # Errors
    ///
    /// The module's name of those that cannot be, and what is wrong.
    pub(super) fn check<M: Module>(&self, model: &M) -> Result<(), (String, String)> {
        let mut rows = Rows {
            path: ModulePath::default(),
            weights: &self.weights,
            wrong: None,
        };
        model.visit(&mut rows);
        match rows.wrong {
            Some((name, outputs)) => Err((
                name,
                format!("its rows must rise and be below the layer's {outputs} outputs"),
            )),
            None => Ok(()),
        }
    }
}

/// The numbers of inputs, outputs, columns of the factor and rows.
struct Sizes {
    inputs: usize,
    outputs: usize,
    rank: usize,
    rows: usize,
}

#[derive(Default)]
struct Attach(HashMap<ParamId, Sizes>);

impl Reparameterizer for Attach {
    type Reparam = LowRankRows;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRankRows>) {
        let Some(sizes) = self.0.get(&param.id) else {
            return (param, None);
        };
        let device = param.lazy_device();
        let form = LowRankRows::new(
            Tensor::zeros([sizes.inputs, sizes.rank], &device),
            Tensor::zeros([sizes.rank, sizes.outputs], &device),
            Tensor::zeros([sizes.rows], &device),
        );
        let shape: Shape = vec![sizes.inputs, sizes.rows].into();
        let base = Param::from_tensor(Tensor::zeros(shape, &device));
        (base, Some(form))
    }
}

/// Finds the weights of linear layers.
#[derive(Default)]
struct Linears {
    path: ModulePath,
    weights: Vec<(String, ParamId, [usize; 2])>,
}

impl ModuleVisitor for Linears {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 2 && self.path.is_linear_weight() {
            let shape = param.lazy_shape();
            let sizes = [shape[0], shape[1]];
            self.weights.push((self.path.to_string(), param.id, sizes));
        }
    }
}

/// Finds rows that are out of range or out of order.
struct Rows<'a> {
    path: ModulePath,
    weights: &'a BTreeMap<String, usize>,
    wrong: Option<(String, usize)>,
}

impl ModuleVisitor for Rows<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {}

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let name = self.path.to_string();
        let outputs = name
            .strip_suffix(ROWS)
            .and_then(|name| self.weights.get(name));
        let Some(&outputs) = outputs else {
            return;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "what a file says is checked once, when it is loaded"
        )]
        let rows: Vec<i64> = param.val().into_data().iter().collect();
        let all = 0..outputs as i64;
        let is_right =
            rows.is_sorted_by(|one, next| one < next) && rows.iter().all(|row| all.contains(row));
        if !is_right {
            self.wrong.get_or_insert((name, outputs));
        }
    }
}
