//! Weights of objectives that later trainings begin with.

use std::{collections::BTreeMap, path::Path};

use burn::{module::Param, nn::Linear, prelude::*};
use masformer_core::{
    file::FileError,
    tensor_file::{self, TensorFile, Values},
};

/// What the objectives of a training leave for later ones, by the names of the objectives.
#[derive(Clone, Debug, Default)]
pub struct LeftParts(BTreeMap<String, Vec<Linear>>);

impl LeftParts {
    /// Adds what an objective leaves, if that is anything.
    pub fn insert(&mut self, objective: &str, parts: Vec<Linear>) {
        if !parts.is_empty() {
            self.0.insert(objective.to_owned(), parts);
        }
    }

    /// What an objective left; nothing if it was not there.
    pub fn of(&self, objective: &str) -> &[Linear] {
        self.0.get(objective).map_or(&[], Vec::as_slice)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes a safetensors file. The `k`-th layer of an objective is `NAME.k.weight` `[out, in]`, as `PyTorch` has it,
    /// and `NAME.k.bias` `[out]`.
    ///
    /// # Errors
    ///
    /// If a weight is not finite or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let mut tensors = vec![];
        for (name, parts) in &self.0 {
            for (index, part) in parts.iter().enumerate() {
                let weight = part.weight.val().transpose();
                let shape = weight.dims().to_vec();
                tensors.push((format!("{name}.{index}.weight"), shape, values(weight)));
                if let Some(bias) = &part.bias {
                    let bias = bias.val();
                    let shape = bias.dims().to_vec();
                    tensors.push((format!("{name}.{index}.bias"), shape, values(bias)));
                }
            }
        }
        tensor_file::write(path, &tensors, vec![])
    }

    /// Reads what [`save`](Self::save) wrote; the weights are trainable.
    ///
    /// # Errors
    ///
    /// If the file is missing, truncated or of another form.
    pub fn load(path: &Path, device: &Device) -> Result<Self, FileError> {
        let file = TensorFile::read(path)?;
        let mut left = Self::default();
        for tensor in file.names() {
            let Some((name, "0")) = tensor
                .strip_suffix(".weight")
                .and_then(|part| part.rsplit_once('.'))
            else {
                continue;
            };
            let mut parts = vec![];
            while file.contains(&format!("{name}.{}.weight", parts.len())) {
                parts.push(linear(&file, &format!("{name}.{}", parts.len()), device)?);
            }
            left.insert(name, parts);
        }
        Ok(left)
    }
}

fn linear(file: &TensorFile, name: &str, device: &Device) -> Result<Linear, FileError> {
    let (shape, weight) = file.f32::<2>(&format!("{name}.weight"))?;
    let weight = Tensor::<2>::from_data(TensorData::new(weight, shape), device).transpose();
    let bias = format!("{name}.bias");
    let bias = if file.contains(&bias) {
        let (shape, bias) = file.f32::<1>(&bias)?;
        Some(Param::from_data(TensorData::new(bias, shape), device))
    } else {
        None
    };
    Ok(Linear {
        weight: Param::from_tensor(weight),
        bias,
    })
}

#[expect(clippy::disallowed_methods, reason = "reads weights to save them")]
fn values<const D: usize>(tensor: Tensor<D>) -> Values {
    Values::F32(tensor.into_data().iter().collect())
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;

    use super::*;

    #[test]
    fn what_is_left_comes_back() {
        let _turn = crate::toy::serial();
        let device = Device::flex();
        let layers = |count: usize, bias: bool| -> Vec<Linear> {
            let config = LinearConfig::new(3, 2).with_bias(bias);
            (0..count).map(|_| config.init(&device)).collect()
        };
        let mut left = LeftParts::default();
        left.insert("none", vec![]);
        assert!(left.is_empty());
        left.insert("twelve", layers(12, true));
        left.insert("plain", layers(1, false));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("parts.safetensors");
        left.save(&path).unwrap();
        let found = LeftParts::load(&path, &device).unwrap();
        assert!(found.of("none").is_empty());
        for name in ["twelve", "plain"] {
            assert_eq!(found.of(name).len(), left.of(name).len());
            for (found, left) in found.of(name).iter().zip(left.of(name)) {
                assert_eq!(found.weight.to_data(), left.weight.to_data());
                let bias = |part: &Linear| part.bias.as_ref().map(|bias| bias.to_data());
                assert_eq!(bias(found), bias(left));
                assert!(found.clone().train().weight.is_require_grad());
            }
        }
    }
}
