//! Weights between a folder and a module.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use burn::{
    prelude::*,
    store::{
        ApplyError, ApplyResult, BurnToPyTorchAdapter, FloatCastAdapter, IdentityAdapter,
        ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, burn_pack,
    },
    tensor::{Bytes, Shape},
};

use super::{
    error::FolderError,
    names::Names,
    report::{LoadReport, Mismatch},
    weight_files::{self, StoredTensor, StoredTensors},
    weight_forms::{self, Formed},
};
use crate::finite::first_not_finite;

/// How the tensors of a file and the weights of a module correspond.
///
/// Modules that share a name in the file lie in one tensor of it, side by side along the last
/// dimension.
pub trait Layout {
    /// What the weights that a file must have belong to, for messages.
    const PART: &'static str;

    /// Their names.
    fn names(&self) -> &Names;

    /// Whether linear weights are `[out, in]` in files, as in `torch.nn.Linear`;
    /// ours are `[in, out]`.
    fn is_transposed(&self) -> bool {
        true
    }

    /// Whether a matrix of the module is an embedding, which has one shape everywhere.
    fn is_embedding(&self, module: &str) -> bool;

    /// Whether a tensor of a file is a constant that the module makes itself.
    fn is_constant(&self, file: &str) -> bool;

    /// Whether a tensor of the module belongs into a file of weights.
    fn is_weight(&self, _module: &str) -> bool {
        true
    }

    /// Whether a weight of the module may be newly initialised where a file lacks it.
    fn is_optional(&self, _module: &str) -> bool {
        false
    }

    /// Whether a weight of the module may be newly initialised where a file has it in another shape.
    fn may_differ(&self, _module: &str) -> bool {
        false
    }
}

/// The tensors of a folder under the names of a module, not read yet.
pub struct Checkpoint<L> {
    dir: PathBuf,
    layout: L,
    tensors: Vec<burn_pack::Tensor>,
    origins: HashMap<String, Origin>,
    wrappers: Vec<&'static str>,
}

/// Where a tensor comes from.
struct Origin {
    path: PathBuf,
    name: String,
    shape: Vec<usize>,
}

impl Origin {
    fn unusable(&self, problem: String) -> FolderError {
        FolderError::Tensor {
            path: self.path.clone(),
            tensor: self.name.clone(),
            problem,
        }
    }
}

impl<L: Layout> Checkpoint<L> {
    /// Finds the weights of a folder: `model.safetensors` or `pytorch_model.bin`, or the index of
    /// their parts.
    ///
    /// # Errors
    ///
    /// If there are none, or a file of them is damaged.
    pub fn open(dir: &Path, layout: L) -> Result<Self, FolderError> {
        let StoredTensors {
            tensors: stored,
            wrappers,
        } = weight_files::read(dir)?;
        let mut tensors = vec![];
        let mut origins = HashMap::new();
        for StoredTensor { path, name, tensor } in stored {
            if layout.is_constant(&name) {
                continue;
            }
            let modules = match weight_forms::in_model(layout.names(), &name) {
                Some(module) => vec![module],
                None => layout.names().in_model(&name),
            };
            for (part, module) in modules.iter().enumerate() {
                let origin = Origin {
                    path: path.clone(),
                    name: tensor.name.clone(),
                    shape: tensor.shape.to_vec(),
                };
                origins.insert(module.clone(), origin);
                let mut tensor = columns(&tensor, part, modules.len());
                tensor.name.clone_from(module);
                tensors.push(tensor);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            layout,
            tensors,
            origins,
            wrappers,
        })
    }

    /// Whether there is a tensor for a weight of the module.
    pub fn contains(&self, module: &str) -> bool {
        self.origins.contains_key(module)
    }

    /// The shape in the file of the tensor for a weight of the module.
    pub fn shape(&self, module: &str) -> Option<&[usize]> {
        let origin = self.origins.get(module)?;
        Some(&origin.shape)
    }

    /// Gives a module its weights, in the float type of the device, and says what became of each.
    ///
    /// # Errors
    ///
    /// If a weight is missing or of another shape that may not be, cannot be read, or is not finite.
    pub fn load<M: Module>(
        mut self,
        model: &mut M,
        device: &Device,
    ) -> Result<LoadReport, FolderError> {
        let float = FloatCastAdapter::to(device.settings().float_dtype.into());
        let adapter: Box<dyn ModuleAdapter> = if self.layout.is_transposed() {
            Box::new(PyTorchToBurnAdapter.chain(float))
        } else {
            Box::new(float)
        };
        let shape = |module: &str| self.shape(module).map(<[usize]>::to_vec);
        let formed = Formed::attach(model, &self.layout, shape);
        let mut tensors = std::mem::take(&mut self.tensors);
        tensors.retain(|tensor| !formed.is_left_out(&tensor.name));
        let result = model.apply(tensors, None, Some(adapter), true);
        let report = self.report(result, &formed)?;
        if let Err((module, problem)) = formed.check(model) {
            return Err(self.origins[&module].unusable(problem));
        }
        if let Some((module, value)) = first_not_finite(model, None) {
            let origin = self.origins.get(&module);
            let (path, tensor) = match origin {
                Some(Origin { path, name, .. }) => (path.clone(), name.clone()),
                None => (self.dir.clone(), module),
            };
            return Err(FolderError::NotFinite {
                path,
                tensor,
                value,
            });
        }
        Ok(report)
    }

    /// Says what became of each tensor; `origins` has every name that the store knows.
    fn report(&self, result: ApplyResult, formed: &Formed) -> Result<LoadReport, FolderError> {
        let mut report = LoadReport {
            wrappers: self.wrappers.clone(),
            ..LoadReport::default()
        };
        for error in result.errors {
            match error {
                ApplyError::ShapeMismatch {
                    path: module,
                    expected,
                    ..
                } => {
                    let origin = &self.origins[&module];
                    let mismatch = Mismatch {
                        name: origin.name.clone(),
                        found: origin.shape.clone(),
                        expected: self.shape_in_file(&module, &expected, formed),
                    };
                    if !self.layout.may_differ(&module) {
                        return Err(FolderError::Shape {
                            path: origin.path.clone(),
                            mismatch,
                        });
                    }
                    report.mismatched.push(mismatch);
                }
                ApplyError::DTypeMismatch {
                    path,
                    found,
                    expected,
                } => {
                    let kind = if expected.is_float() {
                        "floats"
                    } else {
                        "whole numbers"
                    };
                    let problem = format!("it holds {found:?}, not {kind}");
                    return Err(self.origins[&path].unusable(problem));
                }
                ApplyError::AdapterError { path, message }
                | ApplyError::LoadError { path, message } => {
                    return Err(self.origins[&path].unusable(message));
                }
            }
        }
        let (optional, needed): (Vec<_>, Vec<_>) = result
            .missing
            .into_iter()
            .map(|(module, _)| module)
            .filter(|module| self.layout.is_weight(module))
            .partition(|module| self.layout.is_optional(module));
        let in_file = |modules: Vec<String>| {
            let names = modules.iter().map(|name| self.name_in_file(name, formed));
            names.collect::<BTreeSet<_>>().into_iter().collect()
        };
        if !needed.is_empty() {
            return Err(FolderError::Missing {
                dir: self.dir.clone(),
                part: L::PART,
                tensors: in_file(needed),
            });
        }
        report.missing = in_file(optional);
        // Modules may share a tensor.
        for module in &result.unused {
            let name = &self.origins[module].name;
            if !report.unexpected.contains(name) {
                report.unexpected.push(name.clone());
            }
        }
        Ok(report)
    }

    /// The name in files of a tensor of the module.
    fn name_in_file(&self, module: &str, formed: &Formed) -> String {
        let names = self.layout.names();
        let name = formed.in_file(names, module);
        name.unwrap_or_else(|| names.in_file(module))
    }

    /// The shape in a file for a shape in the module.
    fn shape_in_file(&self, module: &str, shape: &[usize], formed: &Formed) -> Vec<usize> {
        let mut shape = shape.to_vec();
        let names = self.layout.names();
        // Of the matrices, only the weights of linear layers are transposed.
        let is_linear = module.ends_with(".weight") && !self.layout.is_embedding(module);
        if shape.len() == 2 && self.layout.is_transposed() && is_linear {
            shape.reverse();
        }
        if let Some(last) = shape.last_mut()
            && formed.in_file(names, module).is_none()
        {
            *last *= names.in_model(&names.in_file(module)).len();
        }
        shape
    }
}

/// Writes the weights of a module to `model.safetensors` of a folder, whole or not at all. Weights of a form that folders keep
/// ([`kept_weight_forms`](super::kept_weight_forms)) stay in it; low-rank adapters are merged into the weights that are written.
///
/// # Errors
///
/// If a weight is not finite or cannot be read from its device, or the file cannot be written.
pub fn save_weights<M: Module>(
    dir: &Path,
    model: &M,
    layout: &impl Layout,
) -> Result<(), FolderError> {
    let path = dir.join(weight_files::SAFETENSORS);
    let mut model = model.clone();
    if weight_forms::kept_weight_forms(&model).is_empty() {
        model = model.materialize();
    }
    let adapter: Box<dyn ModuleAdapter> = if layout.is_transposed() {
        Box::new(BurnToPyTorchAdapter)
    } else {
        Box::new(IdentityAdapter)
    };
    let mut tensors: Vec<burn_pack::Tensor> = vec![];
    let mut shared: HashMap<String, Vec<burn_pack::Tensor>> = HashMap::new();
    let collected = model.collect(None, Some(adapter), true);
    let formed = Formed::of_tensors(collected.iter().map(|tensor| tensor.name.as_str()));
    if let Some((module, value)) = first_not_finite(&model, None) {
        let name = formed.in_file(layout.names(), &module);
        return Err(FolderError::Diverged {
            path,
            tensor: name.unwrap_or_else(|| layout.names().in_file(&module)),
            value,
        });
    }
    for mut tensor in collected {
        if !layout.is_weight(&tensor.name) {
            continue;
        }
        if let Some(name) = formed.in_file(layout.names(), &tensor.name) {
            tensor.name = name;
            tensors.push(tensor);
            continue;
        }
        tensor.name = layout.names().in_file(&tensor.name);
        if layout.names().in_model(&tensor.name).len() > 1 {
            shared.entry(tensor.name.clone()).or_default().push(tensor);
        } else {
            tensors.push(tensor);
        }
    }
    tensors.extend(shared.into_iter().map(|(name, parts)| joined(name, parts)));
    weight_files::write(&path, tensors)
}

/// One of `count` equal parts of a tensor along its last dimension; the whole tensor where it has
/// no such parts, which then is of another shape than the module's.
fn columns(tensor: &burn_pack::Tensor, part: usize, count: usize) -> burn_pack::Tensor {
    let mut shape = tensor.shape.to_vec();
    let Some(last) = shape.last_mut().filter(|last| last.is_multiple_of(count)) else {
        return tensor.clone();
    };
    *last /= count;
    let width = *last * tensor.dtype.size();
    let byte_len = shape.iter().product::<usize>() * tensor.dtype.size();
    let (whole, dtype) = (tensor.clone(), tensor.dtype);
    let read = move || {
        let bytes = whole.to_bytes()?;
        let rows = bytes.chunks_exact((width * count).max(1));
        let cut = rows.flat_map(|row| &row[width * part..width * (part + 1)]);
        Ok(Bytes::from_bytes_vec(cut.copied().collect()))
    };
    let name = tensor.name.clone();
    burn_pack::Tensor::deferred(name, dtype, Shape::from(shape), None, byte_len, read)
}

/// Tensors of one shape, side by side along their last dimension: the reverse of [`columns`].
fn joined(name: String, parts: Vec<burn_pack::Tensor>) -> burn_pack::Tensor {
    let mut shape = parts[0].shape.to_vec();
    let dtype = parts[0].dtype;
    let width = shape.last().map_or(1, |last| last * dtype.size());
    if let Some(last) = shape.last_mut() {
        *last *= parts.len();
    }
    let byte_len = parts.iter().map(burn_pack::Tensor::byte_len).sum();
    let read = move || {
        let parts = parts
            .iter()
            .map(burn_pack::Tensor::to_bytes)
            .collect::<Result<Vec<_>, _>>()?;
        let rows = parts[0].len() / width.max(1);
        let row = |row: usize| (row * width)..((row + 1) * width);
        let bytes =
            (0..rows).flat_map(|index| parts.iter().flat_map(move |part| &part[row(index)]));
        Ok(Bytes::from_bytes_vec(bytes.copied().collect()))
    };
    burn_pack::Tensor::deferred(name, dtype, Shape::from(shape), None, byte_len, read)
}
