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
//! Where several layers share a name, a number follows it in all of these but the bias: `attn.c_attn.0.left.weight`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId, Reparameterization, Reparameterizer},
    prelude::*,
    tensor::Shape,
};

use super::{KILN, Keys, Names};
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

/// The module's name of a tensor of a form; `None` for other tensors.
pub(super) fn in_model(names: &Names, file: &str) -> Option<String> {
    let (layer, part) = PARTS
        .iter()
        .find_map(|(in_file, part)| Some((file.strip_suffix(in_file)?, part)))?;
    let weights = |layer: &str| names.in_model(&format!("{layer}{WEIGHT}"));
    let numbered = layer.rsplit_once('.').and_then(|(layer, number)| {
        let sharing = weights(layer);
        let is_shared = sharing.len() > 1;
        let number: usize = number.parse().ok()?;
        sharing.into_iter().nth(number).filter(|_| is_shared)
    });
    let weight = numbered.or_else(|| weights(layer).into_iter().next())?;
    Some(format!("{}{part}", weight.strip_suffix(WEIGHT)?))
}

/// The name in a file of a tensor of the module, if it belongs to one of these `weights` with a form.
pub(super) fn in_file(names: &Names, module: &str, weights: &BTreeSet<String>) -> Option<String> {
    let mut parts = PARTS.iter();
    let (layer, part) = parts.find_map(|(in_file, part)| {
        let layer = module.strip_suffix(part)?;
        let has_form = weights.contains(&format!("{layer}{WEIGHT}"));
        has_form.then_some((layer, in_file))
    })?;
    let weight = format!("{layer}{WEIGHT}");
    let file = names.in_file(&weight);
    let sharing = names.in_model(&file);
    let file = file.strip_suffix(WEIGHT).unwrap_or(&file);
    let number = sharing.iter().position(|name| *name == weight);
    Some(match number {
        Some(number) if sharing.len() > 1 => format!("{file}.{number}{part}"),
        _ => format!("{file}{part}"),
    })
}

/// The weights whose form folders keep, of a module with tensors of these names.
pub(super) fn formed<'a>(tensors: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let weights = tensors.filter_map(|name| name.strip_suffix(ROWS));
    weights.map(str::to_owned).collect()
}

/// Gives the weights of a model the forms that files have, whose numbers are then loaded; `shape` is that of a tensor in the
/// files, by its name in the module. The names of these weights, with their outputs.
pub(super) fn attach<M: Module>(
    model: &mut M,
    shape: impl Fn(&str) -> Option<Vec<usize>>,
    is_transposed: bool,
) -> BTreeMap<String, usize> {
    let mut found = Linears::default();
    model.visit(&mut found);
    let mut attach = Attach::default();
    let mut weights = BTreeMap::new();
    for (weight, id, [inputs, outputs]) in found.weights {
        let Some(rows) = shape(&format!("{weight}{ROWS}")) else {
            continue;
        };
        let right = shape(&format!("{weight}{RIGHT}")).unwrap_or_default();
        let rank = if is_transposed {
            right.first()
        } else {
            right.last()
        };
        attach.0.insert(
            id,
            Sizes {
                inputs,
                outputs,
                // What is missing is missed when numbers are loaded.
                rank: rank.copied().unwrap_or(1),
                rows: rows.first().copied().unwrap_or(1),
            },
        );
        weights.insert(weight, outputs);
    }
    if !weights.is_empty() {
        *model = model.clone().apply_reparameterization(attach);
    }
    weights
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

/// Finds rows that are none, or in another order.
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

/// Checks the rows that have been loaded of these weights with their outputs.
///
/// # Errors
///
/// The module's name of those that cannot be, and what is wrong.
pub(super) fn check_rows<M: Module>(
    model: &M,
    weights: &BTreeMap<String, usize>,
) -> Result<(), (String, String)> {
    let mut rows = Rows {
        path: ModulePath::default(),
        weights,
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
