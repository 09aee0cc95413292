//! How much the loss depends on each hidden neuron of the feed-forward layers.

use std::path::Path;

use burn::{prelude::*, tensor::Gradients};
use masformer_core::{NeuronProbe, Trace};

use crate::{
    file::FileError,
    tensor_file::{self, TensorFile, Values},
};

/// Importance scores that cannot be computed, merged or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImportanceError {
    /// The trace has another number of dense feed-forward layers than the scores.
    #[error(
        "the forward pass kept {found} neuron probes for {expected} layers; \
         keep probes and score a dense model"
    )]
    LayerCount {
        /// Layers of the scores.
        expected: usize,
        /// Probes in the trace.
        found: usize,
    },
    /// A layer has another number of neurons than the scores.
    #[error("layer {layer} has {found} neurons; the scores have {expected}")]
    Width {
        /// The layer.
        layer: usize,
        /// Neurons of the scores.
        expected: usize,
        /// Neurons found.
        found: usize,
    },
    /// The backward pass did not reach a layer's neurons.
    #[error(
        "no gradient reached the neurons of layer {layer}; the loss must depend on every layer"
    )]
    NoGradient {
        /// The layer.
        layer: usize,
    },
    /// A score is infinite or not a number.
    #[error("the importance of neuron {neuron} in layer {layer} is {value}; it must be finite")]
    NotFinite {
        /// The layer.
        layer: usize,
        /// The neuron.
        neuron: usize,
        /// Its score.
        value: f64,
    },
    /// A score is below zero, which no sum of absolute values is.
    #[error(
        "the importance of neuron {neuron} in layer {layer} is {value}; it is a sum of absolute values, \
         so it must be 0 or more"
    )]
    Negative {
        /// The layer.
        layer: usize,
        /// The neuron.
        neuron: usize,
        /// Its score.
        value: f64,
    },
    /// Two sets of scores belong to different models.
    #[error(
        "cannot merge scores of {found_layers} layers of {found_width} neurons into \
         {layers} layers of {width}"
    )]
    Merge {
        /// Layers of the receiving scores.
        layers: usize,
        /// Neurons per layer of the receiving scores.
        width: usize,
        /// Layers of the other scores.
        found_layers: usize,
        /// Neurons per layer of the other scores.
        found_width: usize,
    },
    /// Reading a batch's scores from the device failed.
    #[error("cannot read the scores of a batch from the device: {0}")]
    Device(String),
    /// The scores' file cannot be written or read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Where importance scores come from, for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportanceSource {
    /// The task whose loss was differentiated, for example `sst2`.
    pub task: String,
    /// The part of its data that was scored, for example `train`.
    pub split: String,
}

/// Importance scores of `L` layers of `F` hidden neurons each (`MoEBERT`, arXiv 2204.07675,
/// equation 5).
///
/// Over samples `x`, each with its own loss `L_x`,
///
/// ```text
/// I[l, j] = sum_x | sum_d W1[j, d] dL_x/dW1[j, d] + sum_d W2[d, j] dL_x/dW2[d, j] |
/// ```
///
/// and of a gated layer `sum_d Wg[j, d] dL_x/dWg[j, d]` besides: the sum is over all weights of the neuron.
/// How far the loss would move, to first order, if the neuron were removed from layer `l`. Every
/// score is finite and 0 or more.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// `L` rows of `F` sums; a double holds the sum over millions of samples without drift.
    scores: Vec<Vec<f64>>,
    width: usize,
    samples: usize,
}

impl Importance {
    /// Scores of zero, before the first sample.
    pub fn new(layers: usize, width: usize) -> Self {
        Self {
            scores: vec![vec![0.0; width]; layers],
            width,
            samples: 0,
        }
    }

    /// Scores computed elsewhere, `L` rows of `F`, summed over `samples`.
    ///
    /// # Errors
    ///
    /// If the rows differ in length, or a score is not finite or negative.
    pub fn from_scores(scores: Vec<Vec<f32>>, samples: usize) -> Result<Self, ImportanceError> {
        let width = scores.first().map_or(0, Vec::len);
        let scores: Vec<Vec<f64>> = scores
            .into_iter()
            .map(|row| row.into_iter().map(f64::from).collect())
            .collect();
        for (layer, row) in scores.iter().enumerate() {
            if row.len() != width {
                return Err(ImportanceError::Width {
                    layer,
                    expected: width,
                    found: row.len(),
                });
            }
            check_scores(layer, row)?;
        }
        Ok(Self {
            scores,
            width,
            samples,
        })
    }

    /// Adds the scores of one batch from one backward pass.
    ///
    /// The sum over a neuron's weights equals a sum over the tokens `t` of the sample,
    /// `sum_t (W1 a)_tj dL/dpre_tj + sum_t H_tj dL/dH_tj` (and the same of a gate's `Wg a`), so no weight gradient is
    /// needed and the samples of a batch stay apart. `gradients` must be those of the losses' *sum* over the
    /// batch, of a forward pass in evaluation mode that kept probes. A loss that reads no padded
    /// position gives padded tokens no gradient, and so no part in the scores. If this fails,
    /// nothing was added.
    ///
    /// # Errors
    ///
    /// If the trace does not fit the scores, a layer has no gradient, or a score is not finite.
    pub fn add_batch(
        &mut self,
        trace: &Trace,
        gradients: &Gradients,
    ) -> Result<(), ImportanceError> {
        if trace.probes.len() != self.layers() {
            return Err(ImportanceError::LayerCount {
                expected: self.layers(),
                found: trace.probes.len(),
            });
        }
        let Some(first) = trace.probes.values().next() else {
            return Ok(());
        };
        let [samples, ..] = first.pre.dims();
        let scores = trace
            .probes
            .values()
            .enumerate()
            .map(|(layer, probe)| {
                let [.., found] = probe.pre.dims();
                if found != self.width {
                    let expected = self.width;
                    return Err(ImportanceError::Width {
                        layer,
                        expected,
                        found,
                    });
                }
                batch_scores(probe, gradients).ok_or(ImportanceError::NoGradient { layer })
            })
            .collect::<Result<Vec<_>, _>>()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "one read per batch for all layers; scoring is no training step"
        )]
        let scores = Tensor::stack::<2>(scores, 0)
            .try_into_vec_as::<f32>()
            .map_err(|error| ImportanceError::Device(error.to_string()))?;
        let batch = Self::from_scores(
            scores.chunks(self.width).map(<[f32]>::to_vec).collect(),
            samples,
        )?;
        self.merge(&batch)
    }

    /// Adds the scores of other samples, element by element.
    ///
    /// # Errors
    ///
    /// If the two differ in layers or width.
    pub fn merge(&mut self, other: &Self) -> Result<(), ImportanceError> {
        if (self.layers(), self.width) != (other.layers(), other.width) {
            return Err(ImportanceError::Merge {
                layers: self.layers(),
                width: self.width,
                found_layers: other.layers(),
                found_width: other.width,
            });
        }
        let sums = self.scores.iter_mut().flatten();
        for (sum, score) in sums.zip(other.scores.iter().flatten()) {
            *sum += score;
        }
        self.samples += other.samples;
        Ok(())
    }

    /// The number of layers `L`.
    pub fn layers(&self) -> usize {
        self.scores.len()
    }

    /// The number of neurons per layer, `F`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many samples were summed.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The `F` scores of a layer, as they are saved.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    pub fn scores(&self, layer: usize) -> Vec<f32> {
        self.scores[layer]
            .iter()
            .map(|&score| score as f32)
            .collect()
    }

    /// The neurons of a layer by falling score; of equal ones the lower index comes first.
    ///
    /// Scores are compared in float32, as they are saved, so that a loaded file gives the same
    /// order as the run that wrote it.
    ///
    /// # Panics
    ///
    /// If there is no such layer.
    pub fn order(&self, layer: usize) -> Vec<usize> {
        let scores = self.scores(layer);
        let mut neurons: Vec<usize> = (0..self.width).collect();
        neurons.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        neurons
    }

    /// Writes the scores as safetensors: tensor `importance`, float32 `[L, F]`, and the number of
    /// samples, the task and the split as metadata.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, source: &ImportanceSource) -> Result<(), ImportanceError> {
        let scores = (0..self.layers()).flat_map(|layer| self.scores(layer));
        let tensor = (
            SCORES.to_owned(),
            vec![self.layers(), self.width],
            Values::F32(scores.collect()),
        );
        let metadata = vec![
            (SAMPLES.to_owned(), self.samples.to_string()),
            ("task".to_owned(), source.task.clone()),
            ("split".to_owned(), source.split.clone()),
        ];
        Ok(tensor_file::write(path, &[tensor], metadata)?)
    }

    /// Reads what [`Self::save`] wrote. Files of other tools may lack the metadata.
    ///
    /// # Errors
    ///
    /// If the file is missing, truncated or of another form, or a score is not finite or negative.
    pub fn load(path: &Path) -> Result<(Self, ImportanceSource), ImportanceError> {
        let file = TensorFile::read(path)?;
        let ([layers, width], scores) = file.f32::<2>(SCORES)?;
        if layers == 0 || width == 0 {
            let problem = format!("has shape [{layers}, {width}]; expected layers and neurons");
            return Err(file.entry(SCORES, problem).into());
        }
        let samples = match file.metadata(SAMPLES) {
            Some(text) => text
                .parse()
                .map_err(|_| file.entry(SAMPLES, format!("is `{text}`; expected a count")))?,
            None => 0,
        };
        let source = ImportanceSource {
            task: file.metadata("task").unwrap_or_default().to_owned(),
            split: file.metadata("split").unwrap_or_default().to_owned(),
        };
        let rows = scores.chunks(width).map(<[f32]>::to_vec).collect();
        let scores = Self::from_scores(rows, samples)
            .map_err(|error| file.entry(SCORES, format!("cannot be used: {error}")))?;
        Ok((scores, source))
    }
}

const SCORES: &str = "importance";
const SAMPLES: &str = "samples";

/// A layer's scores `[F]` of one batch, or `None` if no gradient reached it.
fn batch_scores(probe: &NeuronProbe, gradients: &Gradients) -> Option<Tensor<1>> {
    let inner = probe.pre.clone() * probe.pre_grad(gradients)?;
    let outer = probe.hidden.clone() * probe.hidden_grad(gradients)?;
    let mut sum = inner + outer;
    if let Some(gate) = &probe.gate {
        sum = sum + gate.clone() * probe.gate_grad(gradients)?;
    }
    let samples = sum.sum_dim(1).squeeze_dim::<2>(1);
    Some(samples.abs().sum_dim(0).squeeze_dim::<1>(0))
}

/// Refuses scores of a layer that no sum of absolute values can have.
pub(crate) fn check_scores<S: Copy + Into<f64>>(
    layer: usize,
    scores: &[S],
) -> Result<(), ImportanceError> {
    for (neuron, &score) in scores.iter().enumerate() {
        let value = score.into();
        if !value.is_finite() {
            return Err(ImportanceError::NotFinite {
                layer,
                neuron,
                value,
            });
        }
        if value < 0.0 {
            return Err(ImportanceError::Negative {
                layer,
                neuron,
                value,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use burn::{module::Param, nn::Initializer, tensor::Distribution};
    use masformer_core::{
        Flow, Keep, LayerConfig, Layers, Mixer, Mlp, MlpConfig, SpanAttentionConfig, Stack, Tokens,
    };

    use super::*;

    const LAYERS: usize = 2;
    const HIDDEN: usize = 8;
    const WIDTH: usize = 16;
    const LENGTHS: [usize; 3] = [6, 2, 4];

    fn encoder(device: &Device) -> Stack<Mlp> {
        encoder_of(false, device)
    }

    /// A small encoder with biases away from zero; dropout is on unless it is frozen.
    fn encoder_of(gated: bool, device: &Device) -> Stack<Mlp> {
        let initializer = Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        };
        let attention = SpanAttentionConfig::new(HIDDEN, 2).with_initializer(initializer.clone());
        let mlp = MlpConfig::new(HIDDEN, WIDTH)
            .with_gated(gated)
            .with_initializer(initializer);
        let layer = |_| {
            let mut mlp = mlp.init(device);
            for linear in [Some(&mut mlp.inner), mlp.gate.as_mut()]
                .into_iter()
                .flatten()
            {
                let bias = Tensor::random([WIDTH], Distribution::Normal(0.0, 0.5), device);
                linear.bias = Some(Param::from_tensor(bias));
            }
            LayerConfig::new(attention.clone()).init(mlp, device)
        };
        Stack {
            layers: (0..LAYERS).map(layer).collect(),
        }
    }

    /// The loss of each sample `[B]`: it reads the first token alone, as a classifier does.
    fn losses(
        encoder: &Stack<Mlp>,
        input: Tensor<3>,
        padding: Option<Tensor<2, Bool>>,
        trace: &mut Trace,
    ) -> Tensor<1> {
        let [samples, tokens, _] = input.dims();
        let device = input.device();
        let tokens = Tokens::new(Tensor::zeros([samples, tokens], &device), padding);
        let hidden = input;
        let output = encoder
            .forward(Flow::new(hidden, tokens), None, trace)
            .hidden;
        let weights = Tensor::<1, Int>::arange(1..HIDDEN as i64 + 1, &device).float();
        let first = output.slice_dim(1, 0..1);
        let logits = (first * weights.unsqueeze()).sum_dim(2).flatten(0, 2);
        (logits.clone() * logits) / 10.0
    }

    fn probes() -> Trace {
        Trace::new(Keep {
            probes: Layers::All,
            ..Keep::default()
        })
    }

    fn batch(device: &Device) -> (Tensor<3>, Tensor<2, Bool>) {
        let [longest, ..] = LENGTHS;
        let shape = [LENGTHS.len(), longest, HIDDEN];
        let input = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
        let padding = LENGTHS.map(|length| {
            let row: Vec<bool> = (0..longest).map(|token| token >= length).collect();
            Tensor::<1, Bool>::from_data(row.as_slice(), device)
        });
        (input, Tensor::stack(padding.to_vec(), 0))
    }

    fn score(
        encoder: &Stack<Mlp>,
        input: Tensor<3>,
        padding: Option<Tensor<2, Bool>>,
    ) -> Importance {
        let mut importance = Importance::new(LAYERS, WIDTH);
        let mut trace = probes();
        let gradients = losses(encoder, input, padding.clone(), &mut trace)
            .sum()
            .backward();
        importance.add_batch(&trace, &gradients).unwrap();
        importance
    }

    /// The definition: one backward pass per sample, through the gradients of the weights.
    fn score_by_weights(encoder: &Stack<Mlp>, input: Tensor<3>) -> Importance {
        let gradients = losses(encoder, input, None, &mut Trace::nothing())
            .sum()
            .backward();
        let scores = encoder.layers.iter().map(|layer| {
            let dot = |weight: Tensor<2>, dim| {
                let gradient = weight.grad(&gradients).unwrap();
                (weight.inner() * gradient).sum_dim(dim).flatten::<1>(0, 1)
            };
            let mlp = &layer.feed_forward;
            let gate = mlp.gate.iter().map(|gate| dot(gate.weight.val(), 0));
            let sum = dot(mlp.inner.weight.val(), 0) + dot(mlp.outer.weight.val(), 1);
            let sum = gate.fold(sum, |sum, gate| sum + gate);
            sum.abs().try_into_vec_as::<f32>().unwrap()
        });
        Importance::from_scores(scores.collect(), 1).unwrap()
    }

    /// Largest difference of any score, relative to the layer's largest score.
    fn difference(a: &Importance, b: &Importance) -> f32 {
        let layers = (0..LAYERS).map(|layer| (a.scores(layer), b.scores(layer)));
        layers
            .flat_map(|(a, b)| {
                let largest = b.iter().copied().fold(0.0, f32::max);
                let pairs: Vec<_> = a.into_iter().zip(b).collect();
                pairs.into_iter().map(move |(a, b)| (a - b).abs() / largest)
            })
            .fold(0.0, f32::max)
    }

    #[test]
    fn one_backward_of_a_padded_batch_equals_the_definition_sample_by_sample() {
        let device = Device::default().autodiff();
        device.seed(7);
        for gated in [false, true] {
            assert_scores_are_the_definition(encoder_of(gated, &device), &device);
        }
    }

    fn assert_scores_are_the_definition(trained: Stack<Mlp>, device: &Device) {
        let (input, padding) = batch(device);

        let undropped = without_dropout(trained.clone());
        let mut reference = Importance::new(LAYERS, WIDTH);
        for (sample, length) in LENGTHS.into_iter().enumerate() {
            let alone = input.clone().slice([sample..sample + 1, 0..length]);
            reference
                .merge(&score_by_weights(&undropped, alone))
                .unwrap();
        }

        let frozen = trained.freeze();
        let importance = score(&frozen, input, Some(padding));
        assert_eq!(importance.samples(), reference.samples());
        let worst = difference(&importance, &reference);
        assert!(worst < 1e-5, "worst difference {worst:e}");
        let smallest = importance.scores(0).into_iter().fold(f32::MAX, f32::min);
        assert!(smallest > 0.0);
    }

    fn without_dropout(mut encoder: Stack<Mlp>) -> Stack<Mlp> {
        for layer in &mut encoder.layers {
            let Mixer::Attention(attention) = &mut layer.mixer else {
                panic!("every layer is attention");
            };
            attention.dropout.prob = 0.0;
            layer.dropout.prob = 0.0;
            layer.feed_forward.dropout.prob = 0.0;
        }
        encoder
    }

    #[test]
    fn freezing_switches_dropout_off_and_keeps_the_scores() {
        let device = Device::default().autodiff();
        device.seed(3);
        let trained = encoder(&device);
        let (input, _) = batch(&device);
        let again = || score(&trained, input.clone(), None);
        assert!(
            difference(&again(), &again()) > 1e-3,
            "dropout must change the scores"
        );
        let frozen = trained.clone().freeze();
        let quiet = without_dropout(trained.clone());
        let frozen = score(&frozen, input.clone(), None);
        assert!(difference(&frozen, &score(&quiet, input.clone(), None)) < 1e-6);
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_an_error_and_adds_nothing() {
        let device = Device::default().autodiff();
        let frozen = encoder(&device).freeze();
        let (input, _) = batch(&device);
        let mut trace = probes();
        let loss = losses(&frozen, input, None, &mut trace).sum() * f32::NAN;
        let mut importance = Importance::new(LAYERS, WIDTH);
        let error = importance.add_batch(&trace, &loss.backward()).unwrap_err();
        assert!(
            matches!(error, ImportanceError::NotFinite { layer: 0, .. }),
            "{error}"
        );
        assert_eq!(importance, Importance::new(LAYERS, WIDTH));
    }

    #[test]
    fn a_trace_that_does_not_fit_is_an_error() {
        let device = Device::default().autodiff();
        let encoder = encoder(&device);
        let (input, _) = batch(&device);
        let mut trace = probes();
        let gradients = losses(&encoder, input.clone(), None, &mut trace)
            .sum()
            .backward();
        let add = |layers, width, trace: &Trace| {
            let mut importance = Importance::new(layers, width);
            importance.add_batch(trace, &gradients).unwrap_err()
        };
        let error = add(LAYERS, WIDTH, &Trace::nothing());
        assert!(
            matches!(error, ImportanceError::LayerCount { found: 0, .. }),
            "{error}"
        );
        let error = add(LAYERS, WIDTH + 1, &trace);
        assert!(
            matches!(error, ImportanceError::Width { found: WIDTH, .. }),
            "{error}"
        );
        let mut other = probes();
        losses(&encoder, input, None, &mut other);
        let error = add(LAYERS, WIDTH, &other);
        assert!(
            matches!(error, ImportanceError::NoGradient { layer: 0 }),
            "{error}"
        );
    }

    fn small() -> Importance {
        Importance::from_scores(vec![vec![1.0, 3.0, 3.0, 0.5], vec![0.25, 0.0, 8.0, 2.0]], 5)
            .unwrap()
    }

    #[test]
    fn order_falls_and_ties_go_to_the_lower_index() {
        assert_eq!(small().order(0), [1, 2, 0, 3]);
        assert_eq!(small().order(1), [2, 3, 0, 1]);
    }

    #[test]
    fn scores_that_are_not_finite_negative_or_ragged_are_refused() {
        let error = Importance::from_scores(vec![vec![1.0], vec![f32::NAN]], 1).unwrap_err();
        assert!(
            error.to_string().contains("neuron 0 in layer 1 is NaN"),
            "{error}"
        );
        let error = Importance::from_scores(vec![vec![1.0, -0.5]], 1).unwrap_err();
        assert!(
            error.to_string().contains("neuron 1 in layer 0 is -0.5"),
            "{error}"
        );
        let error = Importance::from_scores(vec![vec![1.0], vec![]], 1).unwrap_err();
        assert!(
            error.to_string().contains("layer 1 has 0 neurons"),
            "{error}"
        );
    }

    #[test]
    fn merging_adds_element_by_element() {
        let mut sum = small();
        sum.merge(&small()).unwrap();
        assert_eq!(sum.scores(1), [0.5, 0.0, 16.0, 4.0]);
        assert_eq!(sum.samples(), 10);
        let error = sum.merge(&Importance::new(2, 5)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("2 layers of 5 neurons into 2 layers of 4"),
            "{error}"
        );
        assert_eq!(sum.samples(), 10);
    }

    #[test]
    fn files_round_trip_and_bad_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("importance.safetensors");
        let source = ImportanceSource {
            task: "sst2".to_owned(),
            split: "train".to_owned(),
        };
        small().save(&path, &source).unwrap();
        assert_eq!(Importance::load(&path).unwrap(), (small(), source));

        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = Importance::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("importance.safetensors is not a whole"),
            "{error}"
        );

        let scores = Values::F32(vec![1.0, 2.0, 3.0, -4.0]);
        let scores = ("importance".to_owned(), vec![2, 2], scores);
        tensor_file::write(&path, &[scores], vec![]).unwrap();
        let error = Importance::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("importance.safetensors") && error.contains("neuron 1 in layer 1 is -4"),
            "{error}"
        );

        let scores = ("importance".to_owned(), vec![0, 4], Values::F32(vec![]));
        tensor_file::write(&path, &[scores], vec![]).unwrap();
        let error = Importance::load(&path).unwrap_err().to_string();
        assert!(error.contains("`importance` has shape [0, 4]"), "{error}");
    }
}
